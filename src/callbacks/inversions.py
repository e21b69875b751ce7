"""The texts behind embeddings: ``inversions.jsonl``, the course's ``Q5.txt``, a table, curves."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from src.callbacks.prediction_writer import PredictionWriter, Row

FIELDS = (
    "index",
    "text",
    "cosine",
    "exact",
    "runner_up_gap",
    "evaluations",
    "seconds",
    "alternatives",
)


class InversionWriter(PredictionWriter):
    """Write what an inversion found, and show it.

    ``inversions.jsonl`` has :data:`FIELDS`; ``Q5.txt`` has one text a line, in the order of the
    targets, best guesses included. TensorBoard gets the best cosine by evaluations of each target.

    Args:
        output_dir: The run's folder.
        fingerprint: Settings that decide the results, for resuming.
        show_progress: Whether to draw a progress bar.
        num_shown: Most rows in the terminal's table.
    """

    def __init__(
        self,
        output_dir: str,
        fingerprint: Mapping[str, Any] | None = None,
        show_progress: bool = True,
        num_shown: int = 40,
    ) -> None:
        super().__init__(output_dir, "inversions.jsonl", FIELDS, fingerprint)
        self.show_progress, self.num_shown = show_progress, num_shown
        self._progress: Progress | None = None
        self._module: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._module = pl_module  # needed even where no row is left and the loop is left out
        super().setup(trainer, pl_module, stage)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not (self.show_progress and trainer.is_global_zero):
            return
        groups: Any = trainer.predict_dataloaders
        total = sum(len(group) for group in groups.dataset)
        progress = self._progress = Progress(
            TextColumn("identified {task.fields[exact]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("mean cosine of the others {task.fields[cosine]:.4f}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        task = progress.add_task("invert", total=total, exact=0, cosine=0.0)
        progress.start()
        state = {"exact": 0}

        def advance(done: int, exact: int, cosine: float) -> None:
            state["exact"] += exact
            progress.update(task, advance=done, exact=state["exact"])
            if not done:
                progress.update(task, cosine=cosine)

        pl_module.on_progress = advance  # pyright: ignore[reportArgumentType]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()
        super().on_predict_end(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._stop()
        super().teardown(trainer, pl_module, stage)

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def finish(self, rows: list[Row], trainer: Trainer) -> Mapping[str, float] | None:
        lines = [" ".join(row["text"].split()) for row in rows]
        (self.output_dir / "Q5.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._print(rows)
        writer: Any = getattr(trainer.logger, "experiment", None)
        if hasattr(writer, "add_scalar"):  # TensorBoard's
            for row in rows:
                for evaluations, cosine in row["trace"]:
                    writer.add_scalar(f"invert/cosine/{row['index']:03d}", cosine, evaluations)
        num, exact = len(rows), [row for row in rows if row["exact"]]
        metrics: dict[str, float] = {
            "invert/num_targets": num,
            "invert/num_exact": len(exact),
            "invert/exact_rate": len(exact) / num if num else 0.0,
            "invert/cosine_mean": statistics.fmean(r["cosine"] for r in rows) if rows else 0.0,
            "invert/background_cosine": statistics.fmean(r["background"] for r in rows)
            if rows
            else 0.0,
        }
        if rows:
            metrics["invert/evaluations_median"] = statistics.median(r["evaluations"] for r in rows)
            metrics["invert/evaluations_total"] = sum(r["evaluations"] for r in rows)
            metrics["invert/one_off_evaluations"] = self._module.one_off_evaluations
        moves: dict[str, int] = {}
        gains: dict[str, float] = {}
        for row in rows:
            if row["found_by"]:
                moves[row["found_by"]] = moves.get(row["found_by"], 0) + 1
            for move, gain in row["gains"].items():
                gains[move] = gains.get(move, 0.0) + gain
        metrics |= {f"invert/found_by_{move}": count for move, count in sorted(moves.items())}
        metrics |= {f"invert/gain_{move}": gain / num for move, gain in sorted(gains.items())}
        return metrics

    def _print(self, rows: list[Row]) -> None:
        """Show the rows: text, how sure, what it cost."""
        table = Table(title="texts behind the embeddings", title_justify="left", box=box.SIMPLE)
        table.add_column("", justify="right", no_wrap=True)
        table.add_column("text", overflow="fold", min_width=24)
        table.add_column("", no_wrap=True)
        for name in ("cosine", "gap", "backgr.", "eval.", "s"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows[: self.num_shown]:
            table.add_row(
                str(row["index"]),
                Text(row["text"]),  # brackets in it are no markup
                "exact" if row["exact"] else "guess",
                f"{row['cosine']:.6f}",
                f"{row['runner_up_gap']:.4f}",
                f"{row['background']:.3f}",
                str(row["evaluations"]),
                f"{row['seconds']:.1f}",
            )
        console = Console()
        console.print(table)
        exact = sum(row["exact"] for row in rows)
        if len(rows) > self.num_shown:
            console.print(f"... and {len(rows) - self.num_shown} more")
        if exact < len(rows):
            console.print(
                f"{exact} of {len(rows)} identified; the others are best guesses: compare their "
                "cosine with the background, the mean cosine of unrelated texts."
            )
        else:
            console.print(f"all {exact} identified")
        console.print(f"Texts: {self.output_dir / 'Q5.txt'}", soft_wrap=True, highlight=False)
