"""What ``t5_mini`` is pretrained on: denoising, drills and generated problems, one stream.

Decides the objectives and their shares. Span corruption follows Raffel et al. 2020
(arXiv 1910.10683): 15 % of the tokens in spans of about three are replaced by sentinels and
predicted. Everything else is text to text under a task prefix of its own, so that ``solve:`` stays
a prefix that the backbone has never been taught: after an unknown word and a colon it learns to
*continue the text*, which is what the frozen backbone then does.

Stories come from four generators: the worlds of ``worlds.py``, the tales of ``tales.py``, told in
other ways too (``retelling.py``), the things told side by side of ``bindings.py``, and the training
templates of ``data=procedural`` (never those of its validation and test). No objective asks for the
calculation of the latter in infix: that is the task, and left for adaptation.

=============== =================================================================================
``work``        a world or a tale -> its calculation, infix; numbers masked or written out
``tree``        a story -> its calculation in prefix order, numbers masked
``cloze``       a story and "The answer is <extra_id_0> ." -> the calculation as the missing span
``uses``        a story -> the numbers that matter
``find``        a list of counted things, and one of them -> its number
``ask``         facts and a calculation -> the question it answers
``gsm_step``    a GSM8K question and a line of its rationale with the calculation missing
``gsm_work``    a GSM8K question -> the calculation composed from its rationale's annotations
``spans``       span corruption on GSM8K questions, rationales and stories
``continue``    any word, a colon and the beginning of a text -> what comes next
``drill``       arithmetic on numbers of up to four digits
=============== =================================================================================

Example i of a run depends on (seed, i) alone. GSM8K (Cobbe et al. 2021, arXiv 2110.14168, MIT) is
read from its published ``train.jsonl``.

Left out on purpose: MAWPS, ASDiv and SVAMP. They are met in adaptation, or never.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from src.algorithms.answers import (
    Expression,
    ExpressionError,
    evaluate,
    map_leaves,
    operands,
    parse_infix,
    to_fraction,
    to_infix,
    to_prefix,
)
from src.datamodules.bindings import make_binding, make_lookup
from src.datamodules.procedural import ProceduralProblems
from src.datamodules.retelling import retell_tale
from src.datamodules.tales import make_tale
from src.datamodules.worlds import Story, make_story, story_of

SHARES = {
    "work": 0.35,
    "tree": 0.30,
    "cloze": 0.02,
    "uses": 0.05,
    "find": 0.01,
    "ask": 0.04,
    "gsm_step": 0.03,
    "gsm_work": 0.07,
    "spans": 0.08,
    "continue": 0.03,
    "drill": 0.02,
}
_ANNOTATION = re.compile(
    r"(?P<shown>[-+*/xX×().,\d\s$%]*=\s*)?\$?\s*<<(?P<expr>[^=>]+)=(?P<result>[^>]*)>>\s*(?P<again>\d[\d,.]*\d|\d)?"
)
_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")


@dataclass(frozen=True)
class GSMProblem:
    """A problem of GSM8K's training file.

    Attributes:
        question: As published.
        rationale: Without its calculator annotations.
        steps: Of each annotated line: the line before the calculation, the calculation, its
            result, and the line after it.
        tree: The whole solution over ``number0 ...``, or None where it cannot be composed.
    """

    question: str
    rationale: str
    steps: tuple[tuple[str, str, str, str], ...]
    tree: Expression | None


def read_gsm8k(path: str | Path) -> list[GSMProblem]:
    """Read GSM8K's ``train.jsonl`` with its calculator annotations.

    Args:
        path: The file.

    Returns:
        Its problems in order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is not a problem with ``question`` and ``answer``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"data.path={path} does not exist; give GSM8K's train.jsonl "
            "(github.com/openai/grade-school-math, data/train.jsonl)."
        )
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            question, answer = str(row["question"]), str(row["answer"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: expected an object with 'question' and 'answer' ({error})."
            ) from error
        body, _, final = answer.rpartition("####")
        steps = []
        for sentence in body.strip().splitlines():
            found = list(_ANNOTATION.finditer(sentence))
            if len(found) == 1:
                m = found[0]
                before, after = sentence[: m.start()], sentence[m.end() :]
                steps.append((before, m["expr"].strip(), m["result"].strip(), after))
        rationale = re.sub(r"<<[^>]*>>", "", body).strip().replace("\n", " ")
        problems.append(
            GSMProblem(question, rationale, tuple(steps), _compose(question, body, final))
        )
    return problems


def mask_numbers(text: str, limit: int = 16) -> tuple[str, list[str]]:
    """Write ``number0 number1 ...`` for the numbers of a text, in order; at most ``limit``."""
    numbers: list[str] = []

    def name(match: re.Match[str]) -> str:
        if len(numbers) == limit:
            return match.group(0)
        numbers.append(match.group(0).replace(",", ""))
        return f" number{len(numbers) - 1} "

    return re.sub(r"\s+", " ", _NUMBER.sub(name, text)).strip(), numbers


def _compose(question: str, rationale: str, final: str) -> Expression | None:
    """Compose the annotated calculations of a rationale into one over the question's numbers."""
    _, numbers = mask_numbers(question)
    known: dict[Fraction, Expression] = {}
    for i, literal in reversed(list(enumerate(numbers))):
        known[to_fraction(literal)] = f"number{i}"
    result: Fraction | None = None
    tree: Expression | None = None
    try:
        for m in re.finditer(r"<<([^=>]+)=([^>]*)>>", rationale):
            tree = map_leaves(
                parse_infix(m.group(1)), lambda leaf: known.get(to_fraction(leaf), leaf)
            )
            result = evaluate(tree, numbers)
            known[result] = tree
        wanted = to_fraction(final.strip().replace(",", ""))
    except (ExpressionError, ValueError, ZeroDivisionError, KeyError, IndexError):
        return None
    if tree is None or isinstance(tree, str) or result != wanted or len(operands(tree)) > 5:
        return None
    return tree


class PretrainingExamples:
    """Examples (source, target) as texts; example i is a function of (seed, i).

    Args:
        problems: GSM8K's training problems; without them its three objectives fall to the others.
        shares: Relative weight of each objective.
        masked_fraction: Share of stories whose numbers are masked where both forms are allowed.
        words: Words that stand before the colon in ``continue``.
        procedural_fraction: Share of the stories outside ``work`` and ``cloze`` that the training
            templates of ``data=procedural`` tell, in [0, 1].
        tale_fraction: Share of tales among the other stories, in [0, 1]; the rest are worlds.
        retold: Whether tales are told in other ways too (see ``src/datamodules/retelling.py``).
        binding_fraction: Share of several things told side by side (see
            ``src/datamodules/bindings.py``) among the stories of no procedural template, in [0, 1].

    Raises:
        ValueError: If an objective is unknown or no weight is positive.
    """

    def __init__(
        self,
        problems: Sequence[GSMProblem],
        shares: Mapping[str, float] | None = None,
        masked_fraction: float = 0.8,
        words: Sequence[str] = (),
        procedural_fraction: float = 0.3,
        tale_fraction: float = 0.85,
        retold: bool = False,
        binding_fraction: float = 0.0,
    ) -> None:
        shares = dict(SHARES if shares is None else shares)
        unknown = set(shares) - set(SHARES)
        if unknown:
            raise ValueError(
                f"data.shares names {', '.join(sorted(unknown))}; the objectives are "
                f"{', '.join(SHARES)}."
            )
        self.problems = list(problems)
        self.with_steps = [p for p in self.problems if p.steps]
        self.with_tree = [p for p in self.problems if p.tree is not None]
        if not self.with_steps:
            shares.pop("gsm_step", None)
        if not self.with_tree:
            shares.pop("gsm_work", None)
        if not sum(shares.values()) > 0 or min(shares.values()) < 0:
            raise ValueError(
                f"data.shares must hold weights of which one is positive, got {shares}."
            )
        self.objectives, self.weights = list(shares), list(shares.values())
        self.masked_fraction = masked_fraction
        self.words = list(words) or ["text", "read", "note"]
        self.procedural_fraction = procedural_fraction
        self.tale_fraction = tale_fraction
        self.retold = retold
        self.binding_fraction = binding_fraction
        self.procedural = ProceduralProblems("train", steps=(0.4, 0.4, 0.2))

    def example(self, seed: int, index: int) -> tuple[str, str, str]:
        """Make one example: (objective, source, target); ``spans`` has no target as yet."""
        rng = random.Random(f"{seed}/{index}")
        objective = rng.choices(self.objectives, self.weights)[0]
        source, target = getattr(self, f"_{objective}")(rng)
        return objective, source, target

    def _story(self, rng: random.Random) -> Story:
        if rng.random() >= self.procedural_fraction:
            return self._free_story(rng)
        problem = self.procedural.problem(rng.getrandbits(40))
        assert problem.equation is not None
        structure = problem.meta["structure"]
        return story_of(problem.masked, problem.numbers, problem.equation, structure)

    def _free_story(self, rng: random.Random) -> Story:
        """Tell what the task of adaptation is not made of."""
        if self.binding_fraction and rng.random() < self.binding_fraction:
            return make_binding(rng)
        if rng.random() >= self.tale_fraction:
            return make_story(rng)
        return retell_tale(rng) if self.retold else make_tale(rng)

    def _text(self, story: Story, rng: random.Random) -> tuple[str, tuple[str, ...] | None]:
        if rng.random() < self.masked_fraction:
            return _tidy(story.text, rng), None
        return _tidy(story.raw, rng), story.numbers

    def _work(self, rng: random.Random) -> tuple[str, str]:
        story = self._free_story(rng)
        text, numbers = self._text(story, rng)
        return f"work: {text}", to_infix(_written(story.tree, numbers))

    def _tree(self, rng: random.Random) -> tuple[str, str]:
        story = self._story(rng)
        return f"tree: {_tidy(story.text, rng)}", to_prefix(story.tree)

    def _cloze(self, rng: random.Random) -> tuple[str, str]:
        story = self._free_story(rng)
        text, numbers = self._text(story, rng)
        words = to_infix(_written(story.tree, numbers))
        return f"{text} The answer is <extra_id_0> .", f"<extra_id_0> {words}"

    def _uses(self, rng: random.Random) -> tuple[str, str]:
        story = self._story(rng)
        names = {leaf for leaf in operands(story.tree) if leaf.startswith("number")}
        used = sorted(names, key=lambda leaf: int(leaf[6:]))
        return f"uses: {_tidy(story.text, rng)}", " ".join(used)

    def _find(self, rng: random.Random) -> tuple[str, str]:
        told, noun, number = make_lookup(rng)
        if rng.random() < 0.5:
            return f"find {noun}: {_tidy(told, rng)}", number
        return f"uses: {_tidy(f'{told} How many {noun}?', rng)}", number

    def _ask(self, rng: random.Random) -> tuple[str, str]:
        while True:
            story = self._story(rng)
            facts = story.text.removesuffix(story.question).strip()
            # A question may tell the whole story, or come first.
            if story.text.endswith(story.question) and facts:
                break
        return f"ask: {facts} = {to_infix(story.tree)}", story.question

    def _gsm_step(self, rng: random.Random) -> tuple[str, str]:
        problem = rng.choice(self.with_steps)
        k = rng.randrange(len(problem.steps))
        before, expression, result, after = problem.steps[k]
        shown = f" = {result}" if rng.random() < 0.5 else ""
        line = f"{before.strip()} <extra_id_0>{shown} {after.strip()}"
        earlier = ""
        for b, _, r, a in problem.steps[:k]:
            if re.search(rf"(?<![\d.]){re.escape(r)}(?![\d.])", expression):
                earlier += f" {b.strip()} {r} {a.strip()}"
        text = f"{problem.question}{earlier} {line}"
        target = " ".join(re.findall(r"\d*\.?\d+|[-+*/()%]", expression))
        if rng.random() < self.masked_fraction:
            text = text.replace("<extra_id_0>", "<extra_id_x>")
            head, numbers = mask_numbers(problem.question)
            names = {n: f"number{i}" for i, n in reversed(list(enumerate(numbers)))}
            tail = text[len(problem.question) :]
            tail = _NUMBER.sub(lambda m: names.get(m.group(0).replace(",", ""), m.group(0)), tail)
            text = (head + tail).replace("<extra_id_x>", "<extra_id_0>")
            target = " ".join(names.get(word, word) for word in target.split())
        return text, f"<extra_id_0> {target}"

    def _gsm_work(self, rng: random.Random) -> tuple[str, str]:
        problem = rng.choice(self.with_tree)
        assert problem.tree is not None
        text, numbers = mask_numbers(problem.question)
        if rng.random() < self.masked_fraction:
            return f"work: {text}", to_infix(problem.tree)
        return f"work: {problem.question}", to_infix(_written(problem.tree, numbers))

    def _spans(self, rng: random.Random) -> tuple[str, str]:
        return self._plain(rng), ""

    def _plain(self, rng: random.Random) -> str:
        if not self.problems or rng.random() < 0.25:
            return self._text(self._story(rng), rng)[0]
        problem = rng.choice(self.problems)
        text = rng.choice([problem.question, problem.question, problem.rationale])
        return mask_numbers(text)[0] if rng.random() < 0.5 else text

    def _continue(self, rng: random.Random) -> tuple[str, str]:
        words = self._plain(rng).split()
        cut = rng.randint(1, max(1, len(words) - 2))
        source = " ".join(words[:cut])
        if rng.random() < 0.7:  # whole texts too: what follows a finished problem is another text
            source = f"{rng.choice(self.words)}: {source}"
        if rng.random() < 0.4:
            source = f"{rng.choice(self.words)}: {' '.join(words)}"
            words, cut = self._plain(rng).split(), 0
        return source, " ".join(words[cut : cut + 10]) or "."

    def _drill(self, rng: random.Random) -> tuple[str, str]:
        a, b = (rng.randint(1, 10 ** rng.randint(1, 3)) for _ in range(2))
        op = rng.choice("+-*/<")
        if op == "+":
            return f"compute: {a} + {b}", str(a + b)
        if op == "-":
            return f"compute: {a + b} - {a}", str(b)
        if op == "*":
            a, b = a % 100 + 1, b % 13 + 1
            return f"compute: {a} * {b}", str(a * b)
        if op == "/":
            a, b = a % 100 + 1, b % 13 + 1
            return f"compute: {a * b} / {b}", str(a)
        return f"larger: {a} or {b}", str(max(a, b))


def _written(tree: Expression, numbers: Sequence[str] | None) -> Expression:
    """Put the numbers in the place of their names, if they are given."""
    if numbers is None:
        return tree
    return map_leaves(
        tree, lambda leaf: numbers[int(leaf[6:])] if leaf.startswith("number") else leaf
    )


def _tidy(text: str, rng: random.Random) -> str:
    """Attach the punctuation in half of the texts, detach it in the others: sets differ in it."""
    if rng.random() < 0.5:
        return re.sub(r"(?<=[^\s.])(?=[.,?!](?:\s|$))|(?<=\$)(?=\w)", " ", text)
    return re.sub(r" (?=[.,?!])|(?<=\$) ", "", text)


def corrupt_spans(
    ids: Sequence[int],
    rng: random.Random,
    sentinels: Sequence[int],
    rate: float = 0.15,
    mean_length: float = 3.0,
) -> tuple[list[int], list[int]]:
    """Replace random spans by sentinels (Raffel et al. 2020, Sec. 3.1.4).

    Args:
        ids: Tokens of a text without its end-of-sequence token.
        rng: The source of all choices.
        sentinels: Ids of ``<extra_id_0>``, ``<extra_id_1>`` and so on.
        rate: Share of the tokens that is replaced, in (0, 1).
        mean_length: Mean length of a span, at least 1.

    Returns:
        The tokens with each span replaced by a sentinel, and the target: each sentinel followed by
        its span, and the next sentinel at the end. At least one token is replaced if there are two.
    """
    if len(ids) < 2:
        return list(ids), [sentinels[0]]
    num_noise = min(max(1, round(len(ids) * rate)), len(ids) - 1)
    num_spans = min(
        max(1, round(num_noise / mean_length)), num_noise, len(ids) - num_noise, len(sentinels) - 1
    )
    noise, kept = (
        _segments(num_noise, num_spans, rng),
        _segments(len(ids) - num_noise, num_spans, rng),
    )
    source: list[int] = []
    target: list[int] = []
    position = 0
    for i in range(num_spans):
        source += ids[position : position + kept[i]]
        position += kept[i]
        source.append(sentinels[i])
        target += [sentinels[i], *ids[position : position + noise[i]]]
        position += noise[i]
    return source, [*target, sentinels[num_spans]]


def _segments(total: int, parts: int, rng: random.Random) -> list[int]:
    cuts = sorted(rng.sample(range(1, total), parts - 1))
    return [b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True)]


class _Stream(IterableDataset[dict[str, torch.Tensor]]):
    """Padded batches of similar length, made as they are needed."""

    def __init__(
        self,
        examples: PretrainingExamples,
        tokenizer: Any,
        seed: int,
        start: int,
        num_batches: int,
        batch_size: int,
        max_length: int,
        pool_batches: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.examples, self.tokenizer, self.seed, self.start = examples, tokenizer, seed, start
        self.rank, self.world_size = rank, world_size
        self.num_batches, self.batch_size = num_batches, batch_size
        self.max_length, self.pool_batches = max_length, pool_batches
        self.sentinels = tokenizer.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(100)])

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        # Pools begin at fixed steps, so that a run resumed on as many processes meets the batches
        # that it would have met. Every process makes the examples of all and keeps its own; those
        # of a step are of like length, so that no process waits for another.
        size, world = self.batch_size, self.world_size
        per_pool = self.pool_batches * world * size
        for pool in range(
            self.start // self.pool_batches, -(-self.num_batches // self.pool_batches)
        ):
            rows = self._rows(pool * per_pool, per_pool)
            rows.sort(key=lambda row: (len(row[0]), len(row[1])))
            steps = [rows[i : i + world * size] for i in range(0, len(rows), world * size)]
            random.Random(f"{self.seed}/pool/{pool}").shuffle(steps)
            first = pool * self.pool_batches
            for i, step in enumerate(steps):
                if self.start <= first + i < self.num_batches:
                    yield self._pad(step[self.rank * size : (self.rank + 1) * size])

    def _rows(self, first: int, count: int) -> list[tuple[list[int], list[int]]]:
        made = [self.examples.example(self.seed, first + i) for i in range(count)]
        sources = self.tokenizer([m[1] for m in made], add_special_tokens=False)["input_ids"]
        targets = self.tokenizer([m[2] for m in made], add_special_tokens=False)["input_ids"]
        end, rows = self.tokenizer.eos_token_id, []
        for i, ((objective, _, _), source, target) in enumerate(
            zip(made, sources, targets, strict=True)
        ):
            source = source[: self.max_length]
            if objective == "spans":
                rng = random.Random(f"{self.seed}/spans/{first + i}")
                source, target = corrupt_spans(source, rng, self.sentinels)
            rows.append(([*source, end], [*target[: self.max_length], end]))
        return rows

    def _pad(self, rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
        width, height = (max(len(row[k]) for row in rows) for k in (0, 1))
        pad = self.tokenizer.pad_token_id
        return {
            "input_ids": torch.tensor([s + [pad] * (width - len(s)) for s, _ in rows]),
            "attention_mask": torch.tensor(
                [[1] * len(s) + [0] * (width - len(s)) for s, _ in rows]
            ),
            "labels": torch.tensor([t + [-100] * (height - len(t)) for _, t in rows]),
        }


class PretrainingText(LightningDataModule):
    """A stream of pretraining examples, and a fixed held-out piece of it for validation.

    Args:
        tokenizer: A T5 tokenizer with sentinels.
        path: GSM8K's ``train.jsonl``; null trains on generated text alone.
        num_steps: Steps of the run, at least 1.
        batch_size: Examples in a batch; every process takes one of its own in a step.
        seed: Seed of every example.
        shares: Weights of the objectives; null takes :data:`SHARES`.
        masked_fraction: Share of problems with masked numbers where both forms occur, in [0, 1].
        procedural_fraction: Share of the stories outside ``work`` and ``cloze`` that the training
            templates of ``data=procedural`` tell, in [0, 1].
        tale_fraction: Share of tales among the other stories, in [0, 1]; the rest are worlds.
        retold: Whether tales are told in other ways too (see ``src/datamodules/retelling.py``).
        binding_fraction: Share of several things told side by side (see
            ``src/datamodules/bindings.py``) among the stories of no procedural template, in [0, 1].
        max_length: Tokens kept of a source or target.
        num_val: Held-out examples.
        pool_batches: Steps whose examples are sorted together by length.

    Raises:
        ValueError: If a number is out of its range.
        FileNotFoundError: If ``path`` is given and missing.
    """

    def __init__(
        self,
        tokenizer: Any,
        path: str | None = None,
        num_steps: int = 3000,
        batch_size: int = 96,
        seed: int = 0,
        shares: Mapping[str, float] | None = None,
        masked_fraction: float = 0.8,
        procedural_fraction: float = 0.3,
        tale_fraction: float = 0.85,
        retold: bool = False,
        binding_fraction: float = 0.0,
        max_length: int = 96,
        num_val: int = 512,
        pool_batches: int = 24,
    ) -> None:
        super().__init__()
        for name, value in (
            ("num_steps", num_steps),
            ("batch_size", batch_size),
            ("max_length", max_length),
            ("num_val", num_val),
            ("pool_batches", pool_batches),
        ):
            if value < 1:
                raise ValueError(f"data.{name} is {value}, expected at least 1.")
        for name, share in (
            ("masked_fraction", masked_fraction),
            ("procedural_fraction", procedural_fraction),
            ("tale_fraction", tale_fraction),
            ("binding_fraction", binding_fraction),
        ):
            if not 0 <= share <= 1:
                raise ValueError(f"data.{name} is {share}, expected 0 to 1.")
        self.tokenizer, self.path, self.num_steps = tokenizer, path, num_steps
        self.batch_size, self.seed, self.max_length = batch_size, seed, max_length
        self.num_val, self.pool_batches = num_val, pool_batches
        problems = read_gsm8k(path) if path else []
        words = sorted(
            piece[1:] for piece in tokenizer.get_vocab() if re.fullmatch("▁[a-z]{3,}", piece)
        )
        reserved = {"work", "tree", "uses", "find", "ask", "compute", "larger"}
        self.examples = PretrainingExamples(
            problems,
            shares,
            masked_fraction,
            [w for w in words if w not in reserved],
            procedural_fraction,
            tale_fraction,
            retold,
            binding_fraction,
        )

    def _loader(
        self, seed: int, start: int, num_batches: int, rank: int = 0, world_size: int = 1
    ) -> DataLoader[Any]:
        stream = _Stream(
            self.examples, self.tokenizer, seed, start, num_batches, self.batch_size,
            self.max_length, self.pool_batches, rank, world_size,
        )  # fmt: skip
        return DataLoader(stream, batch_size=None)

    def train_dataloader(self) -> DataLoader[Any]:
        if self.trainer is None:
            return self._loader(self.seed, 0, self.num_steps)
        if self.trainer.accumulate_grad_batches != 1:
            raise ValueError(
                "trainer.accumulate_grad_batches does not go with pretraining, where a batch is "
                "a step; give a larger data.batch_size."
            )
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        return self._loader(self.seed, self.trainer.global_step, self.num_steps, rank, world_size)

    def val_dataloader(self) -> DataLoader[Any]:
        # Seeds of examples are texts, so that no training seed can meet this one.
        return self._loader(-1 - self.seed, 0, -(-self.num_val // self.batch_size))
