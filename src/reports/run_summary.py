"""The table that a run ends with, and where its results lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


class RunSummary:
    """Print a run's scores beside the frozen backbone's, and its files.

    In a sweep, the runs that have ended so far stand in the same table.

    Args:
        output_dir: The run's folder.
        export_dir: Where the trained tensors were exported, if they were.
    """

    def __init__(self, output_dir: str, export_dir: str | None = None) -> None:
        self.output_dir = Path(output_dir)
        self.export_dir = Path(export_dir) if export_dir else None

    def __call__(self, metrics: Mapping[str, Any]) -> None:
        """Print the table.

        Args:
            metrics: What ``metrics.json`` holds: ``method``, ``parameters/*``, ``test/accuracy``,
                ``baseline/accuracy``, ``train/seconds``.
        """
        rows = [dict(metrics)]
        if (self.output_dir.parent / "multirun.yaml").exists():
            paths = self.output_dir.parent.glob("*/metrics.json")
            found = [
                json.loads(path.read_text(encoding="utf-8"))
                for path in sorted(paths, key=lambda path: _in_order(path.parent.name))
            ]
            rows = [row for row in found if "method" in row]  # the others have not ended yet
        console = Console()
        console.print(self._table(rows))
        for what, path in (
            ("adapted weights", self.export_dir),
            ("checkpoints", self.output_dir / "checkpoints"),
            ("predictions", self.output_dir / "predictions.jsonl"),
            ("metrics", self.output_dir / "metrics.json"),
            ("TensorBoard", self.output_dir / "tensorboard"),
        ):
            if path is not None and path.exists():
                console.print(f"{what:>16}  {path}", soft_wrap=True, highlight=False)

    def _table(self, rows: list[dict[str, Any]]) -> Table:
        table = Table()
        table.add_column("method")
        for name in ("trainable", "share", "test accuracy", "unparsable", "frozen", "time"):
            table.add_column(name, justify="right")
        for row in rows:
            trainable, total = row.get("parameters/trainable"), row.get("parameters/total")
            table.add_row(
                str(row.get("method", "")),
                "" if trainable is None else f"{trainable:,}",
                "" if not total else f"{trainable / total:.2%}",
                _percent(row.get("test/accuracy")),
                _percent(row.get("test/unparsable")),
                _percent(row.get("baseline/accuracy")),
                _duration(row.get("train/seconds")),
            )
        return table


def _in_order(name: str) -> tuple[int, str]:
    """Sort a sweep's folders, ``NUMBER-OVERRIDES``, as the jobs were numbered."""
    number = name.partition("-")[0]
    return (int(number) if number.isdigit() else 0, name)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
