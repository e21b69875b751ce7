"""Detection by likelihood: the strongest there is when the model that wrote the texts is at hand.

Every scheme tilts the model's next-token distribution p towards a favoured set F by a penalty on
the others (:func:`tilted_log_probs`): none by 0, ``soft`` by its bias away from red, ``hard`` and
``no_e`` by infinity. So the likelihood of a text under each scheme needs three numbers a token: its
own log-probability, and the mass of the green and of the e-less tokens. By the lemma of Neyman and
Pearson no test of the same level has more power; counting ignores that a token which had no green
alternative tells nothing.

Texts that were edited, or whose pairs broke when they were read back, follow a hidden Markov model
(:func:`scheme_log_likelihoods`): each token was replaced with probability rho, nearly always by a
uniform draw, which the model finds odd and so gives away; and a token whose context was replaced
was marked under a context that is gone, so it counts as unmarked. rho is fitted: averaged over a
grid under a prior, text by text, so that no text depends on another.

Left out: the filters top-k and top-p, which only sharpen p.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.algorithms.watermark.detection import BIAS_GRID
from src.algorithms.watermark.green_lists import GreenList
from src.algorithms.watermark.schemes import FORBIDDEN, SCHEMES

#: What stands for unknown edits: (rate of replaced tokens, rate of pairs broken without a trace),
#: with prior weights. The last two are deletions, which leave no odd token behind.
EDIT_RATES = (0.001, 0.01, 0.03, 0.1, 0.2, 0.35, 0.001, 0.001)
BROKEN_RATES = (0.001, 0.001, 0.002, 0.003, 0.005, 0.008, 0.08, 0.2)
EDIT_WEIGHTS = (0.494, 0.2, 0.1, 0.1, 0.06, 0.04, 0.003, 0.003)
#: Share of replacements that the model itself might have written; the others are uniform.
FLUENT_SHARE = 0.02

#: Positions whose logits are reduced at once: 16 of 49,152 take 3 MB and stay in cache.
_POSITIONS = 16
#: Positions that the model sees at once, padding included: 16 texts of 128 tokens.
_BATCH_POSITIONS = 2048


@dataclass(frozen=True)
class TokenStatistics:
    """What the likelihoods of one text need, one entry a scored token.

    Attributes:
        log_prob: Of the token under the unmarked model, in nats.
        log_green: Log of the model's green mass at its position.
        log_red: Log of its red mass.
        log_no_e: Log of its mass without e.
        is_green: Whether the token is green.
        has_e: Whether it holds an e.
    """

    log_prob: NDArray[np.float64]
    log_green: NDArray[np.float64]
    log_red: NDArray[np.float64]
    log_no_e: NDArray[np.float64]
    is_green: NDArray[np.bool_]
    has_e: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.log_prob)


def tilted_log_probs(log_probs: Tensor, is_favoured: Tensor, penalty: float) -> Tensor:
    """Lower what is not favoured and normalise: the next-token distribution of every scheme.

    Args:
        log_probs: Shape (..., vocab_size), normalised, in nats.
        is_favoured: Shape (..., vocab_size), bool.
        penalty: In nats; 0 changes nothing.

    Returns:
        Shape (..., vocab_size), normalised.
    """
    return (log_probs - penalty * (~is_favoured)).log_softmax(dim=-1)


def token_statistics(
    logits: Tensor,
    ids: Tensor,
    contexts: Tensor,
    green_list: GreenList,
    with_e: Tensor,
    unusable: Tensor,
    temperature: float = 1.0,
) -> TokenStatistics:
    """Reduce a model's logits along one text to what the likelihoods need.

    Args:
        logits: Shape (num_tokens, vocab_size): the model's, each before the token it predicts.
        ids: Shape (num_tokens,): those tokens.
        contexts: Shape (num_tokens, context_width): the ids that choose each one's list.
        green_list: Lists of the key.
        with_e: Shape (vocab_size,), bool: tokens that hold an e.
        unusable: Shape (vocab_size,), bool: tokens that no scheme draws; they have no mass.
        temperature: Of sampling.

    Returns:
        One entry a token.
    """
    columns: list[list[Tensor]] = [[] for _ in range(6)]
    without_e = (~with_e).float()
    penalty = torch.zeros(unusable.shape, device=logits.device).masked_fill(unusable, -torch.inf)
    for start in range(0, len(ids), _POSITIONS):
        part = slice(start, start + _POSITIONS)
        picked = ids[part]
        scores = logits[part].float() / temperature
        # a text may hold an id that no scheme draws: it keeps a mass, of its own position only
        own = scores.gather(1, picked[:, None])
        log_probs = (scores + penalty).scatter_(1, picked[:, None], own).log_softmax(dim=1)
        probs = log_probs.exp()
        green = green_list.rows(contexts[part])
        mass = (probs * green).sum(dim=1).double()
        no_e_mass = (probs @ without_e).double()
        tiny = torch.finfo(torch.float32).tiny
        columns[0].append(log_probs.gather(1, picked[:, None])[:, 0].double())
        columns[1].append(mass.clamp(tiny, 1.0).log())
        columns[2].append((probs * ~green).sum(dim=1).double().clamp(tiny, 1.0).log())
        columns[3].append(no_e_mass.clamp(tiny, 1.0).log())
        columns[4].append(green.gather(1, picked[:, None])[:, 0])
        columns[5].append(with_e[picked])
    log_prob, log_green, log_red, log_no_e, is_green, has_e = (
        torch.cat(column).cpu().numpy() if column else np.empty(0) for column in columns
    )
    return TokenStatistics(
        log_prob, log_green, log_red, log_no_e, is_green.astype(bool), has_e.astype(bool)
    )


def model_logits(
    model: Any, texts: Sequence[Sequence[int]], nums_scored: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """Run a causal language model along texts, as many at a time as fit.

    Texts of like length share a batch, padded on the right, where no token of theirs looks: a
    text's logits depend on the others only by the rounding of float32. A text longer than the
    model's context is run alone, in overlapping windows.

    Args:
        model: The model.
        texts: Ids of each prompt and text, none empty.
        nums_scored: How many of the last tokens of each to predict, at most ``len(ids) - 1``.

    Yields:
        The number of a text and its logits, shape (num_scored, vocab_size), each before the token
        that it predicts; shorter texts come first.
    """
    lengths = [len(text) for text in texts]
    limit = getattr(model.config, "max_position_embeddings", None) or max(lengths, default=0)
    order = sorted(range(len(texts)), key=lengths.__getitem__)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and lengths[order[stop]] <= min(
            limit, _BATCH_POSITIONS // (stop + 1 - start)
        ):
            stop += 1
        batch, start = order[start:stop], stop
        if lengths[batch[0]] - 1 > limit:
            yield batch[0], _windowed_logits(model, texts[batch[0]], nums_scored[batch[0]], limit)
            continue
        padded = torch.zeros(len(batch), lengths[batch[-1]], dtype=torch.int64)
        for row, number in zip(padded, batch, strict=True):
            row[: lengths[number]] = torch.as_tensor(texts[number])
        with torch.inference_mode():
            logits = model(input_ids=padded[:, :-1].to(model.device), use_cache=False).logits
        for row, number in zip(logits, batch, strict=True):
            last = lengths[number] - 1
            yield number, row[last - nums_scored[number] : last]


def _windowed_logits(model: Any, ids: Sequence[int], num_scored: int, limit: int) -> Tensor:
    tensor = torch.as_tensor(ids, device=model.device)
    first = len(ids) - num_scored  # position of the first token to predict
    parts: list[Tensor] = []
    start, position = 0, first
    with torch.inference_mode():
        while position < len(ids):
            if len(ids) - 1 - start > limit:
                # what does not fit: each window repeats a quarter of the last as context
                start = max(0, position - limit // 4)
            stop = min(start + limit, len(ids) - 1)
            output = model(input_ids=tensor[None, start:stop], use_cache=False).logits[0]
            parts.append(output[position - 1 - start :])
            position = stop + 1
    return torch.cat(parts)


def scheme_log_likelihoods(
    statistics: TokenStatistics,
    bias: float | None,
    vocab_size: int,
    edit_rate: float | None = None,
    temperature: float = 1.0,
    context_width: int = 1,
) -> NDArray[np.float64]:
    """Log-likelihood of one text under the four schemes.

    Args:
        statistics: Of the text.
        bias: Of ``soft``; None averages over a grid.
        vocab_size: Tokens that a replacement is drawn from.
        edit_rate: Share of replaced tokens, in [0, 1); None averages over a grid.
        temperature: Of sampling: a bias before it acts as ``bias / temperature`` after it.
        context_width: Tokens that choose a list; each of them breaks it when replaced.

    Returns:
        Shape (4,), in the order of ``SCHEMES``, in nats. Equal values for an empty text.

    Raises:
        ValueError: If ``edit_rate`` is outside [0, 1).
    """
    if edit_rate is not None and not 0.0 <= edit_rate < 1.0:
        raise ValueError(f"edit_rate is {edit_rate}; it is the share of replaced tokens: [0, 1).")
    if len(statistics) == 0:
        return np.zeros(len(SCHEMES))
    biases = np.array(BIAS_GRID if bias is None else (bias,)) / temperature
    rates = np.array(EDIT_RATES if edit_rate is None else (edit_rate,))
    broken = np.array(BROKEN_RATES if edit_rate is None else (min(0.001, edit_rate),))
    weights = np.log(EDIT_WEIGHTS if edit_rate is None else (1.0,))
    s = statistics
    # log ratios to the unmarked model, (hypotheses, tokens): none, no_e, hard, then each bias
    tilts = [
        np.zeros(len(s)),
        _tilt(~s.has_e, s.log_no_e, _log1m(s.log_no_e), FORBIDDEN),
        _tilt(s.is_green, s.log_green, s.log_red, FORBIDDEN),
        *(_tilt(s.is_green, s.log_green, s.log_red, b) for b in biases),
    ]
    marked = np.stack(tilts) + s.log_prob
    # what a token was drawn from when its context is gone: red lists no longer bear on it
    orphaned = np.stack([s.log_prob, marked[1], *[s.log_prob] * (len(tilts) - 2)])
    replaced = np.logaddexp(
        np.log(FLUENT_SHARE) + s.log_prob, np.log1p(-FLUENT_SHARE) - np.log(vocab_size)
    )
    joint = _forward(marked, orphaned, replaced, rates, broken, context_width) + weights
    by_tilt = np.logaddexp.reduce(joint, axis=1)
    soft = np.logaddexp.reduce(by_tilt[3:]) - np.log(len(biases))
    return np.array([by_tilt[0], by_tilt[1], by_tilt[2], soft])


def _tilt(
    is_favoured: NDArray[np.bool_],
    log_mass: NDArray[np.float64],
    log_rest: NDArray[np.float64],
    penalty: float,
) -> NDArray[np.floating]:
    """Log-ratio of marked to unmarked probability, for the tilt of :func:`tilted_log_probs`."""
    return -penalty * ~is_favoured - np.logaddexp(log_mass, log_rest - penalty)


def _log1m(log_value: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(-np.expm1(np.minimum(log_value, 0.0)), 1e-300))


def _forward(
    marked: NDArray[np.float64],
    orphaned: NDArray[np.float64],
    replaced: NDArray[np.float64],
    rates: NDArray[np.float64],
    broken_rates: NDArray[np.float64],
    context_width: int,
) -> NDArray[np.float64]:
    """Run the forward algorithm over states "tokens since the last replacement".

    Returns:
        Shape (hypotheses, rates).
    """
    num_hypotheses, num_tokens = marked.shape
    tiny = 1e-300
    log_rate = np.log(np.maximum(rates, tiny))[None, :]
    log_keep = np.log1p(-rates)[None, :]
    log_broken = np.log(np.maximum(broken_rates, tiny))[None, :]
    log_whole = np.log1p(-broken_rates)[None, :]
    # alpha[j]: the last replacement was j tokens ago; j = context_width: the context is whole
    alpha = np.full((context_width + 1, num_hypotheses, len(rates)), -np.inf)
    alpha[context_width] = 0.0
    for t in range(num_tokens):
        whole = np.logaddexp(log_whole + marked[:, t, None], log_broken + orphaned[:, t, None])
        total = np.logaddexp.reduce(alpha, axis=0)
        following = np.empty_like(alpha)
        following[0] = total + log_rate + replaced[t]
        for j in range(1, context_width + 1):
            following[j] = alpha[j - 1] + log_keep + orphaned[:, t, None]
        following[context_width] = np.logaddexp(
            following[context_width], alpha[context_width] + log_keep + whole
        )
        alpha = following
    return np.logaddexp.reduce(alpha, axis=0)
