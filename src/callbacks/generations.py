"""Files of a generation run: the rows, the course's array, and the quality table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from rich.console import Console
from rich.table import Table

from src.callbacks.prediction_writer import PredictionWriter, Row
from src.reports.watermark import TITLES, quality_table, write_csv

FIELDS = ("prompt", "text", "token_ids", "scheme", "watermark")

#: Order of the marked texts in the course's array.
MARKED = ("no_e", "hard", "soft")


class GenerationWriter(PredictionWriter):
    """Writes ``generations.jsonl``, ``Q4_gens.npy`` and ``quality.csv``.

    Args:
        output_dir: The run's folder.
        fingerprint: Settings that decide the texts.
    """

    def __init__(self, output_dir: str, fingerprint: Mapping[str, Any] | None = None) -> None:
        super().__init__(output_dir, "generations.jsonl", FIELDS, fingerprint)

    def finish(self, rows: list[Row], trainer: Trainer) -> Mapping[str, float]:
        marked = [row["text"] for scheme in MARKED for row in rows if row["scheme"] == scheme]
        if marked:
            np.save(self.output_dir / "Q4_gens.npy", np.array(marked, dtype=np.str_))
        table = quality_table(rows)
        write_csv(table, self.output_dir / "quality.csv")
        console = Console()
        console.print(_quality(table))
        console.print(f"Texts: {self.output_dir / self.filename}", soft_wrap=True, highlight=False)
        writer = getattr(trainer.logger, "experiment", None)
        if writer is not None and hasattr(writer, "add_text"):
            writer.add_text("generate/quality", _markdown(table), 0)
        metrics: dict[str, float] = {"generate/num_texts": len(rows)}
        for entry in table:
            for measure in ("perplexity", "distinct_2", "tokens_per_second"):
                metrics[f"generate/{measure}_{entry['scheme']}"] = entry[measure]
        return metrics


#: Column of the terminal's table to its field; all fields are in quality.csv.
_COLUMNS = {
    "perplexity": "perplexity",
    "distinct-1": "distinct_1",
    "distinct-2": "distinct_2",
    "tokens/s": "tokens_per_second",
}


def _cells(entry: Mapping[str, Any]) -> list[str]:
    cells = [TITLES[entry["scheme"]], str(entry["num_texts"])]
    for name in _COLUMNS.values():
        ratio = entry[f"{name}_ratio"]
        digits = 1 if name in ("perplexity", "tokens_per_second") else 3
        cells.append(f"{entry[name]:.{digits}f}" + (f" (x{ratio:.2f})" if ratio else ""))
    return cells


def _quality(table: list[dict[str, Any]]) -> Table:
    shown = Table(title="Quality (in brackets: ratio to none)")
    for name in ("scheme", "texts", *_COLUMNS):
        shown.add_column(name, justify="left" if name == "scheme" else "right")
    for entry in table:
        shown.add_row(*_cells(entry))
    return shown


def _markdown(table: list[dict[str, Any]]) -> str:
    lines = [f"| scheme | texts | {' | '.join(_COLUMNS)} |", "|---" * (len(_COLUMNS) + 2) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(entry))} |" for entry in table)])
