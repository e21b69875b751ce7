"""Prompting: what a model is shown, how its text is drawn, and what is read from it.

Decides the form of a prompt (an instruction, worked examples, the question), which examples are
shown, how a prompt that is too long is shortened, how text is generated so that neither the batch
nor its order can change it, and how several samples make one answer. Strategies follow Brown et al.
2020 (arXiv 2005.14165, few-shot), Wei et al. 2022 (arXiv 2201.11903, chain of thought), Kojima et
al. 2022 (arXiv 2205.11916, "Let's think step by step"), Zhou et al. 2022 (arXiv 2205.10625,
decomposition), Wang et al. 2022 (arXiv 2203.11171, self-consistency), Gao et al. 2022
(arXiv 2211.10435, program-aided) and Liu et al. 2021 (arXiv 2101.06804, nearest examples).

A strategy is data and not code: ``configs/strategy/NAME.yaml`` becomes a :class:`PromptTemplate`.

Left out on purpose: soft prompts (see ``peft/prefix.py``) and search over prompts.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from itertools import pairwise
from string import Formatter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.algorithms.answers import (
    ExpressionError,
    evaluate_expression,
    extract_answer,
    parse_output,
)

SELECTIONS = ("fixed", "random", "nearest")
READINGS = ("text", "expression")
EXAMPLE_FIELDS = ("answer", "rationale", "equation")

Messages = list[dict[str, str]]
Example = Mapping[str, str]


# ------------------------------------------------------------------------- templates


@dataclass(frozen=True)
class PromptTemplate:
    """A named way of asking.

    The plain prompt is ``instruction``, then each example as ``question + demonstration``, then
    ``question + cue``, joined by ``separator``. With a chat template the instruction and the first
    question are one user turn, every demonstration is a turn of the assistant, and the cue opens
    the assistant's last turn.

    Attributes:
        name: What tables call the strategy.
        question: How a question is put; holds ``{question}``.
        instruction: Said once, before everything; may be empty.
        demonstration: How an example's solution is put; holds at least one of ``{answer}``,
            ``{rationale}``, ``{equation}``. Needed for any ``num_shots`` above 0.
        cue: What the model's answer begins with; may be empty.
        separator: Between the parts of a plain prompt.
        num_shots: Numbers k of examples to try; each is a column of the study.
        selection: ``fixed`` (the first k of the training split), ``random`` (drawn anew for each
            problem by seed) or ``nearest`` (the most similar, the most similar last).
        answer_from: ``text`` reads the answer that the output states, ``expression`` works out the
            expression that it holds.
        max_new_tokens: Longest output, in tokens.
        stop: An output ends before the first of these strings.
        num_samples: Outputs drawn; above 1 their answers are put to the vote.
        temperature: 0 is greedy.

    Raises:
        ValueError: If a placeholder is missing or unknown, or a number is out of range; the message
            names the strategy and the key.
    """

    name: str
    question: str
    instruction: str = ""
    demonstration: str = ""
    cue: str = ""
    separator: str = "\n\n"
    num_shots: tuple[int, ...] = (0,)
    selection: str = "fixed"
    answer_from: str = "text"
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ()
    num_samples: int = 1
    temperature: float = 0.0

    def __post_init__(self) -> None:
        for name in ("num_shots", "stop"):
            value = getattr(self, name)
            listed = (value,) if isinstance(value, (int, str)) else tuple(value)
            object.__setattr__(self, name, listed)
        if "question" not in _placeholders(self._at("question"), self.question):
            raise ValueError(f"{self._at('question')} lacks its placeholder {{question}}.")
        self._require_known("question", {"question"})
        self._require_known("demonstration", set(EXAMPLE_FIELDS))
        if any(k < 0 for k in self.num_shots) or not self.num_shots:
            raise ValueError(
                f"{self._at('num_shots')} is {list(self.num_shots)}, expected numbers of examples "
                "of at least 0."
            )
        shown = _placeholders(self._at("demonstration"), self.demonstration)
        if max(self.num_shots) > 0 and not shown:
            raise ValueError(
                f"{self._at('demonstration')} lacks a placeholder: examples (num_shots="
                f"{list(self.num_shots)}) need one of {{answer}}, {{rationale}}, {{equation}}."
            )
        for name, choices in (("selection", SELECTIONS), ("answer_from", READINGS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{self._at(name)} is {getattr(self, name)!r}, expected one of "
                    f"{', '.join(choices)}."
                )
        if self.max_new_tokens < 1 or self.num_samples < 1 or self.temperature < 0:
            raise ValueError(
                f"strategy {self.name!r}: max_new_tokens and num_samples must be at least 1 and "
                "temperature at least 0."
            )
        if self.num_samples > 1 and self.temperature == 0:
            raise ValueError(
                f"strategy {self.name!r} draws {self.num_samples} samples at temperature 0, which "
                "are all the same; give temperature=0.7."
            )

    @classmethod
    def from_mapping(cls, name: str, settings: Mapping[str, Any]) -> PromptTemplate:
        """Make a template from a configuration.

        Args:
            name: The strategy's name.
            settings: Attributes of this class but ``name``.

        Raises:
            ValueError: If a key is unknown or missing, and as the class says.
        """
        known = [item.name for item in fields(cls) if item.name != "name"]
        if unknown := sorted(set(settings) - set(known)):
            raise ValueError(
                f"strategy {name!r} has the unknown key {unknown[0]!r}, expected some of "
                f"{', '.join(known)}."
            )
        if "question" not in settings:
            raise ValueError(f"strategy {name!r} has no key 'question', which puts {{question}}.")
        return cls(name=name, **settings)

    @property
    def example_field(self) -> str | None:
        """The field that an example must have to be shown: the rarest that is used."""
        used = _placeholders(self.name, self.demonstration)
        return next((name for name in ("rationale", "equation", "answer") if name in used), None)

    def _at(self, key: str) -> str:
        return f"strategy {self.name!r}, key {key!r}"

    def _require_known(self, key: str, known: set[str]) -> None:
        unknown = _placeholders(self._at(key), getattr(self, key)) - known
        if unknown:
            raise ValueError(
                f"{self._at(key)} has the unknown placeholder {{{sorted(unknown)[0]}}}; expected "
                f"{', '.join('{' + name + '}' for name in sorted(known))} (write {{{{ for a brace)."
            )


def _placeholders(where: str, text: str) -> set[str]:
    try:
        return {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise ValueError(f"{where} cannot be read as a template ({error}).") from error


def messages(template: PromptTemplate, question: str, examples: Sequence[Example]) -> Messages:
    """Lay a prompt out as the turns of a conversation, without the cue.

    Args:
        template: The strategy.
        question: The problem to solve.
        examples: Solved problems with ``question`` and the fields that the template shows.

    Returns:
        Turns with ``role`` and ``content``; the last is the user's.
    """
    turns: Messages = []
    for example in examples:
        turns.append({"role": "user", "content": template.question.format(**_text(example))})
        shown = template.demonstration.format(**_text(example))
        turns.append({"role": "assistant", "content": shown.strip()})
    turns.append({"role": "user", "content": template.question.format(question=question)})
    if template.instruction:
        opening = template.instruction + template.separator + turns[0]["content"]
        turns[0] = {"role": "user", "content": opening}
    return turns


def render(
    template: PromptTemplate,
    question: str,
    examples: Sequence[Example] = (),
    chat: Callable[[Messages], str] | None = None,
) -> str:
    """Write a prompt.

    Args:
        template: The strategy.
        question: The problem to solve.
        examples: Solved problems, in the order in which they are shown.
        chat: Applies a tokenizer's chat template and opens the assistant's turn; None for a model
            that has none.

    Returns:
        The text that the model reads.
    """
    if chat is not None:
        return chat(messages(template, question, examples)) + template.cue.lstrip()
    parts = [template.instruction] if template.instruction else []
    for example in examples:
        text = _text(example)
        parts.append(template.question.format(**text) + template.demonstration.format(**text))
    parts.append(template.question.format(question=question) + template.cue)
    return template.separator.join(parts)


def _text(example: Example) -> dict[str, str]:
    return {name: example.get(name) or "" for name in ("question", *EXAMPLE_FIELDS)}


@dataclass(frozen=True)
class FittedPrompt:
    """A prompt that a model can take.

    Attributes:
        text: What the model reads.
        token_ids: The same as tokens.
        num_examples: Examples shown.
        num_dropped: Examples left out because the prompt would have been too long.
    """

    text: str
    token_ids: list[int]
    num_examples: int
    num_dropped: int


def fit_prompt(
    template: PromptTemplate,
    question: str,
    examples: Sequence[Example],
    encode: Callable[[str], Sequence[int]],
    max_tokens: int,
    chat: Callable[[Messages], str] | None = None,
) -> FittedPrompt:
    """Write a prompt of at most ``max_tokens``, leaving out whole examples from the front.

    Args:
        template: The strategy.
        question: The problem to solve; it is never shortened.
        examples: Solved problems; the last stands next to the question and goes last.
        encode: Text to token ids.
        max_tokens: What the model takes.
        chat: See :func:`render`.

    Returns:
        The prompt. If the question alone is longer, it is returned whole, without examples.
    """
    dropped = 0
    while True:
        text = render(template, question, examples[dropped:], chat)
        token_ids = list(encode(text))
        if len(token_ids) <= max_tokens or dropped == len(examples):
            break
        dropped += 1
    return FittedPrompt(text, token_ids, len(examples) - dropped, dropped)


# -------------------------------------------------------------------------- examples


def clean_rationale(text: str) -> str:
    """Turn a rationale in GSM8K's form into prose: no ``<<...>>``, no ``####`` line, one line."""
    text = re.sub(r"<<[^<>]*>>", "", text)
    lines = [line.strip() for line in text.splitlines() if not line.strip().startswith("####")]
    lines = [line if line[-1] in ".!?:" else line + "." for line in lines if line]
    return " ".join(lines)


def normalize_question(text: str) -> str:
    """Reduce a question to its words and numbers, for telling whether two are the same."""
    return " ".join(re.findall(r"[a-z0-9.]+", text.lower()))


def lexical_embedding(texts: Sequence[str], reference: Sequence[str]) -> NDArray[np.float64]:
    """Embed texts by their words and pairs of words, weighted by rarity (TF-IDF).

    Numbers count as one and the same word, so that problems of the same kind are near whatever
    their numbers.

    Args:
        texts: Texts to embed.
        reference: Texts that the rarity is measured on.

    Returns:
        Unit rows, shape (texts, terms of the reference).
    """

    def terms(text: str) -> Counter[str]:
        words = re.sub(r"\d[\d.,/]*", "<n>", text.lower())
        tokens = re.findall(r"<n>|[a-z]+", words)
        return Counter(tokens) + Counter(f"{a} {b}" for a, b in pairwise(tokens))

    counts = [terms(text) for text in reference]
    frequency = Counter(term for count in counts for term in count)
    column = {term: i for i, term in enumerate(sorted(frequency))}
    rarity = np.array([math.log((1 + len(reference)) / frequency[term]) for term in column])
    matrix = np.zeros((len(texts), len(column)))
    for row, text in enumerate(texts):
        for term, count in terms(text).items():
            if term in column:
                matrix[row, column[term]] = 1 + math.log(count)
    matrix *= rarity
    norm = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(norm > 0, norm, 1)


def select_examples(
    selection: str,
    k: int,
    num_pool: int,
    position: int,
    seed: int = 0,
    similarity: NDArray[np.float64] | None = None,
) -> list[int]:
    """Choose the examples for one problem.

    Args:
        selection: ``fixed``, ``random`` or ``nearest``.
        k: How many.
        num_pool: How many there are to choose from.
        position: The problem's position in the test split.
        seed: Seed of the random choice.
        similarity: For ``nearest``, of this problem to each of the pool, shape (num_pool,).

    Returns:
        Positions in the pool; the last stands next to the question.

    Raises:
        ValueError: If ``k`` is beyond the pool.
    """
    if k > num_pool:
        raise ValueError(
            f"{k} examples are asked for, but the training split has only {num_pool} that can be "
            "shown; lower num_shots or give more training problems."
        )
    if k == 0:
        return []
    if selection == "fixed":
        return list(range(k))
    if selection == "random":
        rng = np.random.default_rng(_seed_of(f"{seed}/{position}"))
        return [int(i) for i in rng.permutation(num_pool)[:k]]
    assert similarity is not None
    order = np.argsort(-similarity, kind="stable")[:k]
    return [int(i) for i in order[::-1]]


# ------------------------------------------------------------------------ generation


def _seed_of(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class SeededSampling:
    """Turn greedy search into exact sampling, with randomness of its own for each row.

    Adds Gumbel noise to ``logits / temperature``: the largest sum is a draw from the softmax (the
    Gumbel-max trick). Each row's noise comes from its own generator, so that neither the batch size
    nor the order of rows changes a draw. The noise is made on the CPU, the same on every device.

    Args:
        seeds: One text for each row; the same text gives the same noise.
        temperature: Above 0.
    """

    def __init__(self, seeds: Sequence[str], temperature: float) -> None:
        self.temperature = temperature
        self.generators = [torch.Generator().manual_seed(_seed_of(seed)) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        size = scores.shape[-1]
        uniform = torch.stack([torch.rand(size, generator=g) for g in self.generators])
        # rand() lies in [0, 1): keep clear of both ends, where the noise is infinite.
        uniform = uniform.clamp_(1e-20, 1 - 2**-24)
        noise = -torch.log(-torch.log(uniform))
        return scores / self.temperature + noise.to(scores)


class StopAtStrings:
    """End a row of a batch once its new text holds one of the stop strings.

    Args:
        tokenizer: Decodes the new tokens.
        stop: The strings.
        prompt_length: Tokens before the new ones.
    """

    #: A stop string of up to so many tokens is seen when its last token comes.
    WINDOW = 16

    def __init__(self, tokenizer: Any, stop: Sequence[str], prompt_length: int) -> None:
        self.tokenizer, self.stop, self.prompt_length = tokenizer, tuple(stop), prompt_length

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        new = input_ids[:, self.prompt_length :][:, -self.WINDOW :]
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        ended = [any(stop in text for stop in self.stop) for text in texts]
        return torch.tensor(ended, device=input_ids.device)


def cut_at(text: str, stop: Sequence[str]) -> str:
    """Return the text before the first of the stop strings."""
    positions = [position for mark in stop if (position := text.find(mark)) >= 0]
    return text[: min(positions)] if positions else text


@dataclass(frozen=True)
class Generated:
    """One output.

    Attributes:
        text: The decoded text, cut at the stop string.
        num_tokens: Tokens generated, the end-of-text token included.
    """

    text: str
    num_tokens: int


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop: Sequence[str] = (),
    temperature: float = 0.0,
    seeds: Sequence[str] | None = None,
    num_beams: int = 1,
) -> list[Generated]:
    """Continue (or, for an encoder-decoder, answer) a batch of prompts.

    Padding stands on the left of a decoder-only model and on the right of an encoder-decoder; it is
    masked, and positions count from the first real token.

    Args:
        model: A model of transformers with ``generate``.
        tokenizer: Its tokenizer.
        prompts: Token ids, one list for each row.
        max_new_tokens: Longest output.
        stop: See :class:`StopAtStrings`.
        temperature: 0 is greedy; above, ``seeds`` are needed.
        seeds: See :class:`SeededSampling`.
        num_beams: Beams, for greedy search only.

    Returns:
        One output for each row.
    """
    is_encoder_decoder = bool(model.config.is_encoder_decoder)
    pad = tokenizer.pad_token_id
    width = max(len(ids) for ids in prompts)
    rows, mask = [], []
    for ids in prompts:
        gap = width - len(ids)
        if is_encoder_decoder:
            rows.append([*ids, *[pad] * gap])
            mask.append([1] * len(ids) + [0] * gap)
        else:
            rows.append([*[pad] * gap, *ids])
            mask.append([0] * gap + [1] * len(ids))
    device = next(model.parameters()).device
    input_ids = torch.tensor(rows, device=device)
    prompt_length = 1 if is_encoder_decoder else width
    processors = [SeededSampling(seeds or [], temperature)] if temperature > 0 else None
    criteria = [StopAtStrings(tokenizer, stop, prompt_length)] if stop else None
    ends = _end_tokens(model, tokenizer)
    output = model.generate(
        input_ids=input_ids,
        attention_mask=torch.tensor(mask, device=device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=num_beams,
        logits_processor=processors,
        stopping_criteria=criteria,
        pad_token_id=pad,
        eos_token_id=ends,
    )
    results = []
    for row in output[:, prompt_length:].tolist():
        length = next((i + 1 for i, token in enumerate(row) if token in ends), None)
        if length is None:  # stopped by a string or by length: what follows is padding
            length = len(row)
            while length and row[length - 1] == pad:
                length -= 1
        text = tokenizer.decode(row[:length], skip_special_tokens=True)
        results.append(Generated(cut_at(text, stop), length))
    return results


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end a text, by the model's and by the tokenizer's account."""
    ends = model.generation_config.eos_token_id
    found = set(ends if isinstance(ends, (list, tuple)) else [ends]) | {tokenizer.eos_token_id}
    return sorted(token for token in found if token is not None)


# ---------------------------------------------------------------------------- answers

_ARITHMETIC = re.compile(r"[\d(.][\d\s.,+\-−–*/×÷x()$]*[-+*/×÷x−–][\d\s.,+\-−–*/×÷x()$]*[\d)]")


def read_answer(text: str, answer_from: str) -> Fraction | None:
    """Read an output's answer.

    Args:
        text: The output.
        answer_from: ``text`` or ``expression`` (see :class:`PromptTemplate`).

    Returns:
        The answer as an exact fraction, or None where there is none. An expression is looked for on
        the first line that is not empty, then anywhere (the last one counts); a bare number is one.
    """
    if answer_from == "text":
        return extract_answer(text)
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    value = parse_output(first, "equation")
    if value is not None:
        return value
    for found in reversed(_ARITHMETIC.findall(text)):
        try:
            return evaluate_expression(found)
        except ExpressionError:
            continue
    return None


@dataclass(frozen=True)
class Vote:
    """The outcome of a vote.

    Attributes:
        winner: The answer most samples gave, or None if none gave any.
        agreement: Share of all samples that gave it.
    """

    winner: Fraction | None
    agreement: float = field(default=0.0)


def majority_vote(answers: Sequence[Fraction | None]) -> Vote:
    """Return the commonest answer; of equally common ones the first given; None never wins.

    Args:
        answers: What each sample answered.
    """
    given = [answer for answer in answers if answer is not None]
    if not given:
        return Vote(None)
    counts = Counter(given)
    winner = max(counts, key=lambda answer: (counts[answer], -given.index(answer)))
    return Vote(winner, counts[winner] / len(answers))
