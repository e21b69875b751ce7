"""The prompt study's callback: every prompt and output as JSONL, then table and heat map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from src.callbacks.prediction_writer import PredictionWriter, Row
from src.reports.prompt_study import write_study


class PromptReport(PredictionWriter):
    """Write ``prompts.jsonl`` as the rows come, and the study's tables when all are there.

    Args:
        output_dir: The run's folder.
        filename: Name of the JSONL file in it.
        **writer: Arguments of ``PredictionWriter``.

    Raises:
        ValueError: If every row failed, after everything is written.
    """

    def __init__(self, output_dir: str, filename: str = "prompts.jsonl", **writer: Any) -> None:
        super().__init__(output_dir, filename, **writer)
        self._errors: list[str | None] = []

    def finish(self, rows: list[Row], trainer: Trainer) -> Mapping[str, float] | None:
        self._errors = [row.get("error") for row in rows]
        return write_study(rows, self.output_dir)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_predict_end(trainer, pl_module)
        if self._errors and all(self._errors):
            raise ValueError(f"no model gave an answer; the first error: {self._errors[0]}")
