"""The prompt study as a datamodule: every cell (model, strategy, k) on the same test problems.

Decides what each row of the study asks of which model and with which examples; how that becomes a
prompt is the business of ``src/algorithms/prompting.py``. Rows are numbered cell by cell: row
``index`` is problem ``index % num_problems`` of cell ``index // num_problems``.

A batch holds rows of one cell, as plain Python objects under these keys:

- ``model``, ``strategy`` (str) and ``num_shots`` (int): the cell; a model named
  ``checkpoint:PATH`` is an adapted one, asked in the form it was trained on;
- lists of one entry a row: ``index`` (int), ``position`` (int, in the test split), ``question``,
  ``masked``, ``numbers``, ``gold``, ``tolerance`` (as ``MathProblems`` gives them) and ``examples``
  (list of mappings with ``question``, ``answer``, ``rationale``, ``equation``).

Examples come from the training split only, and never one whose question is a test question.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from src.algorithms.prompting import (
    PromptTemplate,
    clean_rationale,
    lexical_embedding,
    normalize_question,
    select_examples,
)
from src.datamodules.problems import MathProblems, target_text
from src.datamodules.readers import Problem

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint:"
#: The strategy of an adapted model: asked as it was trained, with no example.
AS_TRAINED = "as trained"

Embed = Callable[[Sequence[str]], Any]


@dataclass(frozen=True)
class Cell:
    """One cell of the grid.

    Attributes:
        model: Name of a backbone, or ``checkpoint:PATH``.
        strategy: Name of the strategy.
        num_shots: Examples shown.
    """

    model: str
    strategy: str
    num_shots: int


class PromptGrid(LightningDataModule):
    """Pairs every cell of the study with every test problem.

    Args:
        problems: Where the test problems and the examples come from.
        models: Names of the backbones; of a mapping, its keys.
        strategies: Name of each strategy to its settings (``PromptTemplate.from_mapping``).
        checkpoints: Adapted models to set beside them: files or run directories of train.py.
        shots: Numbers of examples for every strategy that shows any, instead of its own.
        batch_size: Rows of a batch; samples count as rows.
        seed: Seed of the random choice of examples.
        embed: Texts to vectors of shape (texts, d), for the choice of nearest examples; None takes
            words weighted by rarity.

    Raises:
        ValueError: If there is nothing to ask, a strategy is malformed, or (in ``setup``) more
            examples are asked for than the training split has.
    """

    def __init__(
        self,
        problems: MathProblems,
        models: Sequence[str] | Mapping[str, Any],
        strategies: Mapping[str, Mapping[str, Any]],
        checkpoints: Sequence[str] | str | None = None,
        shots: Sequence[int] | int | None = None,
        batch_size: int = 25,
        seed: int = 0,
        embed: Embed | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1.")
        listed = [checkpoints] if isinstance(checkpoints, str) else checkpoints or []
        # Rows of a cell that is named twice would count twice.
        listed, models = list(dict.fromkeys(listed)), list(dict.fromkeys(models))
        if not strategies and not listed:
            raise ValueError("no strategy is chosen: give for example strategies=[zero_shot].")
        if not models and not listed:
            raise ValueError("no model is chosen: give for example models=[t5_mini,smollm2].")
        self.problems, self.seed, self.batch_size, self.embed = problems, seed, batch_size, embed
        self.templates = {
            name: PromptTemplate.from_mapping(name, settings)
            for name, settings in strategies.items()
        }
        if shots is not None:
            shots = [shots] if isinstance(shots, int) else list(shots)
            self.templates = {
                name: _with_shots(template, strategies[name], shots)
                for name, template in self.templates.items()
            }
        self.cells = [
            Cell(model, name, k)
            for model in models
            for name, template in self.templates.items()
            for k in template.num_shots
        ] + [Cell(CHECKPOINT + path, AS_TRAINED, 0) for path in listed]
        self.test: list[Problem] = []
        self.pool: list[Problem] = []
        self.num_overlapping = 0
        self._skipped: set[int] = set()

    def setup(self, stage: str) -> None:
        if self.test:
            return
        self.test = self.problems.load("test")
        if not any(cell.num_shots for cell in self.cells):
            return
        seen = {normalize_question(problem.question) for problem in self.test}
        train = self.problems.load("train")
        self.pool = [p for p in train if normalize_question(p.question) not in seen]
        self.num_overlapping = len(train) - len(self.pool)
        if self.num_overlapping:
            log.warning(
                "%d of %d training problems are also test problems and are never shown as examples",
                self.num_overlapping,
                len(train),
            )
        self._shown = {name: self._showable(t) for name, t in self.templates.items()}
        for cell in self.cells:
            select_examples("fixed", cell.num_shots, len(self._shown.get(cell.strategy, [])), 0)
        self._similarity = self._similarities()

    def skip(self, indices: set[int]) -> None:
        """Leave out the rows that are there already, by index."""
        self._skipped = set(indices)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of this rank's rows, each of one cell, cell after cell."""
        total = len(self.cells) * len(self.test)
        remaining = [index for index in range(total) if index not in self._skipped]
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        by_cell: dict[int, list[int]] = {}
        for index in remaining[rank::world]:
            by_cell.setdefault(index // len(self.test), []).append(index)
        batches = []
        for cell, indices in by_cell.items():
            # Problems of similar length together: less padding.
            indices.sort(key=lambda i: (len(self.test[i % len(self.test)].question), i))
            template = self.templates.get(self.cells[cell].strategy)
            size = max(1, self.batch_size // (template.num_samples if template else 1))
            batches += [indices[i : i + size] for i in range(0, len(indices), size)]
        return DataLoader(_Batches(self, batches), batch_size=None)

    # ------------------------------------------------------------------ rows

    def make_batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """Assemble a batch (see the module docstring) from rows of one cell."""
        cell = self.cells[indices[0] // len(self.test)]
        positions = [index % len(self.test) for index in indices]
        chosen = [self.test[position] for position in positions]
        return {
            "model": cell.model,
            "strategy": cell.strategy,
            "num_shots": cell.num_shots,
            "index": list(indices),
            "position": positions,
            "question": [problem.question for problem in chosen],
            "masked": [problem.masked for problem in chosen],
            "numbers": [problem.numbers for problem in chosen],
            "gold": [str(problem.answer) for problem in chosen],
            "tolerance": [str(problem.tolerance) for problem in chosen],
            "examples": [self.examples(cell, position) for position in positions],
        }

    def examples(self, cell: Cell, position: int) -> list[dict[str, str]]:
        """Return the examples shown with one test problem, in their order."""
        if cell.num_shots == 0:
            return []
        shown = self._shown[cell.strategy]
        selection = self.templates[cell.strategy].selection
        similarity = None
        if selection == "nearest":
            similarity = self._similarity[position, [place for place, _ in shown]]
        picks = select_examples(
            selection, cell.num_shots, len(shown), position, self.seed, similarity
        )
        return [shown[pick][1] for pick in picks]

    def _showable(self, template: PromptTemplate) -> list[tuple[int, dict[str, str]]]:
        """Return the pool's problems that have what the template shows, with their places."""
        needed = template.example_field
        if needed is None:
            return []
        shown = []
        for place, problem in enumerate(self.pool):
            example = {"question": problem.question}
            for name in ("answer", "rationale", "equation"):
                text = target_text(problem, name, mask_numbers=False, equation_order="infix")
                if text is not None:
                    example[name] = clean_rationale(text) if name == "rationale" else text
            if example.get(needed):
                shown.append((place, example))
        return shown

    def _similarities(self) -> NDArray[np.float64]:
        """Return the cosine of each test question to each of the pool, if any strategy asks."""
        used = {cell.strategy for cell in self.cells if cell.num_shots}
        if not any(self.templates[name].selection == "nearest" for name in used):
            return np.empty((0, 0))
        test = [problem.question for problem in self.test]
        pool = [problem.question for problem in self.pool]
        if self.embed is None:
            return lexical_embedding(test, pool) @ lexical_embedding(pool, pool).T
        vectors = np.asarray(self.embed([*test, *pool]), dtype=np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors[: len(test)] @ vectors[len(test) :].T


def _with_shots(
    template: PromptTemplate, settings: Mapping[str, Any], shots: Sequence[int]
) -> PromptTemplate:
    """Return the template with other numbers of examples, if it shows any."""
    if template.example_field is None:
        return template
    return PromptTemplate.from_mapping(template.name, {**settings, "num_shots": list(shots)})


class _Batches(Dataset[dict[str, Any]]):
    """Batches that are assembled when they are asked for."""

    def __init__(self, grid: PromptGrid, batches: Sequence[Sequence[int]]) -> None:
        self.grid, self.batches = grid, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.grid.make_batch(self.batches[position])
