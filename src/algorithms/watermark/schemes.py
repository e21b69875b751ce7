"""Watermarking schemes as logits processors, and the seeded sampler that follows them.

Three marks of a language model's text: ``no_e``, a text without the letter e (after Perec's
lipogram *La disparition*); ``hard`` and ``soft``, the red lists of Kirchenbauer et al. (2023, arXiv
2301.10226, Algorithms 1 and 2). Each is a callable ``(input_ids, scores) -> scores`` and works in
any ``model.generate(..., logits_processor=LogitsProcessorList([...]))``.

The order is: mark first, on the model's own logits; then temperature, top-k and top-p; then the
draw. The mark comes first so that the filters choose among what the mark allows, and no row is left
without a candidate: ``hard`` and ``no_e`` lower what they forbid by :data:`FORBIDDEN` nats, which
gives it probability zero in every floating-point type while anything else is there, and leaves the
row alone in its order when nothing is (a caller's top-k in front, say).

Left out: schemes that change the draw and not the logits (Aaronson's Gumbel mark, SynthID).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from src.algorithms.watermark.green_lists import GreenList, PackedRows, uniforms

#: The schemes, in the order of the course's numbers 1 to 4.
SCHEMES = ("none", "no_e", "hard", "soft")

#: Nats by which a forbidden logit is lowered: exp(-1e4) is 0 in float64, and 1e4 fits float16.
FORBIDDEN = 1.0e4

#: Letters that a reader may take for an e though Unicode does not decompose them into one.
LOOK_ALIKES = frozenset(
    "\u0435\u0415\u03b5\u0395\u0454\u0404\u0259\u018f\u025b\u0190\u01dd\u018e\u00e6\u00c6\u0153\u0152\u212e\u2130\u212f\u2147\u22ff\ua793\uab32\u0247\u0246\u1d07\u1d08\u0511\u13ac\u2c78\u1d92"
)


def count_letter_e(text: str, is_decomposed: bool = True, has_look_alikes: bool = False) -> int:
    """Count the e that a reader sees in a text.

    Args:
        text: Any string.
        is_decomposed: Whether to count in the compatibility decomposition (NFKD), where accented,
            full-width, circled and mathematical letters are found; else plain e and E only.
        has_look_alikes: Whether letters of :data:`LOOK_ALIKES` (Cyrillic, Greek, ligatures) count.

    Returns:
        The count.
    """
    look_alikes = sum(c in LOOK_ALIKES for c in text) if has_look_alikes else 0
    if is_decomposed and not text.isascii():
        text = unicodedata.normalize("NFKD", text)
    return text.count("e") + text.count("E") + look_alikes


def token_texts(tokenizer: Any, vocab_size: int) -> list[str]:
    """Decode every id on its own.

    Args:
        tokenizer: A Hugging Face tokenizer.
        vocab_size: Number of logits; ids that the tokenizer lacks give "".

    Returns:
        ``vocab_size`` strings; bytes that are no whole character show as U+FFFD.
    """
    known = min(len(tokenizer), vocab_size)
    texts = tokenizer.batch_decode(
        [[token] for token in range(known)], clean_up_tokenization_spaces=False
    )
    return texts + [""] * (vocab_size - known)


def unusable_tokens(tokenizer: Any, vocab_size: int) -> Tensor:
    """Mark the ids that no scheme may generate.

    These are special and added control tokens (an end-of-text would cut the text short), ids of
    padded logits, and ids that decode to nothing.

    Args:
        tokenizer: A Hugging Face tokenizer.
        vocab_size: Number of logits.

    Returns:
        Shape (vocab_size,), bool.
    """
    mask = torch.tensor([not text for text in token_texts(tokenizer, vocab_size)])
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    mask[[i for i in special if i < vocab_size]] = True
    return mask


def tokens_with_e(
    tokenizer: Any, vocab_size: int, is_strict: bool = True, has_look_alikes: bool = False
) -> Tensor:
    """Mark the ids that put an e into the decoded text.

    Args:
        tokenizer: A Hugging Face tokenizer.
        vocab_size: Number of logits.
        is_strict: True to generate: count in the compatibility decomposition, and mark the ids
            that are only part of a character's bytes too, for two of them may compose an e with an
            accent. False to detect: plain e and E.
        has_look_alikes: Whether look-alike letters count (see :func:`count_letter_e`).

    Returns:
        Shape (vocab_size,), bool.
    """
    return torch.tensor(
        [
            count_letter_e(text, is_strict, has_look_alikes) > 0 or (is_strict and "\ufffd" in text)
            for text in token_texts(tokenizer, vocab_size)
        ]
    )


class Ban:
    """Remove tokens from every row: scores of minus infinity.

    Args:
        tokens: Shape (vocab_size,), bool, True for what may not be generated.

    Raises:
        ValueError: If nothing is left.
    """

    def __init__(self, tokens: Tensor) -> None:
        if tokens.all():
            raise ValueError("every token of the vocabulary is banned; choose another tokenizer.")
        self._penalty = torch.zeros(tokens.shape).masked_fill(tokens, -torch.inf)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._penalty.device != scores.device or self._penalty.dtype != scores.dtype:
            self._penalty = self._penalty.to(scores)
        return scores + self._penalty


class NoLetterE:
    """Forbid the tokens that hold an e: the lipogram mark.

    Args:
        tokens: Shape (vocab_size,), bool: :func:`tokens_with_e`.

    Raises:
        ValueError: If every token holds one.
    """

    def __init__(self, tokens: Tensor) -> None:
        if tokens.all():
            raise ValueError("every token of the vocabulary holds an e; no_e cannot write.")
        self._penalty = tokens.float() * -FORBIDDEN

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._penalty.device != scores.device or self._penalty.dtype != scores.dtype:
            self._penalty = self._penalty.to(scores)
        return scores + self._penalty


class SoftRedList:
    """Lower red logits by a bias: ``l_k - bias`` for red k (Algorithm 2).

    Algorithm 2 adds the bias to green logits; after the softmax the two are the same.

    Args:
        rows: Green lists with their cache; share one among processors of a key.
        bias: In nats, at least 0 (the literature's delta; the course's gamma).

    Raises:
        ValueError: If ``bias`` is negative, or (in use) the scores have another vocabulary.
    """

    def __init__(self, rows: PackedRows, bias: float) -> None:
        if bias < 0:
            raise ValueError(
                f"the bias is {bias}; it is subtracted from red logits: give 0 or more."
            )
        self.rows = rows
        self.bias = bias

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        green_list = self.rows.green_list
        if scores.shape[-1] != green_list.vocab_size:
            raise ValueError(
                f"the model has {scores.shape[-1]} logits and the green lists are for "
                f"{green_list.vocab_size}; set watermark.vocab_size to the former."
            )
        if input_ids.shape[1] < green_list.context_width:
            return scores  # nothing before the first token chooses a list
        contexts = input_ids[:, -green_list.context_width :]
        return self.rows.penalty(contexts, self.bias, scores.dtype).to(scores.device) + scores


class HardRedList(SoftRedList):
    """Sample green tokens only (Algorithm 1): the limit of :class:`SoftRedList`.

    Args:
        rows: Green lists with their cache.
    """

    def __init__(self, rows: PackedRows) -> None:
        super().__init__(rows, FORBIDDEN)


def build_scheme(
    scheme: str, green_list: GreenList | PackedRows, bias: float, with_e: Tensor
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Build the logits processor of one scheme.

    Args:
        scheme: One of :data:`SCHEMES`.
        green_list: Lists for ``hard`` and ``soft``.
        bias: For ``soft``, in nats.
        with_e: Shape (vocab_size,), bool, for ``no_e``.

    Returns:
        The processor; None for ``none``.

    Raises:
        ValueError: If there is no such scheme.
    """
    if scheme == "none":
        return None
    if scheme == "no_e":
        return NoLetterE(with_e)
    rows = green_list if isinstance(green_list, PackedRows) else PackedRows(green_list)
    if scheme == "hard":
        return HardRedList(rows)
    if scheme == "soft":
        return SoftRedList(rows, bias)
    raise ValueError(f"there is no scheme {scheme!r}; choose from {', '.join(SCHEMES)}.")


class SeededSampler:
    """Draw the next token of each row, and leave only it: the last logits processor.

    Temperature, top-k and top-p are applied here, after the mark. Each row draws by inverting its
    distribution function at a uniform that depends on (seed, row, step) alone, so a row's text does
    not depend on which rows share its batch. With ``generate(do_sample=False)`` the greedy choice
    then takes the token that was drawn.

    With a tokenizer only round-trip-safe tokens are drawn: a token after which encoding the decoded
    text would not give the same ids is struck out and the draw repeated, which samples the
    distribution given safety. Without this, detection sees other pairs than were generated.

    Args:
        seed: Of the run.
        row_ids: One tuple of integers a row, its identity (prompt and scheme).
        prompt_length: Columns of ``input_ids`` before the first generated token.
        temperature: Divides the marked logits; positive.
        top_k: Candidates to keep by rank; 0 keeps all.
        top_p: Smallest set of candidates whose probability reaches this; 1 keeps all.
        tokenizer: Draw round-trip-safe tokens of this tokenizer only; None for any.

    Attributes:
        nll: Shape (rows, steps) after generation: minus the log-probability of each token under
            the scores given to :meth:`observe`, in nats.

    Raises:
        ValueError: If a sampling parameter is out of range.
    """

    #: Redraws for one token before an unsafe one is accepted.
    MAX_REDRAWS = 40

    def __init__(
        self,
        seed: int,
        row_ids: Sequence[Sequence[int]],
        prompt_length: int,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        tokenizer: Any = None,
    ) -> None:
        check_sampling(temperature, top_k, top_p)
        self._row_ids = [tuple(row) for row in row_ids]
        self._seed = seed
        self._prompt_length = prompt_length
        self._temperature, self._top_k, self._top_p = temperature, top_k, top_p
        self._tokenizer = tokenizer
        self._raw: Tensor | None = None
        self._nll: list[Tensor] = []
        self.num_redraws = 0

    @property
    def nll(self) -> Tensor:
        return torch.stack(self._nll, dim=1)

    def observe(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Remember the unmarked scores; put this in front of the mark to have :attr:`nll`."""
        self._raw = scores
        return scores

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        probabilities = self._probabilities(scores)
        cumulative = probabilities.double().cumsum(dim=1)
        drawn = input_ids[:, self._prompt_length :]
        step = drawn.shape[1]
        points = torch.stack([uniforms(self._seed, *row, step) for row in self._row_ids])
        tokens = _invert(cumulative, points.to(scores.device))
        if self._tokenizer is not None:
            tokens = self._make_safe(drawn, tokens, cumulative, step)
        if self._raw is not None:
            raw = self._raw.float()
            picked = raw.gather(1, tokens[:, None])[:, 0]
            self._nll.append((raw.logsumexp(dim=1) - picked).cpu())
        only = torch.full_like(scores, -torch.inf)
        return only.scatter_(1, tokens[:, None], 0.0)

    def _probabilities(self, scores: Tensor) -> Tensor:
        scores = scores.float()
        if self._temperature != 1.0:
            scores = scores / self._temperature
        if 0 < self._top_k < scores.shape[1]:
            floor = scores.topk(self._top_k, dim=1).values[:, -1:]
            scores = scores.masked_fill(scores < floor, -torch.inf)
        probabilities = scores.softmax(dim=1)
        if self._top_p < 1.0:
            ranked, order = probabilities.sort(dim=1, descending=True, stable=True)
            before = ranked.cumsum(dim=1) - ranked
            ranked = ranked.masked_fill(before >= self._top_p, 0.0)
            probabilities = torch.zeros_like(probabilities).scatter_(1, order, ranked)
        return probabilities

    def _make_safe(self, drawn: Tensor, tokens: Tensor, cumulative: Tensor, step: int) -> Tensor:
        """Redraw the tokens of rows whose text would not be read back as the same ids."""
        first = tokens.tolist()
        chosen = list(first)
        before = drawn.tolist()
        unsafe: dict[int, set[int]] = {}  # of each pending row
        pending = list(range(len(chosen)))
        for redraw in range(1, self.MAX_REDRAWS + 2):
            safe = survives_round_trip(
                self._tokenizer, [[*before[row], chosen[row]] for row in pending]
            )
            for row, is_safe in zip(pending, safe, strict=True):
                if not is_safe:
                    unsafe.setdefault(row, set()).add(chosen[row])
            pending = [row for row, is_safe in zip(pending, safe, strict=True) if not is_safe]
            if not pending or redraw > self.MAX_REDRAWS:
                break
            self.num_redraws += len(pending)
            for row in list(pending):
                points = uniforms(self._seed, *self._row_ids[row], step, redraw, num=16)
                token = _draw_except(cumulative[row], points, unsafe[row])
                if token is None:  # nothing else has any probability: keep the first draw
                    pending.remove(row)
                    chosen[row] = first[row]
                else:
                    chosen[row] = token
            if not pending:
                break
        for row in pending:
            chosen[row] = first[row]
        return torch.tensor(chosen, device=tokens.device)


def survives_round_trip(tokenizer: Any, sequences: Sequence[Sequence[int]]) -> list[bool]:
    """Say which id sequences come back from decoding and encoding.

    Args:
        tokenizer: A Hugging Face tokenizer.
        sequences: Ids of each text.

    Returns:
        One bool a sequence.
    """
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:
        # left by an earlier call with padding=True, it would pad to the longest of this batch
        if fast.padding is not None:
            fast.no_padding()
        texts = fast.decode_batch([list(ids) for ids in sequences], skip_special_tokens=False)
        encoded = fast.encode_batch_fast(texts, add_special_tokens=False)
        return [list(e.ids) == list(ids) for e, ids in zip(encoded, sequences, strict=True)]
    texts = tokenizer.batch_decode(sequences, clean_up_tokenization_spaces=False)
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [list(new) == list(ids) for new, ids in zip(encoded, sequences, strict=True)]


def check_sampling(temperature: float, top_k: int, top_p: float) -> None:
    """Check sampling parameters.

    Raises:
        ValueError: If one is out of range.
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature is {temperature}; it must be positive (0.1 is near greedy).")
    if top_k < 0:
        raise ValueError(f"top_k is {top_k}; give 0 for all candidates, or how many to keep.")
    if not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p is {top_p}; it must lie in (0, 1].")


def _invert(cumulative: Tensor, points: Tensor) -> Tensor:
    """Find each row's token at a uniform: (rows, vocab) running sums, (rows, 1) -> (rows,)."""
    # the total is not exactly 1 in floating point, and a token of probability 0 is never chosen:
    # the first index whose running sum exceeds the point has a positive step
    targets = points * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, targets, right=True)[:, 0]
    # a point that rounds up to the total belongs to the last token with any probability
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())[:, 0]
    return torch.minimum(tokens, last)


def _draw_except(cumulative: Tensor, points: Tensor, excluded: set[int]) -> int | None:
    """Draw one token that is not excluded: by rejection while that works, else by striking out."""
    targets = points.to(cumulative.device) * cumulative[-1]
    last = int(torch.searchsorted(cumulative, cumulative[-1:]))
    for token in torch.searchsorted(cumulative, targets, right=True).tolist():
        if min(token, last) not in excluded:
            return min(token, last)
    steps = cumulative.diff(prepend=cumulative.new_zeros(1))
    steps[list(excluded)] = 0.0
    remaining = steps.cumsum(dim=0)
    if remaining[-1] <= 1e-12:
        return None
    return int(_invert(remaining[None], points[None, :1].to(remaining.device)))
