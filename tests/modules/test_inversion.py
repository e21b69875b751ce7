import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from src.backbones import load_clip
from src.callbacks.inversions import FIELDS, InversionWriter
from src.datamodules.embeddings import Embeddings
from src.modules.inversion import Inversion, check_width, search
from tests.tiny_clip import EXPECTED_WARNINGS, write_bert

pytestmark = EXPECTED_WARNINGS

TEXTS = ["red cat", "the old man", "red cat", "house"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_bert(tmp_path_factory.mktemp("bert"))
    return {"name": "tiny", "family": "clip", "path": str(folder), "text": "hf"}


@pytest.fixture(scope="module")
def targets(spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    clip = load_clip(spec)
    with torch.no_grad():
        z = clip.model.encode_text(clip.tokenizer(TEXTS)) * 3
    path = tmp_path_factory.mktemp("targets") / "targets.npy"
    np.save(path, z.numpy())
    return path


def run(
    spec: dict[str, Any],
    targets: Path,
    out: Path,
    logger: Any = False,
    data: dict[str, Any] | None = None,
    **settings: Any,
) -> Inversion:
    model = Inversion(spec, str(out / "cache"), **{"budget": 6000, **settings})
    writer = InversionWriter(str(out), {"model": settings}, show_progress=False)
    trainer = Trainer(
        accelerator="cpu",
        logger=logger,
        callbacks=[writer],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.predict(
        model, datamodule=Embeddings(str(targets), **(data or {})), return_predictions=False
    )
    return model


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "inversions.jsonl").read_text().splitlines()]


def test_the_files_agree(spec: dict[str, Any], targets: Path, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path / "tb")
    run(spec, targets, tmp_path, logger=logger)
    found = rows(tmp_path)
    assert [row["index"] for row in found] == [0, 1, 2, 3]
    assert all(tuple(row) == FIELDS for row in found)
    assert [row["text"] for row in found] == TEXTS
    assert all(row["exact"] and row["cosine"] > 1 - 1e-5 for row in found)
    # Doubles are solved once and reported for each.
    assert {**found[0], "index": 2} == found[2]
    assert all(len(row["alternatives"]) == 5 for row in found)
    assert (tmp_path / "Q5.txt").read_text().splitlines() == [row["text"] for row in found]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["invert/num_exact"] == 4
    assert metrics["invert/exact_rate"] == 1.0
    assert metrics["invert/one_off_evaluations"] > 0
    assert list((tmp_path / "cache").glob("tokens-tiny-*.safetensors"))
    assert list((tmp_path / "tb").rglob("events.*"))


def test_an_interrupted_run_keeps_what_was_solved(
    spec: dict[str, Any], targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Inversion, *args: Any) -> Any:
        raise KeyboardInterrupt

    solved: list[int] = []
    original = Inversion.rows_of

    def one_then_stop(self: Inversion, result: Any, indices: Any, background: float) -> Any:
        if solved:
            raise RuntimeError("the power went")
        solved.extend(indices)
        return original(self, result, indices, background)

    monkeypatch.setattr(Inversion, "rows_of", one_then_stop)
    with pytest.raises(RuntimeError, match="power"):
        run(spec, targets, tmp_path)
    assert not (tmp_path / "inversions.jsonl").exists()
    asked: list[int] = []

    def remember(self: Inversion, result: Any, indices: Any, background: float) -> Any:
        asked.extend(indices)
        return original(self, result, indices, background)

    monkeypatch.setattr(Inversion, "rows_of", remember)
    run(spec, targets, tmp_path)
    assert sorted(asked + solved) == [0, 1, 2, 3]
    assert [row["text"] for row in rows(tmp_path)] == TEXTS


@pytest.mark.filterwarnings("ignore:Total length of .* is zero")
@pytest.mark.filterwarnings("ignore:.*has zero length")
def test_a_run_whose_report_failed_is_finished(
    spec: dict[str, Any], targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: InversionWriter, rows: Any) -> None:
        raise RuntimeError("no terminal")

    with monkeypatch.context() as patch:
        patch.setattr(InversionWriter, "_print", fail)
        with pytest.raises(RuntimeError, match="no terminal"):
            run(spec, targets, tmp_path)
    run(spec, targets, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["invert/num_exact"] == 4


def test_the_csv_logger_takes_the_metrics(
    spec: dict[str, Any], targets: Path, tmp_path: Path
) -> None:
    logger = CSVLogger(tmp_path / "csv")
    run(spec, targets, tmp_path, logger=logger, budget=10)
    assert "invert/num_targets" in Path(logger.log_dir, "metrics.csv").read_text()


def test_groups_find_the_same(spec: dict[str, Any], targets: Path, tmp_path: Path) -> None:
    run(spec, targets, tmp_path, data={"batch_size": 1})
    assert [row["text"] for row in rows(tmp_path)] == TEXTS


def test_best_effort_is_no_claim(spec: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    np.save(tmp_path / "noise.npy", torch.randn(2, 32).numpy())
    run(spec, tmp_path / "noise.npy", tmp_path, budget=60)
    found = rows(tmp_path)
    assert not any(row["exact"] for row in found)
    assert all(row["text"] for row in found)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["invert/num_exact"] == 0
    assert -1 <= metrics["invert/background_cosine"] < metrics["invert/cosine_mean"]


@pytest.mark.parametrize("method", ["pez", "gcg"])
def test_published_methods_run(
    method: str, spec: dict[str, Any], targets: Path, tmp_path: Path
) -> None:
    run(spec, targets, tmp_path, method=method, num_tokens=2, budget=40)
    found = rows(tmp_path)
    assert len(found) == 4
    assert all(30 < row["evaluations"] <= 48 for row in found), "the budget, and eight checks"


def test_listed_lengths_belong_to_rows_of_the_file(
    spec: dict[str, Any], targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[int]] = []
    original = search.invert

    def remember(encoder: Any, targets: Any, method: Any, **kwargs: Any) -> Any:
        told.append(method.num_tokens)
        return original(encoder, targets, method, **kwargs)

    monkeypatch.setattr(search, "invert", remember)
    settings = {"method": "gcg", "num_tokens": [2, 3, 2, 1], "budget": 10}
    run(spec, targets, tmp_path / "one", data={"batch_size": 1}, **settings)
    run(spec, targets, tmp_path / "all", **settings)
    assert told == [[2], [3], [1], [2, 3, 1]]  # row 2 repeats row 0
    with pytest.raises(ValueError, match="lists 3 lengths, and the file has 4 rows"):
        run(spec, targets, tmp_path / "short", **{**settings, "num_tokens": [2, 3, 2]})
    with pytest.raises(ValueError, match="num_tokens is 300, and the encoder reads at most"):
        run(spec, targets, tmp_path / "long", **{**settings, "num_tokens": 300})


def test_a_table_of_low_precision_is_not_read_in_float32(
    spec: dict[str, Any], targets: Path, tmp_path: Path
) -> None:
    tables = []
    for precision in ("bfloat16", "float32"):
        model = run(spec, targets, tmp_path / precision, precision=precision, budget=1)
        model.hparams.cache_dir = str(tmp_path / "cache")
        tables.append(model.load_table())
    low, full = tables
    encoder = model.encoder
    assert encoder is not None
    at = encoder.tokenize("house")
    assert torch.allclose(full[list(at)], encoder.encode_ids([at]), atol=1e-6)
    assert not torch.allclose(full, low, atol=1e-5)


def test_the_gap_is_that_of_the_text_that_fluency_chose(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    model = Inversion(spec, str(tmp_path))
    model.fluency = lambda texts: [float(t == "the cat") for t in texts]
    options = [("the cat", 0.9985), ("dog", 0.5)]
    found = search.Inversion(0, "cat the", (1,), 0.999, False, 0.0005, 1, 0.0, options)
    (row,) = model.rows_of(found, [0], 0.0)
    assert row["found_by"] == "fluency"
    assert row["runner_up_gap"] == pytest.approx(-0.0005)
    model.fluency = lambda texts: [float(t == "cat the") for t in texts]
    assert model.rows_of(found, [0], 0.0)[0]["runner_up_gap"] == 0.0005


def test_one_fragment_may_be_given_as_it_is(
    spec: dict[str, Any], targets: Path, tmp_path: Path
) -> None:
    model = run(spec, targets, tmp_path, fragments="red cat", budget=1)
    assert model.encoder is not None
    assert model.searcher.fragments == [model.encoder.tokenize("red cat")]


def test_priors_are_logged(spec: dict[str, Any], targets: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("the old man\nblue tree\n")
    run(spec, targets, tmp_path, word_list=str(tmp_path / "words.txt"), fragments=["red"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["invert/exact_rate"] == 1.0
    assert any(name.startswith("invert/found_by_") for name in metrics)
    assert rows(tmp_path)[1]["evaluations"] <= 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "magic"}, "hybrid, pez, gcg"),
        ({"budget": 0}, "too little for a single step of hybrid"),
        ({"budget": 2, "method": "pez"}, "at least 3"),
        ({"precision": "int8"}, "float32 or bfloat16"),
        ({"beam": 0}, "model.beam is 0"),
        ({"num_tokens": [], "method": "gcg"}, "model.num_tokens is 0"),
        ({"tolerance": 0}, "model.tolerance is 0; give a number between 0 and 1"),
        ({"tolerance": 1}, "model.tolerance is 1; "),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Inversion({"name": "x"}, "cache", **settings)


def test_a_wrong_width_names_the_encoders_that_have_it() -> None:
    with pytest.raises(ValueError, match=r"1024 dimensions, .*384; .*vit_h14_laion2b"):
        check_width(1024, 384, "minilm")
    with pytest.raises(ValueError, match="no encoder here has that width"):
        check_width(7, 384, "minilm")
    check_width(384, 384, "minilm")
