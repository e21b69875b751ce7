"""The unified view, live: how much a method changes the model, layer by layer, as it trains.

Every `every_n_steps` steps one forward pass is watched (see `src/algorithms/peft/unified.py`) and
goes to the logger as

- `change/SITE`: `||lambda dh|| / ||h||` over all real tokens of the batch, and its histogram over
  tokens;
- `gate/SITE`, for prefix-tuning: the mean of lambda(x), the attention mass on the prefix (He et al.
  2022, Eq. 7), and its histogram over heads and tokens.

On all other steps nothing is hooked. Full fine-tuning and the frozen model have no such form and
log nothing. Padding is left out of every figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from src.algorithms.peft.unified import Observation, UnifiedView

NUM_BINS = 40


@dataclass(frozen=True)
class Series:
    """One figure of one site, still on the device.

    Attributes:
        tag: name in TensorBoard.
        scalar: mean or ratio, ().
        histogram: counts and their range, (NUM_BINS + 5,): minimum, maximum, number, sum, sum of
            squares, counts.
    """

    tag: str
    scalar: Tensor
    histogram: Tensor


class UnifiedMonitor(Callback):
    """Log the size of the change that a method makes at every site, and the gate of a prefix.

    Args:
        every_n_steps: optimiser steps between two samples, at least 1.

    Raises:
        ValueError: `every_n_steps` is below 1.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}; it must be at least 1")
        self.every_n_steps = every_n_steps
        self._view: UnifiedView | None = None
        self._series: list[Series] = []
        self._last_step = -1

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        # With gradient accumulation several batches share a step: only the first is watched.
        is_due = step % self.every_n_steps == 0 and step != self._last_step
        if not (is_due and trainer.is_global_zero and trainer.loggers):
            return
        self._last_step = step
        self._series = []
        masks = _masks(batch)

        def sink(seen: Observation) -> None:
            self._series += summarize(seen, masks[0 if seen.reads_source else 1])

        model: Any = pl_module.model
        self._view = UnifiedView(model, sink).__enter__()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._view is None:
            return
        self._close()
        if self._series:
            log(trainer, self._series, self._last_step)
        self._series = []

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._view is not None:
            self._view.__exit__()
            self._view = None


def _masks(batch: Any) -> tuple[Tensor | None, Tensor | None]:
    """Return which source and target tokens are real, each (B, T) or None if unknown."""
    if not isinstance(batch, Mapping):
        return None, None
    source, labels = batch.get("attention_mask"), batch.get("labels")
    return (
        None if source is None else source.bool(),
        None if labels is None else labels != -100,
    )


def summarize(seen: Observation, mask: Tensor | None) -> list[Series]:
    """Reduce an observation to its scalars and histograms, on its own device.

    Args:
        seen: one site of one forward pass.
        mask: True for real tokens, (B, T); None counts all.
    """
    change, size = seen.norms()
    if mask is None or mask.shape != change.shape:
        mask = torch.ones_like(change, dtype=torch.bool)
    change, size = change[mask], size[mask]
    tiny = torch.finfo(size.dtype).tiny
    ratio = change.norm() / size.norm().clamp_min(tiny)
    series = [Series(f"change/{seen.name}", ratio, _histogram(change / size.clamp_min(tiny)))]
    if seen.h.ndim == 4 and isinstance(seen.lam, Tensor):
        gate = seen.lam.float().squeeze(-1).transpose(1, 2)[mask]  # (tokens, H)
        series.append(Series(f"gate/{seen.name}", gate.mean(), _histogram(gate)))
    return series


def _histogram(values: Tensor) -> Tensor:
    values = values.flatten().float()
    low, high = values.min(), values.max()
    # Equal values would give bins without width.
    width = ((high - low) / NUM_BINS).clamp_min(1e-12)
    place = ((values - low) / width).long().clamp_(0, NUM_BINS - 1)
    counts = torch.zeros(NUM_BINS, device=values.device).index_add_(
        0, place, torch.ones_like(values)
    )
    number = torch.full_like(low, values.numel())
    facts = [low, low + width * NUM_BINS, number, values.sum(), values.square().sum()]
    return torch.cat([torch.stack(facts), counts])


def log(trainer: Trainer, series: list[Series], step: int) -> None:
    """Send scalars to every logger, and histograms to those that can draw them."""
    # One transfer from the device for everything.
    rows = torch.stack([torch.cat([item.scalar.view(1), item.histogram]) for item in series])
    table = rows.cpu().double().numpy()
    scalars = {item.tag: float(row[0]) for item, row in zip(series, table, strict=True)}
    for logger in trainer.loggers:
        logger.log_metrics(scalars, step=step)
        experiment: Any = getattr(logger, "experiment", None)
        if not hasattr(experiment, "add_histogram_raw"):
            continue
        for item, row in zip(series, table, strict=True):
            low, high, number, total, squares = row[1:6]
            edges = [low + (high - low) * (i + 1) / NUM_BINS for i in range(NUM_BINS)]
            experiment.add_histogram_raw(
                item.tag,
                min=low,
                max=high,
                num=int(number),
                sum=total,
                sum_squares=squares,
                bucket_limits=edges,
                bucket_counts=row[6:].tolist(),
                global_step=step,
            )
