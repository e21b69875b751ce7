"""Rows of predictions: journaled as they come, merged in the input's order, resumable.

A ``predict_step`` or ``test_step`` that returns ``list[dict]``, each row with an integer
``index`` (the position in the input), needs this callback and nothing else to survive an
interruption and to run on several ranks: every rank appends its rows to a journal of its own, and
at the end rank 0 merges the journals, checks that no row is lost or doubled, and writes one file.
Subclasses turn the merged rows into tables, figures and other formats in :meth:`finish`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

Row = dict[str, Any]


class PredictionWriter(Callback):
    """Write the rows that ``predict_step`` or ``test_step`` returns, once each and in order.

    A run that finds a journal of the same settings in its folder goes on where that one stopped:
    the datamodule is told to ``skip`` the rows that are there.

    Args:
        output_dir: The run's folder.
        filename: Name of the JSONL file in it, one row a line, in the order of ``index``.
        fields: Keys to write, in this order; all of them if None.
        fingerprint: Settings that decide the rows. A journal made under others is refused.

    Raises:
        ValueError: In ``setup``, if the journal in the folder was made under other settings.
    """

    def __init__(
        self,
        output_dir: str,
        filename: str,
        fields: Sequence[str] | None = None,
        fingerprint: Mapping[str, Any] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.filename = filename
        self.fields = list(fields) if fields is not None else None
        self.fingerprint = json.loads(json.dumps(dict(fingerprint or {}), default=str))
        self._journal: Any = None

    def finish(self, rows: list[Row], trainer: Trainer) -> Mapping[str, float] | None:
        """Make the run's tables and figures from all rows; called on rank 0 only.

        Args:
            rows: Every row of the input, in its order.
            trainer: The trainer, for its logger.

        Returns:
            Metrics to add to ``metrics.json`` and to the logger, or None.
        """
        return None

    def refine(self, rows: list[Row]) -> None:
        """Change rows in place before they are written: what only all of them together decide.

        Args:
            rows: Every row of the input, in its order.
        """

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows to this rank's journal; each is on disk when this returns.

        ``predict_step`` need not wait for its whole batch: a module may call this, through
        ``trainer.callbacks``, for each row as it is done, and return the others.

        Args:
            rows: JSON-serialisable rows with an integer ``index``.

        Raises:
            ValueError: If the disk is full.
        """
        try:
            for row in rows:
                self._journal.write(json.dumps(row, ensure_ascii=False) + "\n")
                self._num_written += 1
            self._journal.flush()
        except OSError as error:
            raise ValueError(
                f"{self.filename} could not be written to {self.output_dir} ({error.strerror}); "
                "free some space and run the same command again: it goes on after the last row."
            ) from error

    # ------------------------------------------------------------------ hooks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage not in ("predict", "test"):
            return
        self._folder = self.output_dir / f".{Path(self.filename).stem}.journal"
        if stage == "test" and trainer.is_global_zero:
            self._clear()  # a test is always made whole: its metrics cover one run
        trainer.strategy.barrier()
        self._folder.mkdir(parents=True, exist_ok=True)
        done = {row["index"] for row in self._read_journals()} if stage == "predict" else set()
        self._check_settings(bool(done))
        trainer.strategy.barrier()
        self._num_written, self._is_finished = 0, False
        self._num_done = len(done)
        # A rank may have nothing left to do while another has.
        if trainer.datamodule is not None:
            trainer.datamodule.allow_zero_length_dataloader_with_multiple_devices = True
        if done:
            rank_zero_info(f"resuming: {len(done)} rows of {self.filename} are there already")
            trainer.datamodule.skip(done)  # pyright: ignore[reportOptionalMemberAccess]
        path = self._folder / f"rank-{trainer.global_rank}.jsonl"
        _drop_torn_line(path)
        self._journal = path.open("a", encoding="utf-8")
        if trainer.is_global_zero:
            _write_atomically(self._folder / "settings.json", json.dumps(self.fingerprint))

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.write(outputs or [])

    on_test_batch_end = on_predict_batch_end  # pyright: ignore[reportAssignmentType]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._is_finished = True
        self._journal.close()
        written = torch.tensor(self._num_written, device=trainer.strategy.root_device)
        if trainer.world_size > 1:
            written = trainer.strategy.reduce(written, reduce_op="sum")
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            self._require_all(int(written))
            limits = (trainer.limit_test_batches, trainer.limit_predict_batches)
            # The integer 1 is one batch, 1.0 is all of them.
            is_whole = all(isinstance(limit, float) and limit == 1.0 for limit in limits)
            rows = self._merge(is_whole)
            self.refine(rows)
            _write_atomically(
                self.output_dir / self.filename,
                "".join(json.dumps(self._select(row), ensure_ascii=False) + "\n" for row in rows),
            )
            metrics = self.finish(rows, trainer)
            if metrics:
                merge_metrics(self.output_dir, metrics)
                if trainer.logger is not None:
                    trainer.logger.log_metrics(
                        {key: float(value) for key, value in metrics.items() if value is not None},
                        step=trainer.global_step,
                    )
            self._clear()
        trainer.strategy.barrier()

    on_test_end = on_predict_end

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._journal is None:
            return
        if stage == "predict" and not self._is_finished:
            self.on_predict_end(trainer, pl_module)  # the loop leaves it out where no row was left
        self._journal.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if self._journal is not None:
            self._journal.close()

    # ---------------------------------------------------------------- journal

    def _check_settings(self, has_rows: bool) -> None:
        path = self._folder / "settings.json"
        if not has_rows or not path.exists():
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(
            key
            for key in before.keys() | self.fingerprint.keys()
            if before.get(key) != self.fingerprint.get(key)
        )
        if changed:
            raise ValueError(
                f"{self.output_dir} holds an unfinished run made with another "
                f"{', '.join(changed)}; use the same settings to go on with it, choose another "
                f"paths.output_dir, or delete {self._folder}."
            )

    def _read_journals(self) -> list[Row]:
        rows = []
        for path in sorted(self._folder.glob("rank-*.jsonl")):
            # Only "\n" ends a row: texts may hold other line separators of Unicode.
            with path.open(encoding="utf-8", newline="\n") as lines:
                for line in lines:
                    if line.endswith("\n"):  # the last line of a killed run may be torn
                        rows.append(json.loads(line))
        return rows

    def _require_all(self, num_written: int) -> None:
        """Compare the rows that all ranks wrote with those that rank 0 sees."""
        num_seen = len(self._read_journals())
        if num_seen < self._num_done + num_written:
            raise ValueError(
                f"the processes wrote {self._num_done + num_written} rows of {self.filename}, but "
                f"only {num_seen} are in {self._folder}; use a paths.output_dir that all nodes "
                "share."
            )

    def _merge(self, is_whole: bool) -> list[Row]:
        by_index: dict[int, Row] = {}
        for row in self._read_journals():
            if row["index"] in by_index:
                raise RuntimeError(f"row {row['index']} of {self.filename} was predicted twice")
            by_index[row["index"]] = row
        missing = set(range(len(by_index))) - by_index.keys()
        if missing and is_whole:
            raise RuntimeError(f"rows {sorted(missing)[:5]} of {self.filename} are missing")
        return [by_index[index] for index in sorted(by_index)]

    def _select(self, row: Row) -> Row:
        return row if self.fields is None else {key: row[key] for key in self.fields}

    def _clear(self) -> None:
        for path in self._folder.glob("*"):
            path.unlink()
        if self._folder.exists():
            self._folder.rmdir()


def merge_metrics(output_dir: str | Path, metrics: Mapping[str, Any]) -> None:
    """Add metrics to ``metrics.json`` in a run's folder, keeping what is there.

    Args:
        output_dir: The run's folder.
        metrics: Names (``split/metric``) and JSON-serialisable values.
    """
    path = Path(output_dir) / "metrics.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known.update({key: _plain(value) for key, value in metrics.items()})
    _write_atomically(path, json.dumps(known, indent=2) + "\n")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _drop_torn_line(path: Path) -> None:
    """Cut a journal back to its last whole line."""
    if path.exists():
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            path.write_bytes(whole)


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
