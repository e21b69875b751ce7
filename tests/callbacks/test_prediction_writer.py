"""No row lost, none doubled, all in order: also when a run is killed and goes on."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from lightning import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader

from src.callbacks.prediction_writer import PredictionWriter, Row, merge_metrics

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*has zero length"),
    pytest.mark.filterwarnings("ignore:Total length of .* is zero"),
]
SEPARATORS = "a\u2028b\u0085c\x0bd\rf"


class Inputs(LightningDataModule):
    def __init__(self, num: int) -> None:
        super().__init__()
        self.num, self.skipped = num, set[int]()

    def skip(self, indices: set[int]) -> None:
        self.skipped = indices

    def predict_dataloader(self) -> DataLoader[int]:
        left = [i for i in reversed(range(self.num)) if i not in self.skipped]
        return DataLoader(left, batch_size=2)  # type: ignore[arg-type]

    test_dataloader = predict_dataloader


class Squares(LightningModule):
    def __init__(self, stop_before: int | None = None) -> None:
        super().__init__()
        self.stop_before = stop_before
        self.seen: list[int] = []

    def predict_step(self, batch: Any, batch_idx: int) -> list[Row]:
        rows = []
        for index in batch.tolist():
            if index == self.stop_before:
                raise InterruptedError
            self.seen.append(index)
            rows.append({"index": index, "square": index**2, "text": SEPARATORS})
        return rows

    test_step = predict_step


class Sums(PredictionWriter):
    def finish(self, rows: list[Row], trainer: Trainer) -> dict[str, float]:
        return {"test/sum": float(sum(row["square"] for row in rows))}


def predict(
    folder: Path,
    stop_before: int | None = None,
    how: str = "predict",
    limit: float = 1.0,
    **settings: Any,
) -> Squares:
    module, num = Squares(stop_before), 7
    writer = Sums(str(folder), "squares.jsonl", **settings)
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[writer],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        limit_predict_batches=limit,
    )
    if how == "predict":
        trainer.predict(module, datamodule=Inputs(num), return_predictions=False)
    else:
        trainer.test(module, datamodule=Inputs(num), verbose=False)
    return module


def rows_of(folder: Path) -> list[Row]:
    lines = (folder / "squares.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    return [json.loads(line) for line in lines]


def journal(folder: Path) -> Path:
    return folder / ".squares.journal"


def test_rows_come_in_the_inputs_order_with_their_fields(tmp_path: Path) -> None:
    predict(tmp_path, fields=["text", "square"])
    rows = rows_of(tmp_path)
    assert [list(row) for row in rows] == [["text", "square"]] * 7
    assert [row["square"] for row in rows] == [i**2 for i in range(7)]
    assert all(row["text"] == SEPARATORS for row in rows)
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"test/sum": 91.0}
    assert not journal(tmp_path).exists()


def test_one_batch_is_a_part_of_the_inputs(tmp_path: Path) -> None:
    predict(tmp_path, limit=1)
    assert [row["square"] for row in rows_of(tmp_path)] == [25, 36]


@pytest.mark.parametrize("stop_before", range(7))
def test_a_stopped_run_goes_on_after_its_last_row(stop_before: int, tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        predict(tmp_path, stop_before=stop_before)
    assert not (tmp_path / "squares.jsonl").exists()
    kept = sum(len(path.read_text().split("\n")) - 1 for path in journal(tmp_path).glob("rank*"))
    second = predict(tmp_path)
    assert len(second.seen) == 7 - kept
    assert [row["index"] for row in rows_of(tmp_path)] == list(range(7))


def test_a_run_killed_while_it_merged_is_finished(tmp_path: Path) -> None:
    """All rows are in the journal, so that the loop has nothing left to do."""
    with pytest.raises(InterruptedError):
        predict(tmp_path, stop_before=0)
    with (journal(tmp_path) / "rank-0.jsonl").open("a") as file:
        file.write('{"index": 0, "square": 0, "text": ""}\n')
    assert predict(tmp_path).seen == []
    assert [row["index"] for row in rows_of(tmp_path)] == list(range(7))


def test_a_torn_row_is_made_again(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        predict(tmp_path, stop_before=1)
    path = journal(tmp_path) / "rank-0.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    torn = 3  # batches are (6, 5), (4, 3), (2, 1), (0): the third was not written
    assert predict(tmp_path).seen == [torn, 2, 1, 0]
    assert [row["index"] for row in rows_of(tmp_path)] == list(range(7))


def test_journals_of_more_ranks_are_taken_over(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        predict(tmp_path, stop_before=2)  # rank 0 of two, say
    (journal(tmp_path) / "rank-1.jsonl").write_text('{"index": 1, "square": 1, "text": ""}\n')
    second = predict(tmp_path)
    assert 1 not in second.seen
    assert [row["index"] for row in rows_of(tmp_path)] == list(range(7))


def test_a_row_predicted_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        predict(tmp_path, stop_before=2)
    (journal(tmp_path) / "rank-1.jsonl").write_text('{"index": 6, "square": 36, "text": ""}\n')
    with pytest.raises(RuntimeError, match=r"row 6 of squares\.jsonl was predicted twice"):
        predict(tmp_path)


def test_a_journal_of_other_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        predict(tmp_path, stop_before=1, fingerprint={"model": "a", "seed": 0})
    with pytest.raises(ValueError, match=r"unfinished run made with another model; use the same"):
        predict(tmp_path, fingerprint={"model": "b", "seed": 0})
    predict(tmp_path, fingerprint={"model": "a", "seed": 0})


def test_a_test_is_made_whole(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        predict(tmp_path, stop_before=1, how="test")
    assert len(predict(tmp_path, how="test").seen) == 7
    assert len(rows_of(tmp_path)) == 7


def test_rows_that_another_node_wrote_elsewhere_are_missed(tmp_path: Path) -> None:
    writer = Sums(str(tmp_path), "squares.jsonl")
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[writer],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    read = writer._read_journals
    writer._read_journals = lambda: read()[1:]  # type: ignore[method-assign]
    with pytest.raises(
        ValueError, match=r"wrote 3 rows of squares\.jsonl, but only 2 are in .*share"
    ):
        trainer.predict(Squares(), datamodule=Inputs(3), return_predictions=False)


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Sums(str(tmp_path), "squares.jsonl")

    class Full:
        def write(self, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    writer._journal, writer._num_written = Full(), 0
    with pytest.raises(ValueError, match=r"could not be written .*No space left.*the same command"):
        writer.write([{"index": 0}])


def test_metrics_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    merge_metrics(tmp_path, {"a/b": 1})
    merge_metrics(tmp_path, {"c/d": 2.5})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"a/b": 1, "c/d": 2.5}
