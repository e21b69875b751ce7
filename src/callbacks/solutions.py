"""The answers to word problems: ``predictions.jsonl``, their accuracy, a sample in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer

from src.callbacks.prediction_writer import PredictionWriter, Row

FIELDS = ("question", "gold", "output", "parsed", "correct")


class SolutionWriter(PredictionWriter):
    """Write ``predictions.jsonl`` (question, gold, output, parsed, correct), one line a problem.

    Args:
        output_dir: The run's folder.
        fingerprint: Settings that decide the answers, for resuming.
        num_samples: Rows shown in TensorBoard, wrong ones first.
    """

    def __init__(
        self,
        output_dir: str,
        fingerprint: Mapping[str, Any] | None = None,
        num_samples: int = 20,
    ) -> None:
        super().__init__(output_dir, "predictions.jsonl", FIELDS, fingerprint)
        self.num_samples = num_samples

    def finish(self, rows: list[Row], trainer: Trainer) -> Mapping[str, float] | None:
        num = len(rows)
        if not num:
            return None
        writer: Any = getattr(trainer.logger, "experiment", None)
        if hasattr(writer, "add_text"):  # TensorBoard's; the CSV logger takes numbers only
            writer.add_text("test/predictions", self._table(rows), trainer.global_step)
        return {
            "test/accuracy": sum(row["correct"] for row in rows) / num,
            "test/unparsable": sum(row["parsed"] is None for row in rows) / num,
            "test/num_problems": num,
        }

    def _table(self, rows: list[Row]) -> str:
        wrong_first = sorted(rows, key=lambda row: (row["correct"], row["index"]))
        half = self.num_samples // 2
        right = [row for row in wrong_first if row["correct"]][: self.num_samples - half]
        shown = wrong_first[: self.num_samples - len(right)] + right
        lines = ["| " + " | ".join(FIELDS) + " |", "|" + "---|" * len(FIELDS)]
        for row in {row["index"]: row for row in shown}.values():
            cells = [str(row[field]).replace("|", "\\|").replace("\n", " ") for field in FIELDS]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)
