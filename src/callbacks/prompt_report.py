"""The prompt study's callback: every prompt and output as JSONL, then table and heat map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer

from src.callbacks.prediction_writer import PredictionWriter, Row
from src.reports.prompt_study import write_study


class PromptReport(PredictionWriter):
    """Write ``prompts.jsonl`` as the rows come, and the study's tables when all are there.

    Args:
        output_dir: The run's folder.
        filename: Name of the JSONL file in it.
        **writer: Arguments of ``PredictionWriter``.
    """

    def __init__(self, output_dir: str, filename: str = "prompts.jsonl", **writer: Any) -> None:
        super().__init__(output_dir, filename, **writer)

    def finish(self, rows: list[Row], trainer: Trainer) -> Mapping[str, float] | None:
        return write_study(rows, self.output_dir)
