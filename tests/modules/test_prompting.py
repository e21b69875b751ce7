"""The study's loop on tiny models: batches that change nothing, cells that fail, resuming."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import Trainer

from src.algorithms.prompting import Generated, PromptTemplate
from src.callbacks.prompt_report import PromptReport
from src.datamodules.problems import MathProblems
from src.datamodules.prompt_grid import PromptGrid
from src.modules.lora import LoRA
from src.modules.prefix_tuning import PrefixTuning
from src.modules.prompting import Prompting, _Prompted
from tests.tiny_models import causal_spec, t5_spec

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "strategy"
STORED = Path(__file__).with_name("stored_prompts.json")
STRATEGIES: dict[str, Any] = {
    "zero_shot": {"question": "Q: {question}\nA:", "max_new_tokens": 5},
    "few_shot": {
        "question": "Q: {question}\nA:", "demonstration": " {answer}", "num_shots": [1],
        "max_new_tokens": 4, "selection": "nearest", "stop": ["\n"],
    },
    "voted": {
        "question": "Q: {question}\nA:", "num_samples": 3, "temperature": 0.8,
        "max_new_tokens": 4,
    },
}  # fmt: skip


def all_strategies() -> dict[str, Any]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONFIGS.glob("*.yaml"))}


def problems(num_test: int = 3) -> MathProblems:
    return MathProblems(tokenizer=None, num_train=30, num_test=num_test, num_val=1)


def study(
    folder: Path,
    models: dict[str, Any],
    strategies: dict[str, Any] | None = None,
    batch_size: int = 2,
    module: type[Prompting] = Prompting,
    num_test: int = 3,
) -> list[dict[str, Any]]:
    strategies = strategies or STRATEGIES
    grid = PromptGrid(problems(num_test), models, strategies, batch_size=batch_size)
    writer = PromptReport(str(folder), fingerprint={"strategies": strategies})
    trainer = Trainer(
        accelerator="cpu", logger=False, callbacks=[writer], enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.predict(module(models, strategies), datamodule=grid, return_predictions=False)
    return [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]


def answers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def test_the_batch_size_changes_no_answer(tmp_path: Path) -> None:
    models = {"tiny_t5": t5_spec(tmp_path), "tiny_lm": causal_spec(tmp_path)}
    alone = study(tmp_path / "one", models, batch_size=1)
    together = study(tmp_path / "many", models, batch_size=15)
    assert answers(alone) == answers(together)
    assert len(alone) == 2 * 3 * 3
    outputs = {row["output"] for row in alone}
    assert len(outputs) > 6, "the random models say different things"
    sampled = [row["samples"] for row in alone if row["strategy"] == "voted"]
    assert any(len(set(samples)) > 1 for samples in sampled)


def test_a_row_says_what_was_asked_and_what_came_back(tmp_path: Path) -> None:
    rows = study(tmp_path / "out", {"tiny_lm": causal_spec(tmp_path)})
    row = next(row for row in rows if row["strategy"] == "few_shot")
    assert row["prompt"].startswith("<user>Q: ")
    assert row["prompt"].endswith(f"<user>Q: {row['question']}\nA:|<assistant>")
    assert row["num_examples"] == 1
    assert row["num_prompt_tokens"] == len(row["prompt"])
    assert 1 <= row["num_tokens"] <= 4
    assert [row["index"] for row in rows] == list(range(9))
    voted = next(row for row in rows if row["strategy"] == "voted")
    assert len(voted["samples"]) == len(voted["sampled_answers"]) == 3


class Interrupted(Prompting):
    """Stops as a killed process would, after some batches."""

    asked: list[int] = []  # noqa: RUF012
    stop_after = 3

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        if len(Interrupted.asked) >= Interrupted.stop_after:
            raise KeyboardInterrupt
        Interrupted.asked += batch["index"]
        return super().predict_step(batch, batch_idx)


class Counted(Prompting):
    """Notes what it is asked."""

    asked: list[int] = []  # noqa: RUF012

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        Counted.asked += batch["index"]
        return super().predict_step(batch, batch_idx)


def test_a_stopped_study_goes_on_without_repeating_a_row(tmp_path: Path) -> None:
    models = {"tiny_t5": t5_spec(tmp_path)}
    whole = study(tmp_path / "whole", models)
    Interrupted.asked, Counted.asked = [], []
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        study(tmp_path / "resumed", models, module=Interrupted)
    assert not (tmp_path / "resumed" / "prompts.jsonl").exists()
    resumed = study(tmp_path / "resumed", models, module=Counted)
    assert sorted(Interrupted.asked + Counted.asked) == list(range(9))
    assert set(Interrupted.asked).isdisjoint(Counted.asked)
    assert answers(resumed) == answers(whole)


class Killed(Prompting):
    """Is killed at its third batch."""

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        if batch_idx == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict_step(batch, batch_idx)


def test_a_killed_study_goes_on_without_repeating_a_row(tmp_path: Path) -> None:
    models = {"tiny_t5": t5_spec(tmp_path)}
    arguments = (tmp_path / "killed", models, STRATEGIES, 2, Killed)
    process = multiprocessing.get_context("spawn").Process(target=study, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    Counted.asked = []
    resumed = study(tmp_path / "killed", models, module=Counted)
    assert sorted(Counted.asked) == list(range(3, 9)), "the first cell, two batches, was written"
    assert answers(resumed) == answers(study(tmp_path / "whole", models))


def test_a_failing_cell_is_reported_and_the_rest_goes_on(tmp_path: Path, capsys: Any) -> None:
    models = {
        "missing": {"name": "missing", "family": "t5", "path": str(tmp_path / "nowhere")},
        "tiny_lm": causal_spec(tmp_path),
    }
    with pytest.warns(UserWarning, match="failed .* going on"):
        rows = study(tmp_path / "out", models, {"zero_shot": STRATEGIES["zero_shot"]})
    failed = [row for row in rows if row["model"] == "missing"]
    assert len(failed) == 3
    assert all("does not exist" in row["error"] and row["correct"] is None for row in failed)
    assert all("error" not in row for row in rows if row["model"] == "tiny_lm")
    shown = capsys.readouterr().out
    assert "Failed: missing / zero_shot / k=0" in shown


def test_prompts_are_byte_for_byte_the_stored_ones(tmp_path: Path) -> None:
    """Delete ``stored_prompts.json`` and run once to store what the templates now give."""
    # Problems of its own: the generator's wording may change, the prompts' form may not.
    header = "Question,Numbers,Equation,Answer"
    frozen = {
        "train": [
            "Ann has number0 pens and finds number1 more . How many pens does she have ?,3 4,"
            "+ number0 number1,7.0",
            "A box holds number0 eggs . How many eggs are in number1 boxes ?,6 5,"
            "* number0 number1,30.0",
            "Ben had number0 coins . He spent number1 . How many are left ?,20 8,"
            "- number0 number1,12.0",
            "number0 children share number1 nuts evenly . How many does each get ?,4 36,"
            "/ number1 number0,9.0",
        ],
        "test": [
            "Eve read number0 pages on each of number1 days . How many ?,15 3,"
            "* number0 number1,45.0"
        ],
    }
    for split, lines in frozen.items():
        (tmp_path / f"{split}.csv").write_text("\n".join([header, *lines]) + "\n")
    data = MathProblems(
        tokenizer=None, source="mawps_asdiv", train=str(tmp_path / "train.csv"),
        val=str(tmp_path / "test.csv"), test=str(tmp_path / "test.csv"),
    )  # fmt: skip
    grid = PromptGrid(data, ["m"], all_strategies())
    grid.setup("predict")
    asked = {
        "t5": _Prompted(t5_spec(tmp_path)),
        "causal_lm with a chat template": _Prompted(causal_spec(tmp_path)),
        "causal_lm": _Prompted(causal_spec(tmp_path, chat=False)),
    }
    for model in asked.values():
        model.limit = 100_000  # one token a character: nothing is to be shortened here
    made = {}
    for family, model in asked.items():
        for cell in grid.cells:
            template = PromptTemplate.from_mapping(cell.strategy, all_strategies()[cell.strategy])
            prompt = model.prompt(template, grid.test[0].question, grid.examples(cell, 0))
            made[f"{family} / {cell.strategy} / {cell.num_shots}"] = prompt.text
    if not STORED.exists():
        STORED.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    assert made == json.loads(STORED.read_text())


@pytest.mark.parametrize(
    ("output", "parsed"), [(" I do not know.", None), (" It is 3 more.", "3"), ("0 in all", "0")]
)
def test_a_number_of_the_cue_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, parsed: str | None
) -> None:
    def generate(model: Any, tokenizer: Any, prompts: list[Any], *rest: Any) -> list[Generated]:
        return [Generated(output, 5) for _ in prompts]

    monkeypatch.setattr("src.modules.prompting.generate", generate)
    strategy = {"guided": {**STRATEGIES["zero_shot"], "cue": "\nSub-question 1:"}}
    rows = study(tmp_path / "out", {"tiny_t5": t5_spec(tmp_path)}, strategy, num_test=2)
    assert [(row["output"], row["parsed"]) for row in rows] == [(output, parsed)] * 2


def test_long_prompts_lose_examples_and_are_counted(tmp_path: Path) -> None:
    spec = {**t5_spec(tmp_path), "max_prompt_tokens": 150}
    strategy = {"few_shot": {**STRATEGIES["few_shot"], "num_shots": [4]}}
    rows = study(tmp_path / "out", {"tiny_t5": spec}, strategy, num_test=2)
    assert all(row["num_examples"] + row["num_examples_dropped"] == 4 for row in rows)
    assert sum(row["num_examples_dropped"] for row in rows) > 0
    fits = [row for row in rows if row["num_examples"]]
    assert all(row["num_prompt_tokens"] <= 150 for row in fits)


def test_a_model_of_another_family_cannot_be_prompted() -> None:
    clip = {"name": "clip", "family": "clip", "random": True}
    with pytest.raises(ValueError, match="prompts need a t5 or a causal_lm"):
        Prompting({"clip": clip}, STRATEGIES)


def test_a_study_without_any_answer_is_an_error(tmp_path: Path) -> None:
    models = {"missing": {"name": "missing", "family": "t5", "path": str(tmp_path / "nowhere")}}
    with (
        pytest.warns(UserWarning, match="failed .* going on"),
        pytest.raises(ValueError, match=r"no model gave an answer; .* does not exist"),
    ):
        study(tmp_path / "out", models, {"zero_shot": STRATEGIES["zero_shot"]})
    assert (tmp_path / "out" / "prompts.jsonl").exists()


@pytest.mark.parametrize("kind", ["checkpoint", "export"])
@pytest.mark.parametrize("method", [LoRA, PrefixTuning])
def test_an_adapted_model_is_asked_as_it_was_trained(
    tmp_path: Path, method: type[LoRA | PrefixTuning], kind: str
) -> None:
    spec = t5_spec(tmp_path)
    data = MathProblems(
        tokenizer=_Prompted(spec).tokenizer, num_train=4, num_val=2, num_test=3,
        max_source_length=400, batch_size=2, task_prefix="work out: ",
    )  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", logger=False, max_steps=1, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, limit_val_batches=0,
        num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    size = {"rank": 2} if method is LoRA else {"num_virtual_tokens": 2, "mlp_dim": 4}
    module = method(backbone=spec, max_new_tokens=6, **size)  # pyright: ignore[reportArgumentType]
    trainer.fit(module, datamodule=data)
    path = tmp_path / "best.ckpt"
    trainer.save_checkpoint(path)
    if kind == "export":
        path = tmp_path / "export"
        module.export(path)
    grid = PromptGrid(problems(3), ["tiny_t5"], {"zero_shot": STRATEGIES["zero_shot"]}, str(path))
    writer = PromptReport(str(tmp_path / "out"))
    predicting = Trainer(
        accelerator="cpu", logger=False, callbacks=[writer], enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    study_module = Prompting({"tiny_t5": spec}, {"zero_shot": STRATEGIES["zero_shot"]})
    predicting.predict(study_module, datamodule=grid, return_predictions=False)
    rows = [json.loads(x) for x in (tmp_path / "out" / "prompts.jsonl").read_text().splitlines()]
    adapted = rows[3:]
    assert {row["model"] for row in rows[:3]} == {"tiny_t5"}
    assert {(row["model"], row["strategy"]) for row in adapted} == {
        (f"tiny_t5 + {method.method}", "as trained")
    }
    assert all("question" in row and row["prompt"] for row in adapted)
    assert {row["run"] for row in adapted} == {str(path)}
