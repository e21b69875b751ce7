"""Detection by counting: green tokens and letters e, with no language model.

A text's evidence is the number of green tokens among its distinct (context, token) pairs: a pair
that repeats tells nothing new, and counting it again inflates the score (Fernandez et al. 2023,
arXiv 2308.00113). Under the null hypothesis, a text written without the key, the number is binomial
and its tail exact. Kirchenbauer et al. (2023, arXiv 2301.10226) use the normal z-score, which is
reported beside it. Over a corpus the p-values are adjusted after Benjamini and Hochberg (1995).

Attribution compares four models of (green tokens, letters e); :func:`count_log_likelihoods` states
them. Left out: estimates of the key, and detection without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import betaln, gammaln
from scipy.stats import binom
from torch import Tensor

from src.algorithms.watermark.green_lists import GreenList, mix64
from src.algorithms.watermark.schemes import SCHEMES, count_letter_e

#: States of a token in :func:`pair_states`.
UNSCORED, RED, GREEN, REPEATED = -1, 0, 1, 2

#: Tokens whose pairs are sorted at once: few enough for the sort to stay in cache.
_SORT_CHUNK = 65_536

#: Biases that stand for an unknown one, in nats, equally likely beforehand.
BIAS_GRID = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)

#: How concentrated a next-token distribution is, as the parameters of a Beta distribution of its
#: green mass: fitted to SmolLM2's soft texts at bias 1, 2 and 4 (see docs/results.md).
MASS_CONCENTRATION = 2.8
#: Pairs' worth of evidence that one text's own green fraction is spread by.
TEXT_CONCENTRATION = 150.0
#: Share of e among the letters of English, and how closely a text keeps to it.
E_SHARE, E_CONCENTRATION = 0.117, 150.0
#: Broken pairs and edited letters, as rates with their prior weights.
LEAK_RATES = (0.001, 0.01, 0.03, 0.08, 0.2)
LEAK_WEIGHTS = (0.55, 0.25, 0.12, 0.05, 0.03)


@dataclass(frozen=True)
class Counts:
    """Evidence of a corpus, one entry a text.

    Attributes:
        num_scored: Distinct (context, token) pairs.
        num_green: How many of them are green.
        z_score: Normal score of the count; NaN where nothing was scored.
        p_value: Exact binomial tail P(X >= num_green); 1 where nothing was scored.
    """

    num_scored: NDArray[np.int64]
    num_green: NDArray[np.int64]
    z_score: NDArray[np.float64]
    p_value: NDArray[np.float64]


def flatten(token_ids: Sequence[Sequence[int]]) -> tuple[Tensor, NDArray[np.int64]]:
    """Join texts into one tensor of ids and the bounds of each text in it.

    Args:
        token_ids: Ids of each text.

    Returns:
        Shape (num_tokens,), int64, and shape (num_texts + 1,).
    """
    bounds = np.zeros(len(token_ids) + 1, dtype=np.int64)
    np.cumsum([len(ids) for ids in token_ids], out=bounds[1:])
    flat = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in token_ids] or [np.empty(0)])
    return torch.from_numpy(flat.astype(np.int64)), bounds


def count_pairs(ids: Tensor, bounds: NDArray[np.int64], green_list: GreenList) -> Counts:
    """Score every text of a corpus by its distinct pairs.

    Args:
        ids: Shape (num_tokens,), int64: all texts, one after another.
        bounds: Shape (num_texts + 1,): where each begins and ends.
        green_list: Lists of the key to test.

    Returns:
        The counts. The first ``context_width`` tokens of a text have no known context and are
        skipped.

    Raises:
        ValueError: If an id is outside the vocabulary.
    """
    check_ids(ids, green_list)
    num_texts = len(bounds) - 1
    num_scored = np.zeros(num_texts, dtype=np.int64)
    num_green = np.zeros(num_texts, dtype=np.int64)
    most_texts = 1 << (63 - sum(_key_bits(green_list)) - 1)
    start = 0
    while start < num_texts:
        stop = int(np.searchsorted(bounds, bounds[start] + _SORT_CHUNK, side="right")) - 1
        stop = min(max(stop, start + 1), start + most_texts, num_texts)
        part = ids[int(bounds[start]) : int(bounds[stop])]
        numbers = _count_chunk(part, bounds[start : stop + 1] - bounds[start], green_list)
        num_scored[start:stop], num_green[start:stop] = numbers
        start = stop
    return evaluate_counts(num_scored, num_green, green_list.probability)


def _key_bits(green_list: GreenList) -> tuple[int, int]:
    """Bits that tell contexts apart, and tokens, in the number that stands for a pair."""
    bits = int(green_list.vocab_size - 1).bit_length()
    # 36 bits of a hash instead of several ids: a collision loses one pair in 1e10
    return (bits if green_list.context_width == 1 else 36), bits


def _count_chunk(
    ids: Tensor, bounds: NDArray[np.int64], green_list: GreenList
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    width, num_texts = green_list.context_width, len(bounds) - 1
    if len(ids) <= width:
        return np.zeros(num_texts, np.int64), np.zeros(num_texts, np.int64)
    contexts = ids.unfold(0, width, 1)[:-1]
    tokens = ids[width:]
    green = green_list.contains(contexts, tokens).numpy()
    # one sortable number a pair: text, context, token, green. Equal pairs of a text have equal
    # numbers, for green is a function of the pair, so sorting and comparing neighbours counts them
    context_bits, bits = _key_bits(green_list)
    context = contexts[:, 0].numpy()
    if width > 1:
        state = contexts[:, 0]
        for i in range(1, width):
            state = mix64(state) + contexts[:, i]
        context = (mix64(state) & ((1 << context_bits) - 1)).numpy()
    pairs = np.repeat(np.arange(num_texts), np.diff(bounds))[: len(ids) - width]
    for num_bits, part in ((context_bits, context), (bits, tokens.numpy()), (1, green)):
        pairs <<= num_bits
        pairs |= part
    if num_texts > 1:  # contexts must not reach over the end of a text
        ends = (bounds[1:-1, None] - np.arange(1, width + 1)).ravel()
        keep = np.ones(len(pairs), dtype=bool)
        keep[ends[(ends >= 0) & (ends < len(pairs))]] = False
        # a text shorter than the context loses every position that begins in it
        pairs = pairs[keep]
    pairs = torch.from_numpy(pairs).sort().values.numpy()  # by radix: twice as fast as NumPy's
    is_first = np.empty(len(pairs), dtype=bool)
    is_first[:1] = True
    np.not_equal(pairs[1:], pairs[:-1], out=is_first[1:])
    pairs = pairs[is_first]
    text = pairs >> (context_bits + bits + 1)
    edges = np.searchsorted(text, np.arange(num_texts + 1))
    running = np.zeros(len(pairs) + 1, dtype=np.int64)
    np.cumsum(pairs & 1, out=running[1:])
    return np.diff(edges), np.diff(running[edges])


def evaluate_counts(
    num_scored: NDArray[np.int64], num_green: NDArray[np.int64], probability: float
) -> Counts:
    """Turn counts into z-scores and exact p-values.

    Args:
        num_scored: Distinct pairs of each text.
        num_green: Green ones among them.
        probability: Of green for a text that knows nothing of the key.

    Returns:
        The counts with their scores.
    """
    num_scored, num_green = np.asarray(num_scored), np.asarray(num_green)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt(num_scored * probability * (1 - probability))
        z_score = np.where(
            num_scored > 0, (num_green - num_scored * probability) / deviation, np.nan
        )
    p_value = np.where(num_scored > 0, binom.sf(num_green - 1, num_scored, probability), 1.0)
    return Counts(num_scored, num_green, z_score, np.clip(p_value, 0.0, 1.0))


def pair_states(ids: Sequence[int], green_list: GreenList) -> NDArray[np.int8]:
    """Say of each token of one text whether it is green, red, a repetition, or unscored.

    Args:
        ids: The text.
        green_list: Lists of the key.

    Returns:
        Shape (len(ids),): :data:`GREEN` or :data:`RED` at the first occurrence of a pair,
        :data:`REPEATED` at later ones, :data:`UNSCORED` where the context is not known.

    Raises:
        ValueError: If an id is outside the vocabulary.
    """
    width = green_list.context_width
    states = np.full(len(ids), UNSCORED, dtype=np.int8)
    if len(ids) <= width:
        return states
    tensor = torch.as_tensor(ids, dtype=torch.int64)
    check_ids(tensor, green_list)
    windows = tensor.unfold(0, width + 1, 1)
    green = green_list.contains(windows[:, :-1], windows[:, -1]).numpy()
    states[width:] = np.where(green, GREEN, RED)
    _, first = np.unique(windows.numpy(), axis=0, return_index=True)
    is_repeated = np.ones(len(windows), dtype=bool)
    is_repeated[first] = False
    states[width:][is_repeated] = REPEATED
    return states


def check_ids(ids: Tensor, green_list: GreenList) -> None:
    """Refuse ids that the green lists do not know.

    Raises:
        ValueError: If an id is negative or not below the vocabulary size.
    """
    if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= green_list.vocab_size):
        raise ValueError(
            f"the texts have token ids up to {int(ids.max())} and the watermark is for a "
            f"vocabulary of {green_list.vocab_size}: they are of another tokenizer; choose the "
            "backbone whose tokenizer made them, or set watermark.vocab_size."
        )


@dataclass(frozen=True)
class Passage:
    """The most conspicuous window of a text.

    Attributes:
        start: First token.
        stop: One past the last token.
        p_value: Of the largest of all windows: the smallest exact tail times their number
            (Bonferroni), at most 1.
    """

    start: int
    stop: int
    p_value: float


def strongest_passage(
    states: NDArray[np.int8], probability: float, shortest: int = 16
) -> Passage | None:
    """Find a marked passage in a longer text by the maximum over windows.

    Windows hold 16, 32, 64, ... scored pairs and begin every eighth of their length.

    Args:
        states: From :func:`pair_states`.
        probability: Of green under the null hypothesis.
        shortest: Pairs in the shortest window.

    Returns:
        The passage, or None if the text has fewer pairs than the shortest window.

    Note:
        The windowed p-values of the reference implementation leave out that the window was chosen.
        Bonferroni's factor makes this one valid, and conservative, since windows overlap.
    """
    (scored,) = np.nonzero((states == GREEN) | (states == RED))
    if len(scored) < shortest:
        return None
    running = np.concatenate([[0], np.cumsum(states[scored] == GREEN)])
    best, num_windows = (1.1, 0, 0), 0
    length = shortest
    while length <= len(scored):
        starts = np.arange(0, len(scored) - length + 1, max(1, length // 8))
        tails = binom.sf(running[starts + length] - running[starts] - 1, length, probability)
        i = int(np.argmin(tails))
        best = min(best, (float(tails[i]), int(starts[i]), length))
        num_windows += len(starts)
        length *= 2
    tail, start, length = best
    return Passage(
        int(scored[start]), int(scored[start + length - 1]) + 1, min(1.0, tail * num_windows)
    )


def adjust_p_values(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Adjust the p-values of a corpus for the false discovery rate.

    Args:
        p_values: One a text.

    Returns:
        Benjamini and Hochberg's adjusted values: calling marked every text below q keeps the
        expected share of unmarked texts among them at or below q.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return adjusted


@cache
def expected_green(probability: float, bias: float) -> float:
    """Mean share of green tokens in soft text.

    Args:
        probability: Share of green in the vocabulary.
        bias: In nats.

    Returns:
        ``E[G / (G + exp(-bias) (1 - G))]`` with the green mass G of a next-token distribution from
        a Beta distribution of mean ``probability`` (see :data:`MASS_CONCENTRATION`).
    """
    # most of the mass lies near 0 and 1, where language models are certain: integrate in quantiles
    from scipy.stats import beta

    levels = (np.arange(400) + 0.5) / 400
    mass = beta.ppf(
        levels, MASS_CONCENTRATION * probability, MASS_CONCENTRATION * (1 - probability)
    )
    return float(np.mean(mass / (mass + np.exp(-bias) * (1 - mass))))


def count_log_likelihoods(
    counts: Counts,
    num_e: Sequence[int],
    num_letters: Sequence[int],
    probability: float,
    bias: float | None,
) -> NDArray[np.float64]:
    """Log-likelihood of each text's counts under the four schemes.

    Of n pairs g are green, of m letters k are e. Green is binomial with the vocabulary's share
    under ``none`` and ``no_e``; binomial with a small share of broken pairs under ``hard``; and
    beta-binomial around :func:`expected_green` under ``soft``. The letter e is beta-binomial around
    its share in English, and under ``no_e`` binomial with a small share of edits.

    Args:
        counts: Of the corpus.
        num_e: Plain e and E in each text.
        num_letters: Letters in each text.
        probability: Share of green in the vocabulary.
        bias: Of ``soft``; None averages over :data:`BIAS_GRID`.

    Returns:
        Shape (num_texts, 4), in the order of :data:`SCHEMES`, up to a constant a text.
    """
    n, g = counts.num_scored.astype(float), counts.num_green.astype(float)
    m, k = np.asarray(num_letters, dtype=float), np.asarray(num_e, dtype=float)
    rates, weights = np.array(LEAK_RATES), np.log(LEAK_WEIGHTS)
    unmarked = _log_binomial(g, n, probability)
    with_e = _log_beta_binomial(k, m, E_SHARE, E_CONCENTRATION)
    without_e = np.logaddexp.reduce(
        _log_binomial(k[:, None], m[:, None], rates / 4) + weights, axis=1
    )  # an edited token brings an e in about a quarter of its letters' places
    # a broken pair is green by chance
    hard = np.logaddexp.reduce(
        _log_binomial(g[:, None], n[:, None], 1 - rates * (1 - probability)) + weights, axis=1
    )
    biases = BIAS_GRID if bias is None else (bias,)
    soft = np.logaddexp.reduce(
        [
            _log_beta_binomial(g, n, expected_green(probability, b), TEXT_CONCENTRATION)
            for b in biases
        ],
        axis=0,
    ) - np.log(len(biases))
    return np.stack([unmarked + with_e, unmarked + without_e, hard + with_e, soft + with_e], axis=1)


def posterior(log_likelihoods: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn log-likelihoods (num_texts, 4) into probabilities under equal prior odds."""
    log_likelihoods = np.asarray(log_likelihoods)
    return np.exp(log_likelihoods - np.logaddexp.reduce(log_likelihoods, axis=1, keepdims=True))


def assign_with_totals(
    log_probabilities: NDArray[np.float64], totals: Sequence[int]
) -> NDArray[np.int64]:
    """Label texts so that each scheme gets its known total, at the largest joint probability.

    Args:
        log_probabilities: Shape (num_texts, 4).
        totals: Texts of each scheme, in the order of :data:`SCHEMES`.

    Returns:
        Shape (num_texts,): an index into :data:`SCHEMES` for each text.

    Raises:
        ValueError: See :func:`check_totals`.
    """
    check_totals(totals, len(log_probabilities))
    columns = np.repeat(np.arange(len(SCHEMES)), totals)
    finite = np.maximum(log_probabilities, -1e6)
    rows, chosen = linear_sum_assignment(-finite[:, columns])
    labels = np.empty(len(finite), dtype=np.int64)
    labels[rows] = columns[chosen]
    return labels


def check_totals(totals: Sequence[int], num_texts: int) -> None:
    """Check known totals against the number of texts.

    Raises:
        ValueError: If there are not four, one is negative, or they do not sum to ``num_texts``.
    """
    if len(totals) != len(SCHEMES) or any(int(t) != t or t < 0 for t in totals):
        raise ValueError(
            f"counts is {list(totals)}; give four whole numbers, for {', '.join(SCHEMES)}."
        )
    if sum(totals) != num_texts:
        raise ValueError(
            f"counts {list(totals)} sum to {sum(totals)} and there are {num_texts} texts; the "
            "totals must account for every text."
        )


def letter_counts(
    texts: Sequence[str], has_look_alikes: bool = False
) -> tuple[list[int], list[int]]:
    """Count plain e and E (and look-alikes, by choice), and all letters, of each text."""
    return (
        [count_letter_e(text, False, has_look_alikes) for text in texts],
        [sum(map(str.isalpha, text)) for text in texts],
    )


def _log_binomial(k: Any, n: Any, p: Any) -> NDArray[np.float64]:
    choose = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return choose + k * np.log(p) + (n - k) * np.log1p(-p)


def _log_beta_binomial(k: Any, n: Any, mean: float, concentration: float) -> NDArray[np.float64]:
    a, b = mean * concentration, (1 - mean) * concentration
    choose = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return choose + betaln(k + a, n - k + b) - betaln(a, b)
