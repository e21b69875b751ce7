"""Math word problems as a datamodule: splits, targets, tokens and batches.

Decides what a model reads and writes. It reads ``task_prefix`` and the question, with its numbers
or with ``number0 number1 ...`` in their place; it writes an equation (infix or prefix), a rationale
in GSM8K's form, or the answer.

Batch keys, B examples padded to the longest:

- ``input_ids`` (B, S) int64; ``attention_mask`` (B, S) int64, 0 on padding;
- ``labels`` (B, T) int64, with the end-of-sequence token, -100 on padding;
- ``index`` (B,) int64: position in the split, so that ``problems[split][index]`` is the problem;
- in batches of validation, test and prediction also lists of B python objects for scoring:
  ``question`` (str), ``gold`` (str that :class:`fractions.Fraction` reads), ``tolerance``
  (likewise) and ``numbers`` (tuple of literals). Pass ``batch_size`` to ``self.log``: Lightning
  cannot infer it from lists.

Each split comes from a path if one is given (its form is recognised, whatever ``source`` says),
else from the source: generated, drawn, or read from the hub. Without a path for validation, a share
of the training problems is held out by seed, whole wordings at a time; the procedural source has
templates of its own for it.

Training batches come from :class:`BucketBatchSampler` in a ``StatefulDataLoader``; evaluation and
prediction take every ``world_size``-th problem in order of length, so none is lost or doubled.

Left out on purpose: truncation. A training example that is too long is left out and counted; a test
problem is kept whole.
"""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from src.algorithms.answers import (
    TARGETS,
    format_number,
    parse_infix,
    substitute,
    to_infix,
    to_prefix,
)
from src.datamodules.batching import BucketBatchSampler
from src.datamodules.procedural import ProceduralProblems
from src.datamodules.readers import Problem, missing_message, read, read_gsm_symbolic, worked_steps

log = logging.getLogger(__name__)

SOURCES = ("procedural", "gsm8k", "svamp", "mawps_asdiv", "asdiv", "gsm_symbolic")
_HUB_DEFAULT = {"gsm8k": "openai/gsm8k", "svamp": "ChilleD/SVAMP"}
Split = Literal["train", "val", "test"]


def source_text(problem: Problem, task_prefix: str, mask_numbers: bool) -> str:
    """Write what the model reads."""
    return task_prefix + (problem.masked if mask_numbers else problem.question)


def target_text(
    problem: Problem, target: str, mask_numbers: bool, equation_order: str
) -> str | None:
    """Write what the model is to write.

    Args:
        problem: The problem.
        target: ``equation``, ``rationale`` (as given, else worked out from the equation) or
            ``answer``.
        mask_numbers: Whether an equation is over ``number0 ...`` instead of literals.
        equation_order: ``infix`` or ``prefix``.

    Returns:
        The target, or None where the problem gives no such thing.
    """
    if target == "answer":
        return format_number(problem.answer)
    if target == "rationale":
        if problem.rationale is None and problem.equation is not None:
            return worked_steps(problem.equation, problem.numbers)
        return problem.rationale
    if problem.equation is None:
        return None
    tree = parse_infix(problem.equation)
    if not mask_numbers:
        tree = substitute(tree, problem.numbers)
    return to_infix(tree) if equation_order == "infix" else to_prefix(tree)


class _Encoded(Dataset[dict[str, Any]]):
    """Tokenised problems of a split, or some of them in a given order."""

    def __init__(
        self,
        problems: Sequence[Problem],
        sources: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        order: Sequence[int],
        scored: bool,
    ) -> None:
        self.problems, self.sources, self.targets = problems, sources, targets
        self.order, self.scored = order, scored

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> dict[str, Any]:
        index = self.order[position]
        item: dict[str, Any] = {
            "input_ids": self.sources[index],
            "labels": self.targets[index],
            "index": index,
        }
        if self.scored:
            problem = self.problems[index]
            item |= {
                "question": problem.question,
                "gold": str(problem.answer),
                "tolerance": str(problem.tolerance),
                "numbers": problem.numbers,
            }
        return item


class _Collate:
    """Pad a list of encoded problems into a batch."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = {
            name: [item[name] for item in items] for name in items[0] if name != "attention_mask"
        }
        sources, targets = batch["input_ids"], batch["labels"]
        width, height = max(map(len, sources)), max(map(len, targets))
        batch["input_ids"] = torch.tensor(
            [[*ids, *[self.pad_token_id] * (width - len(ids))] for ids in sources]
        )
        batch["attention_mask"] = torch.tensor(
            [[1] * len(ids) + [0] * (width - len(ids)) for ids in sources]
        )
        batch["labels"] = torch.tensor([[*ids, *[-100] * (height - len(ids))] for ids in targets])
        batch["index"] = torch.tensor(batch["index"])
        return batch


class MathProblems(LightningDataModule):
    """Word problems from a generator or from published files.

    Args:
        tokenizer: Called on a list of texts, gives ``input_ids``; has ``pad_token_id``.
        source: Where a split without a path comes from: ``procedural``, ``gsm8k``, ``svamp``,
            ``mawps_asdiv``, ``asdiv`` or ``gsm_symbolic``.
        train: Path of the training problems: file, folder or hub name.
        val: Path of the validation problems.
        test: Path of the test problems.
        num_train: Training problems to make, or at most to take from a file; null takes all.
        num_val: The same for validation.
        num_test: The same for test.
        seed: Seed of generation, split and order.
        val_fraction: Share of the training file held out where ``val`` is not given, in (0, 1).
        generator: Keyword arguments of :class:`ProceduralProblems`, such as ``irrelevant_rate``.
        target: ``equation``, ``rationale`` or ``answer``.
        mask_numbers: Whether texts and equations hold ``number0 ...``; for equations only.
        equation_order: ``infix`` or ``prefix``.
        task_prefix: Put before each question.
        max_source_length: Tokens; longer training examples are left out and counted.
        max_target_length: Tokens; the same.
        batch_size: Examples in a batch on one device.
        on_bad_row: ``error`` or ``skip``.
        num_workers: Processes that load training batches.
        bucket: Whether training batches hold examples of similar length.

    Raises:
        ValueError: If an argument is outside its choices.
    """

    def __init__(
        self,
        tokenizer: Any,
        source: str = "procedural",
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        num_train: int | None = None,
        num_val: int | None = None,
        num_test: int | None = None,
        seed: int = 0,
        val_fraction: float = 0.1,
        generator: Mapping[str, Any] | None = None,
        target: str = "equation",
        mask_numbers: bool = False,
        equation_order: str = "infix",
        task_prefix: str = "solve: ",
        max_source_length: int = 256,
        max_target_length: int = 64,
        batch_size: int = 32,
        on_bad_row: str = "error",
        num_workers: int = 0,
        bucket: bool = True,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["tokenizer"], logger=False)
        for name, value, choices in (
            ("source", source, SOURCES),
            ("target", target, TARGETS),
            ("equation_order", equation_order, ("infix", "prefix")),
            ("on_bad_row", on_bad_row, ("error", "skip")),
        ):
            if value not in choices:
                raise ValueError(f"data.{name} is {value!r}, expected one of {', '.join(choices)}")
        if mask_numbers and target != "equation":
            raise ValueError(
                f"data.mask_numbers=true leaves no numbers to write a target {target!r} with: "
                "use data.target=equation or data.mask_numbers=false"
            )
        if not 0 < val_fraction < 1:
            raise ValueError(f"data.val_fraction is {val_fraction}, expected between 0 and 1")
        for name, size in (
            ("batch_size", batch_size),
            ("num_train", num_train),
            ("num_val", num_val),
            ("num_test", num_test),
        ):
            if size is not None and size < 1:
                raise ValueError(f"data.{name} is {size}, expected at least 1")
        self.tokenizer = tokenizer
        self.source = source
        self.paths: dict[str, str | None] = {"train": train, "val": val, "test": test}
        self.sizes: dict[str, int | None] = {"train": num_train, "val": num_val, "test": num_test}
        self.seed, self.val_fraction = seed, val_fraction
        self.generator = dict(generator or {})
        self.target, self.mask_numbers = target, mask_numbers
        self.equation_order, self.task_prefix = equation_order, task_prefix
        self.max_source_length, self.max_target_length = max_source_length, max_target_length
        self.batch_size, self.on_bad_row = batch_size, on_bad_row
        self.num_workers, self.bucket = num_workers, bucket

        self.problems: dict[str, list[Problem]] = {}
        self.num_left_out: dict[str, int] = {}
        self._encoded: dict[str, tuple[list[list[int]], list[list[int]]]] = {}
        self._skipped: set[int] = set()

    # --- problems -----------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        splits: tuple[Split, ...] = {
            "fit": ("train", "val"),
            "validate": ("val",),
        }.get(stage, ("test",))
        for split in splits:
            if split not in self._encoded:
                self._load(split)
                self._encode(split)
        if stage == "fit":
            self._check_overlap()

    def load(self, split: Split) -> list[Problem]:
        """Read or make the problems of a split, without tokenising them."""
        self._load(split)
        return self.problems[split]

    def _load(self, split: Split) -> None:
        if split in self.problems:
            return
        path, made = self.paths[split], self.source in ("procedural", "gsm_symbolic")
        train_is_read = self.paths["train"] is not None or not made
        if path is not None:
            problems = self._read(path, split)
        elif split == "val" and train_is_read:
            self._load("train")
            return
        elif made:
            problems = self._make(split)
        elif self.source in _HUB_DEFAULT and not (self.source == "svamp" and split == "train"):
            problems = self._read(_HUB_DEFAULT[self.source], split)
        else:
            source = "mawps_asdiv" if self.source == "svamp" else self.source
            raise ValueError(
                f"data.{split} is not set and data={self.source} has no download of its own: "
                + missing_message(f"(data.{split}=null)", source).partition(". ")[2]
            )
        if split == "train" and self.paths["val"] is None and train_is_read:
            problems, held_out = self._hold_out(problems)
            self.problems.setdefault("val", self._limit(held_out, "val"))
        self.problems[split] = self._limit(problems, split)
        log.info(
            "%s split: %d problems from %s, seed %d",
            split,
            len(self.problems[split]),
            self.paths[split] or self.source,
            self.seed,
        )

    def _make(self, split: Split) -> list[Problem]:
        count = self.sizes[split]
        if count is None:
            raise ValueError(f"data.num_{split} is null, expected how many problems to make")
        if self.source == "gsm_symbolic":
            return read_gsm_symbolic(count, self.seed * 3 + ("train", "val", "test").index(split))
        return ProceduralProblems(split, seed=self.seed, **self.generator).take(count)

    def _read(self, path: str, split: Split) -> list[Problem]:
        source = self.source if self.source not in ("procedural", "gsm_symbolic") else None
        problems, report = read(path, split, source, self.on_bad_row)
        self.num_left_out[f"{split}/bad_rows"] = report.bad_rows
        self.num_left_out[f"{split}/not_arithmetic"] = report.left_out.total()
        return problems

    def _hold_out(self, problems: list[Problem]) -> tuple[list[Problem], list[Problem]]:
        # Problems that differ in their numbers alone stay on one side of the split.
        groups: dict[str, list[int]] = {}
        for index, problem in enumerate(problems):
            groups.setdefault(problem.masked.lower(), []).append(index)
        if len(groups) == 1:  # one template: only single problems can be held out
            groups = {str(index): [index] for index in range(len(problems))}
        wordings = list(groups)
        random.Random(f"{self.seed}/split").shuffle(wordings)
        count = min(max(1, round(len(problems) * self.val_fraction)), len(problems) - 1)
        held_out: set[int] = set()
        for wording in wordings[:-1]:
            if len(held_out) >= count:
                break
            held_out.update(groups[wording])
        if not held_out:
            raise ValueError(
                f"{len(problems)} training problem cannot be split: pass data.val or more data"
            )
        log.info(
            "held out %d of %d training problems for validation, seed %d",
            len(held_out),
            len(problems),
            self.seed,
        )
        return (
            [problem for i, problem in enumerate(problems) if i not in held_out],
            [problem for i, problem in enumerate(problems) if i in held_out],
        )

    def _limit(self, problems: list[Problem], split: Split) -> list[Problem]:
        count = self.sizes[split]
        if count is None or count >= len(problems):
            return problems
        kept = sorted(random.Random(f"{self.seed}/{split}").sample(range(len(problems)), count))
        return [problems[i] for i in kept]

    def _check_overlap(self) -> None:
        seen = {problem.masked.lower() for problem in self.problems["train"]}
        doubled = sum(problem.masked.lower() in seen for problem in self.problems["val"])
        if doubled and self.source != "gsm_symbolic":
            log.warning(
                "%d of %d validation problems have the wording of a training problem",
                doubled,
                len(self.problems["val"]),
            )

    # --- tokens -------------------------------------------------------------------------------

    def _encode(self, split: Split) -> None:
        problems = self.problems[split]
        texts = [
            target_text(problem, self.target, self.mask_numbers, self.equation_order)
            for problem in problems
        ]
        if split == "train":
            problems = self._leave_out(
                split, problems, [text is not None for text in texts], f"without a {self.target}"
            )
            texts = [text for text in texts if text is not None]
        # An evaluated problem without an equation is still scored; its loss is against the answer.
        targets = self._tokenize(
            [
                format_number(problem.answer) if text is None else text
                for problem, text in zip(problems, texts, strict=True)
            ]
        )
        sources = self._tokenize(
            [source_text(problem, self.task_prefix, self.mask_numbers) for problem in problems]
        )
        fits = [
            len(source) <= self.max_source_length and len(target) <= self.max_target_length
            for source, target in zip(sources, targets, strict=True)
        ]
        if split == "train":
            reason = (
                f"longer than {self.max_source_length} source or "
                f"{self.max_target_length} target tokens"
            )
            problems = self._leave_out(split, problems, fits, reason)
            sources = [ids for ids, fit in zip(sources, fits, strict=True) if fit]
            targets = [ids for ids, fit in zip(targets, fits, strict=True) if fit]
        elif not all(fits):
            log.warning(
                "%d of %d %s problems are longer than %d source or %d target tokens; "
                "they are kept whole",
                fits.count(False),
                len(fits),
                split,
                self.max_source_length,
                self.max_target_length,
            )
        self.problems[split] = problems
        self._encoded[split] = (sources, targets)

    def _leave_out(
        self, split: Split, problems: list[Problem], keep: list[bool], reason: str
    ) -> list[Problem]:
        dropped = keep.count(False)
        if not dropped:
            return problems
        self.num_left_out[f"{split}/{reason}"] = dropped
        if dropped == len(problems):
            raise ValueError(f"all {dropped} {split} problems are {reason}: nothing is left to use")
        log.warning("%d of %d %s problems left out: %s", dropped, len(keep), split, reason)
        return [problem for problem, kept in zip(problems, keep, strict=True) if kept]

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts)["input_ids"] if texts else []

    # --- batches ------------------------------------------------------------------------------

    def _processes(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)

    def _dataset(self, split: Split, order: Sequence[int], scored: bool) -> _Encoded:
        return _Encoded(self.problems[split], *self._encoded[split], order, scored)

    def _lengths(self, split: Split) -> list[int]:
        sources, targets = self._encoded[split]
        return [len(s) + len(t) for s, t in zip(sources, targets, strict=True)]

    def train_dataloader(self) -> StatefulDataLoader:
        rank, world_size = self._processes()
        lengths = self._lengths("train")
        sampler = BucketBatchSampler(
            lengths,
            self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            bucket=self.bucket,
        )
        with warnings.catch_warnings():
            # torchdata 0.11 sets a marker that torch 2.15 no longer has.
            warnings.filterwarnings("ignore", message="'set_vital' is deprecated")
            return StatefulDataLoader(
                self._dataset("train", range(len(lengths)), scored=False),
                batch_sampler=sampler,
                collate_fn=_Collate(self.tokenizer.pad_token_id),
                num_workers=self.num_workers,
            )

    def _evaluation_loader(self, split: Split, skipped: set[int]) -> DataLoader[dict[str, Any]]:
        rank, world_size = self._processes()
        lengths = self._lengths(split)
        order = sorted(set(range(len(lengths))) - skipped, key=lambda i: (-lengths[i], i))
        return DataLoader(
            self._dataset(split, order[rank::world_size], scored=True),
            batch_size=self.batch_size,
            collate_fn=_Collate(self.tokenizer.pad_token_id),
        )

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._evaluation_loader("val", set())

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._evaluation_loader("test", set())

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of the test problems that are not skipped, in this rank's share."""
        return self._evaluation_loader("test", self._skipped)

    def skip(self, indices: set[int]) -> None:
        """Leave out test problems whose predictions already exist, by index."""
        self._skipped = set(indices)

    def describe(self) -> dict[str, Any]:
        """Say what the splits are: seed, sizes and what was left out, for loggers."""
        return {
            "source": self.source,
            "seed": self.seed,
            **{f"num_{split}": len(problems) for split, problems in self.problems.items()},
            **self.num_left_out,
        }
