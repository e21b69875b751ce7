"""The grid: which rows there are, what they show, and that no test answer leaks."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from src.algorithms.prompting import normalize_question
from src.datamodules.problems import MathProblems
from src.datamodules.prompt_grid import AS_TRAINED, PromptGrid

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "strategy"
FEW = {"question": "Q: {question}", "demonstration": " {rationale} {answer}", "num_shots": [2]}


def all_strategies() -> dict[str, Any]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONFIGS.glob("*.yaml"))}


def grid(strategies: dict[str, Any], num_test: int = 6, **arguments: Any) -> PromptGrid:
    data = MathProblems(tokenizer=None, num_train=40, num_test=num_test, num_val=1)
    made = PromptGrid(data, ["a", "b"], strategies, **arguments)
    made.setup("predict")
    return made


def test_every_strategy_file_is_a_template() -> None:
    made = grid(all_strategies())
    assert len(made.templates) >= 9
    assert all(made.templates[name].name == name for name in made.templates)


def test_every_row_appears_once_whatever_the_batch_size_and_the_ranks() -> None:
    for batch_size in (1, 4, 100):
        made = grid({"z": {"question": "{question}"}, "f": FEW}, batch_size=batch_size)
        seen = []
        for rank in range(3):
            made.trainer = SimpleNamespace(global_rank=rank, world_size=3)  # type: ignore
            for batch in made.predict_dataloader():
                assert len(batch["index"]) <= batch_size
                seen += batch["index"]
        assert sorted(seen) == list(range(2 * 2 * 6))


def test_samples_count_as_rows_of_a_batch() -> None:
    sampled = {"question": "{question}", "num_samples": 5, "temperature": 0.5}
    made = grid({"s": sampled}, batch_size=10)
    assert {len(batch["index"]) for batch in made.predict_dataloader()} == {2}


def test_rows_that_are_done_are_left_out() -> None:
    made = grid({"z": {"question": "{question}"}})
    made.skip({0, 3, 11})
    seen = [index for batch in made.predict_dataloader() for index in batch["index"]]
    assert sorted(seen) == [i for i in range(12) if i not in (0, 3, 11)]


@pytest.mark.parametrize("strategy", sorted(all_strategies()))
def test_no_test_problem_and_no_test_answer_is_shown(strategy: str) -> None:
    made = grid({strategy: all_strategies()[strategy]}, num_test=20)
    test = {normalize_question(problem.question) for problem in made.test}
    train = {problem.question for problem in made.problems.load("train")}
    for cell in made.cells:
        for position, problem in enumerate(made.test):
            shown = made.examples(cell, position)
            assert len(shown) == cell.num_shots
            assert len({example["question"] for example in shown}) == cell.num_shots
            for example in shown:
                assert example["question"] in train
                assert normalize_question(example["question"]) not in test
                assert example["question"] != problem.question


def test_a_test_problem_in_the_training_split_is_never_an_example(tmp_path: Path) -> None:
    lines = [
        json.dumps({"question": f"What is {i} plus 1?", "answer": f"#### {i + 1}"})
        for i in range(8)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    (tmp_path / "test.jsonl").write_text("\n".join(lines[:3]).replace("What", "what"))
    data = MathProblems(
        tokenizer=None, source="gsm8k", train=str(tmp_path / "train.jsonl"),
        test=str(tmp_path / "test.jsonl"), val=str(tmp_path / "test.jsonl"),
    )  # fmt: skip
    few = {"question": "{question}", "demonstration": "{answer}", "selection": "nearest"}
    made = PromptGrid(data, ["a"], {"f": {**few, "num_shots": [5]}})
    made.setup("predict")
    assert made.num_overlapping == 3
    shown = {e["question"] for i in range(3) for e in made.examples(made.cells[0], i)}
    assert shown == {f"What is {i} plus 1?" for i in range(3, 8)}
    more = PromptGrid(data, ["a"], {"f": {**few, "num_shots": [6]}})
    with pytest.raises(ValueError, match="6 examples are asked for"):
        more.setup("predict")


def test_shots_replace_those_of_every_strategy_that_shows_examples() -> None:
    made = grid({"z": {"question": "{question}"}, "f": FEW}, shots=[1, 3])
    cells = [(cell.strategy, cell.num_shots) for cell in made.cells if cell.model == "a"]
    assert cells == [("z", 0), ("f", 1), ("f", 3)]


def test_adapted_models_are_cells_of_their_own() -> None:
    made = grid({"z": {"question": "{question}"}}, checkpoints=["run", "other", "run"])
    assert [cell.model for cell in made.cells[-2:]] == ["checkpoint:run", "checkpoint:other"]
    made = grid({"z": {"question": "{question}"}}, checkpoints=["run"])
    assert made.cells[-1].strategy == AS_TRAINED
    assert made.cells[-1].model == "checkpoint:run"


def test_random_examples_depend_on_the_seed_alone() -> None:
    few = {**FEW, "selection": "random"}
    first, again, other = (grid({"f": few}, seed=seed) for seed in (1, 1, 2))
    cell = first.cells[0]
    shown = [[m.examples(cell, i) for i in range(6)] for m in (first, again, other)]
    assert shown[0] == shown[1]
    assert shown[0] != shown[2]
    assert shown[0][0] != shown[0][1]


def test_nearest_examples_can_come_from_an_embedding() -> None:
    def by_length(texts: Any) -> list[list[float]]:
        return [[len(text), 1000.0] for text in texts]

    made = grid({"f": {**FEW, "selection": "nearest"}}, embed=by_length)
    lengths = sorted(len(p.question) for p in made.pool)
    asked = len(made.test[0].question)
    best = min(lengths, key=lambda length: abs(length - asked))
    assert len(made.examples(made.cells[0], 0)[-1]["question"]) == best


def test_nothing_to_ask_is_refused() -> None:
    data = MathProblems(tokenizer=None, num_train=4, num_test=2, num_val=1)
    with pytest.raises(ValueError, match="no strategy is chosen"):
        PromptGrid(data, ["a"], {})
    with pytest.raises(ValueError, match="no model is chosen"):
        PromptGrid(data, [], {"z": {"question": "{question}"}})
    with pytest.raises(ValueError, match="batch_size is 0"):
        PromptGrid(data, ["a"], {"z": {"question": "{question}"}}, batch_size=0)
