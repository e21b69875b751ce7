"""Phrases to learn from, as positions in a list: the module keeps what it computed of each.

A batch is ``draw`` (long, batch): random numbers that the module reduces to positions among what
it made of the phrases. The same seed gives the same batches.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset


class Phrases(LightningDataModule):
    """A text file of phrases.

    Args:
        path: One phrase a line, gzipped or not.
        batch_size: Draws in a batch.
        steps: Batches in an epoch.
        limit: Use only the first so many phrases; all if None.
        seed: Of the draws.

    Raises:
        FileNotFoundError: If there is no file at ``path``.
        ValueError: If it holds no phrase.
    """

    def __init__(
        self,
        path: str,
        batch_size: int = 256,
        steps: int = 1200,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"data.path: there is no file {path}.")
        opener: Callable[..., Any] = gzip.open if file.suffix == ".gz" else open
        with opener(file, "rt", encoding="utf-8") as lines:
            self.phrases = [line.strip() for line in lines if line.strip()][:limit]
        if not self.phrases:
            raise ValueError(f"data.path: {path} holds no phrase.")
        self.batch_size, self.steps, self.seed = batch_size, steps, seed

    def train_dataloader(self) -> DataLoader[Any]:
        rank = self.trainer.global_rank if self.trainer else 0
        generator = torch.Generator().manual_seed(self.seed + 1000 * rank)
        draws = torch.randint(2**31 - 1, (self.steps * self.batch_size,), generator=generator)

        def collate(items: list[Any]) -> dict[str, Any]:
            return {"draw": torch.stack([item[0] for item in items])}

        return DataLoader(TensorDataset(draws), self.batch_size, collate_fn=collate)
