"""The ladder: every rung once, whatever interrupts it, and a table that the report can fit."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lightning.pytorch import Trainer
from rich.console import Console

from src.algorithms.scaling import read_runs
from src.datamodules.ladder_texts import LadderTexts, WordTokenizer
from src.modules.pretraining import Pretraining
from src.reports.ladder import ScalingLadder

SIZES = {
    "a": {"d_model": 4, "d_kv": 2, "d_ff": 4, "num_heads": 1, "num_layers": 1},
    "b": {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_heads": 2, "num_layers": 1,
          "learning_rate": 0.02},
    "c": {"d_model": 12, "d_kv": 4, "d_ff": 8, "num_heads": 2, "num_layers": 1},
}  # fmt: skip


def texts() -> LadderTexts:
    return LadderTexts(num_val=20, num_vocabulary=100, batch_size=16)


def ladder(folder: Path, trainers: list[Any] | None = None, **arguments: Any) -> ScalingLadder:
    def trainer() -> Trainer:
        made = Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        if trainers is not None:
            trainers.append(made)
        return made

    module = partial(Pretraining, average_decay=0.0)
    settings = {"sizes": SIZES, "tokens": [600, 1200], "report": {"num_bootstrap": 2}, **arguments}
    return ScalingLadder(
        str(folder), data=texts(), module=module, trainer=trainer,
        console=Console(file=io.StringIO(), width=120), **settings,
    )  # fmt: skip


def test_an_interrupted_ladder_goes_on_and_its_table_can_be_fitted(tmp_path: Path) -> None:
    trainers: list[Any] = []
    first = ladder(tmp_path, trainers)
    first.max_flops = first._estimate("b", 600)  # the cheap rungs only
    short = [rung for rung in first.rungs if not first._too_costly(rung)]
    assert ("b", 600) in short
    assert 0 < len(short) < 6
    trained = []
    for name, count in short[:1]:
        trained.append(first._train(name, count))
        first._write(trained)
    del trainers[:]
    metrics = ladder(tmp_path, trainers)()
    assert len(trainers) == 6 - len(trained)
    table = pd.read_csv(tmp_path / "runs.csv")
    assert len(table) == 6
    assert not table.duplicated(["model", "asked"]).any()
    assert (table["tokens"] >= table["asked"]).all()
    runs = read_runs(tmp_path / "runs.csv", flops="column")
    assert (runs.flops == table["flops"]).all()
    assert metrics["fit/num_runs"] == 6
    assert (tmp_path / "scaling.json").exists()
    del trainers[:]
    again = ladder(tmp_path, trainers)
    again._read()
    assert not [
        r for r in again.rungs if r not in {(x["model"], x["asked"]) for x in again._read()}
    ]


def test_a_table_of_another_ladder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("params,tokens,loss\n1,1,1\n")
    with pytest.raises(ValueError, match="no table of this ladder"):
        ladder(tmp_path)()
    with pytest.raises(ValueError, match="2 rungs cannot determine"):
        ladder(tmp_path, tokens=[600], sizes=dict(list(SIZES.items())[:2]))
    with pytest.raises(ValueError, match=r"sizes\.z lacks d_ff"):
        ladder(tmp_path, sizes={"z": {"d_model": 4, "d_kv": 2, "num_heads": 1, "num_layers": 1}})


def test_a_table_of_another_seed_or_size_is_refused(tmp_path: Path) -> None:
    first = ladder(tmp_path)
    first._write([first._train("a", 600)])
    with pytest.raises(ValueError, match="runs of seed 0, and this ladder has seed 1; give"):
        ladder(tmp_path, seed=1)()
    sizes = {**SIZES, "a": {**SIZES["a"], "d_ff": 6}}
    with pytest.raises(ValueError, match=r"runs of a with [\d,]+ parameters, and sizes\.a now"):
        ladder(tmp_path, sizes=sizes)()


def test_a_smaller_amount_of_text_is_the_beginning_of_a_larger_one() -> None:
    data = texts()
    data.num_tokens = 500
    data.setup("fit")
    small = data.chosen()
    held_out = {tuple(s) + tuple(t) for s, t in data._validation}
    data.num_tokens = 40_000
    data.setup("fit")
    large = data.chosen()
    assert large[: len(small)] == small
    assert 40_000 <= sum(len(s) + len(t) for s, t in large) < 40_200
    assert {tuple(s) + tuple(t) for s, t in data._validation} == held_out
    batches = list(data.train_dataloader())
    assert sum(len(batch["labels"]) for batch in batches) == len(large)
    batch = batches[0]
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert ((batch["labels"] == -100) | (batch["labels"] > 0)).all()


def test_words_are_tokens_and_digits_stand_alone() -> None:
    tokenizer = WordTokenizer(["Two pies, 25 pies."] * 5)
    ids = tokenizer.encode("pies 52 cakes")
    assert len(ids) == 4
    assert ids[-1] == 2  # unknown
    assert len(tokenizer) == 3 + len({"two", "pies", ",", "2", "5", "."})
