"""``train.py experiment=scaling_ladder``: train a ladder of small T5s, and fit a law to it.

Every rung is a model size trained on an amount of data from its own start with its own schedule,
as the fit assumes. Finished rungs are rows of ``runs.csv`` (``model, params, tokens, flops, loss,
seconds, seed``), and a rung that is a row is not trained again: the same command in the same
folder goes on. FLOPs are counted matrix by matrix, not by 6ND.

The trainer, the module and the data are given by the configuration; this file only decides the
rungs and keeps the table.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from src.algorithms.peft.counts import backbone_size
from src.algorithms.scaling import t5_training_flops
from src.reports.scaling import ScalingReport

COLUMNS = ("model", "params", "tokens", "flops", "loss", "seconds", "seed")


class ScalingLadder:
    """Trains every size on every amount of data that its budget allows.

    Args:
        output_dir: The run's folder.
        sizes: Name of each model to its T5 dimensions (``d_model, d_kv, d_ff, num_heads,
            num_layers``), and optionally its ``learning_rate``.
        tokens: Amounts of training data.
        data: A datamodule with ``num_tokens``, ``tokenizer`` and ``chosen()``.
        module: Called with ``config`` (and ``learning_rate``), gives a LightningModule with
            ``parameter_counts()`` that logs ``val/loss``.
        trainer: Called without arguments, gives a Trainer for one rung.
        max_flops: Rungs that cost more are left out; None trains them all.
        seed: Seed of every rung's start.
        runs: Where the table of runs lies; ``runs.csv`` in the folder if None.
        report: Arguments of the ``ScalingReport`` at the end.
        console: Where progress goes.

    Raises:
        ValueError: If there are fewer than five rungs, or a size lacks a dimension.
    """

    def __init__(
        self,
        output_dir: str,
        sizes: Mapping[str, Mapping[str, Any]],
        tokens: Sequence[int],
        data: Any,
        module: Callable[..., Any],
        trainer: Callable[[], Any],
        max_flops: float | None = None,
        seed: int = 0,
        runs: str | None = None,
        report: Mapping[str, Any] | None = None,
        console: Console | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.path = Path(runs) if runs else self.output_dir / "runs.csv"
        self.sizes = {name: dict(size) for name, size in sizes.items()}
        for name, size in self.sizes.items():
            missing = {"d_model", "d_kv", "d_ff", "num_heads", "num_layers"} - size.keys()
            if missing:
                raise ValueError(f"sizes.{name} lacks {', '.join(sorted(missing))}.")
        self.rungs = [(name, int(count)) for name in self.sizes for count in tokens]
        if len(self.rungs) < 5:
            raise ValueError(
                f"{len(self.rungs)} rungs cannot determine the 5 coefficients E, A, B, alpha, "
                "beta; give more sizes or more amounts of tokens."
            )
        self.data, self.module, self.trainer = data, module, trainer
        self.max_flops, self.seed = max_flops, seed
        self.report = dict(report or {})
        self.console = console or Console()

    def __call__(self) -> dict[str, float]:
        """Train the rungs that are missing, then fit.

        Returns:
            The report's metrics.
        """
        rows = self._read()
        done = {(row["model"], row["asked"]) for row in rows}
        todo = [rung for rung in self.rungs if rung not in done and not self._too_costly(rung)]
        # Cheap ones first: an interrupted ladder is a whole, shorter one.
        todo.sort(key=lambda rung: self._estimate(*rung))
        left = sum(self._estimate(*rung) for rung in todo)
        if rows:
            self.console.print(f"{len(rows)} rungs are in {self.path} already.", soft_wrap=True)
        start, spent = time.monotonic(), 0.0
        for i, (name, count) in enumerate(todo):
            row = self._train(name, count)
            rows.append(row)
            self._write(rows)
            spent += self._estimate(name, count)
            eta = (time.monotonic() - start) * (left - spent) / spent
            self.console.print(
                f"{i + 1:3d}/{len(todo)}  {name:>6}  N = {row['params']:>9,}  "
                f"D = {row['tokens']:>11,}  loss {row['loss']:.4f}  {row['seconds']:6.1f} s  "
                f"about {math.ceil(eta / 60)} min left",
                highlight=False,
            )
        return ScalingReport(
            str(self.output_dir), str(self.path), flops="column", console=self.console,
            **{"seed": self.seed, **self.report},
        )()  # fmt: skip

    # ------------------------------------------------------------------ rungs

    def _config(self, name: str) -> dict[str, Any]:
        size = {key: value for key, value in self.sizes[name].items() if key != "learning_rate"}
        return {
            "vocab_size": len(self.data.tokenizer),
            "dropout_rate": 0.0,
            "feed_forward_proj": "relu",
            **size,
            "num_decoder_layers": size["num_layers"],
        }

    def _estimate(self, name: str, count: int) -> float:
        """Return about how many FLOPs a rung costs: texts of 40 tokens, halved."""
        config = SimpleNamespace(**self._config(name))
        return t5_training_flops(config, 20, 20) * count / 40

    def _too_costly(self, rung: tuple[str, int]) -> bool:
        return self.max_flops is not None and self._estimate(*rung) > self.max_flops

    def _train(self, name: str, count: int) -> dict[str, Any]:
        torch.manual_seed(self.seed)
        config = self._config(name)
        arguments = {"config": config}
        if "learning_rate" in self.sizes[name]:
            arguments["learning_rate"] = self.sizes[name]["learning_rate"]
        self.data.num_tokens = count
        with _quiet_lightning():
            module, trainer = self.module(**arguments), self.trainer()
        start = time.monotonic()
        with _quiet_lightning():
            trainer.fit(module, datamodule=self.data)
        seconds = time.monotonic() - start
        loss = float(trainer.callback_metrics["val/loss"])
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss of rung {name} on {count:,} tokens is {loss}; lower its learning rate."
            )
        texts = self.data.chosen()
        shape = SimpleNamespace(**config)
        return {
            "model": name,
            "params": module.parameter_counts()[0],
            "tokens": sum(len(source) + len(target) for source, target in texts),
            "flops": sum(t5_training_flops(shape, len(s), len(t)) for s, t in texts),
            "loss": loss,
            "seconds": round(seconds, 2),
            "seed": self.seed,
            "asked": count,
        }

    # ------------------------------------------------------------------ table

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        table = pd.read_csv(self.path)
        if missing := {*COLUMNS, "asked"} - set(table.columns):
            raise ValueError(
                f"{self.path} is no table of this ladder (it lacks {', '.join(sorted(missing))}); "
                "choose another folder."
            )
        if others := sorted(set(table["model"]) - set(self.sizes)):
            raise ValueError(
                f"{self.path} has runs of {others[0]!r}, which is none of this ladder's sizes; "
                "choose another folder."
            )
        if seeds := sorted(set(table["seed"]) - {self.seed}):
            raise ValueError(
                f"{self.path} has runs of seed {seeds[0]}, and this ladder has seed {self.seed}; "
                "give the seed of then or choose another folder."
            )
        for name, then in zip(table["model"], table["params"], strict=True):
            if then != (now := backbone_size(self._config(name))):
                raise ValueError(
                    f"{self.path} has runs of {name} with {then:,} parameters, and sizes.{name} "
                    f"now has {now:,}; give the size of then or choose another folder."
                )
        return table.to_dict("records")

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        pd.DataFrame(rows, columns=[*COLUMNS, "asked"]).to_csv(temporary, index=False)
        temporary.replace(self.path)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep what Lightning says about devices and epochs from being said once a rung."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)
