"""Files of an attribution run: guesses, the course's array, evaluation, page, study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from src.algorithms.watermark.detection import adjust_p_values, assign_with_totals, check_totals
from src.algorithms.watermark.schemes import SCHEMES
from src.callbacks.prediction_writer import PredictionWriter, Row
from src.reports import watermark as report
from src.reports.figures import save_figure
from src.reports.watermark_page import render_page

FIELDS = (
    "index",
    "label",
    "probabilities",
    "z_score",
    "p_value",
    "q_value",
    "num_scored",
    "num_green",
    "num_e",
    "passage",
    "scheme",
    "rate",
    "note",
)


class AttributionWriter(PredictionWriter):
    """Writes ``guesses.jsonl``, ``Q4_guesses.npy``, ``page.html`` and, with labels, the evaluation.

    With known labels there are also ``confusion.csv``, ``confusion.png``, ``roc.csv`` and
    ``roc.png``; with an attack ``study.csv`` and ``study.png``.

    Args:
        output_dir: The run's folder.
        counts: Known totals of none, no_e, hard, soft; they replace the labels by the best
            assignment (at each rate of an attack).
        attack: Name of the attack, for the study's figure.
        fingerprint: Settings that decide the rows.

    Raises:
        ValueError: In ``setup``, if the totals do not account for every text.
    """

    def __init__(
        self,
        output_dir: str,
        counts: Sequence[int] | None = None,
        attack: str | None = None,
        fingerprint: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(output_dir, "guesses.jsonl", FIELDS, fingerprint)
        self.counts = list(counts) if counts is not None else None
        self.attack = attack

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.counts is not None:
            check_totals(self.counts, len(trainer.datamodule.texts))
        super().setup(trainer, pl_module, stage)

    def refine(self, rows: list[Row]) -> None:
        for group in _by_rate(rows).values():
            for row, q in zip(
                group, adjust_p_values([row["p_value"] for row in group]), strict=True
            ):
                row["q_value"] = float(q)
            scores = np.array([row["log_likelihoods"] for row in group])
            best = (
                scores.argmax(axis=1)
                if self.counts is None
                else assign_with_totals(
                    scores - np.logaddexp.reduce(scores, axis=1, keepdims=True), self.counts
                )
            )
            for row, number in zip(group, best.tolist(), strict=True):
                row["number"] = number + 1
                if self.counts is not None:
                    row["label"] = SCHEMES[number]

    def finish(self, rows: list[Row], trainer: Trainer) -> Mapping[str, float]:
        numbers = np.array([row["number"] for row in rows], dtype=np.int64)
        np.save(self.output_dir / "Q4_guesses.npy", numbers)
        metrics: dict[str, float] = {
            "test/num_texts": len(rows),
            "test/undecided": sum(row["label"] == "undecided" for row in rows),
            "test/marked_at_5_percent_fdr": sum(row["q_value"] <= 0.05 for row in rows),
        }
        console = Console()
        for row in [row for row in rows if row["error"]][:10]:
            console.print(f"text {row['index'] + 1}: {row['error']}", markup=False)
        writer = getattr(trainer.logger, "experiment", None)
        known = [row for row in rows if row["scheme"] is not None and not row["error"]]
        if known:
            metrics |= self._evaluate(known, writer, console)
        else:
            console.print("no text has a known scheme: no confusion matrix and no ROC curve.")
        if self.attack is not None:
            metrics |= self._study(known, writer)
        summary = ", ".join(
            f"{sum(row['label'] == name for row in rows)} {report.TITLES[name]}" for name in SCHEMES
        )
        if known:
            summary += (
                f". Of {len(known)} with a known scheme, {metrics['test/accuracy']:.1%} right"
            )
        page = render_page(rows, summary + ".")
        (self.output_dir / "page.html").write_text(page, encoding="utf-8")
        console.print(f"{len(rows)} texts: {summary}.", highlight=False)
        page_path = self.output_dir / "page.html"
        console.print(f"Evidence: {page_path}", soft_wrap=True, highlight=False)
        return metrics

    def _evaluate(self, rows: list[Row], writer: Any, console: Console) -> dict[str, float]:
        matrix = report.confusion_matrix(
            [row["scheme"] for row in rows], [row["label"] for row in rows]
        )
        right = int(np.trace(matrix[:, : len(SCHEMES)]))
        low, high = report.wilson_interval(right, len(rows))
        metrics = {
            "test/accuracy": right / len(rows),
            "test/accuracy_low": low,
            "test/accuracy_high": high,
        }
        columns = [*SCHEMES, "undecided"]
        report.write_csv(
            [
                {"scheme": scheme, **dict(zip(columns, counts.tolist(), strict=True))}
                for scheme, counts in zip(SCHEMES, matrix, strict=True)
            ],
            self.output_dir / "confusion.csv",
        )
        figures = {"confusion": report.draw_confusion(matrix)}
        curves = _curves(rows)
        if curves:
            figures["roc"] = report.draw_roc(curves)
            report.write_csv(
                [
                    {"scheme": scheme, "false_alarms": f, "found": t}
                    for scheme, (false, true) in curves.items()
                    for f, t in zip(false.tolist(), true.tolist(), strict=True)
                ],
                self.output_dir / "roc.csv",
            )
            for scheme, (false, true) in curves.items():
                metrics[f"test/tpr_at_1_fpr_{scheme}"] = report.rate_at_false_alarms(false, true)
                metrics[f"test/auc_{scheme}"] = report.area_under(false, true)
        else:
            console.print("no ROC curve: it needs unmarked texts and marked ones.")
        for name, figure in figures.items():
            save_figure(figure, self.output_dir / f"{name}.png")
            if hasattr(writer, "add_figure"):
                writer.add_figure(f"detect/{name}", figure, 0)
        table = Table(title=f"{right} of {len(rows)} right")
        for name in ("made by", *columns):
            table.add_column(name, justify="right")
        for scheme, counts in zip(SCHEMES, matrix.tolist(), strict=True):
            table.add_row(scheme, *map(str, counts))
        console.print(table)
        return metrics

    def _study(self, rows: list[Row], writer: Any) -> dict[str, float]:
        metrics: dict[str, float] = {}
        table = []
        schemes = [scheme for scheme in SCHEMES if any(row["scheme"] == scheme for row in rows)]
        for rate, group in sorted(_by_rate(rows).items()):
            is_right = [row["label"] == row["scheme"] for row in group]
            low, high = report.wilson_interval(sum(is_right), len(group))
            entry: dict[str, Any] = {
                "rate": rate,
                "num_texts": len(group),
                "num_tokens": float(np.mean([row["num_tokens"] for row in group])),
                "accuracy": float(np.mean(is_right)),
                "low": low,
                "high": high,
            }
            for scheme in schemes:
                mine = [row["label"] == scheme for row in group if row["scheme"] == scheme]
                entry[f"accuracy_{scheme}"] = float(np.mean(mine))
            for scheme, (false, true) in _curves(group).items():
                entry[f"tpr_{scheme}"] = report.rate_at_false_alarms(false, true)
            table.append(entry)
            metrics[f"test/accuracy_at_{rate:g}"] = entry["accuracy"]
            if hasattr(writer, "add_scalar"):
                step = round(100 * rate)
                for name in [key for key in entry if key.startswith(("accuracy", "tpr"))]:
                    writer.add_scalar(f"study_{self.attack}/{name}", entry[name], step)
        report.write_csv(table, self.output_dir / "study.csv")
        figure = report.draw_study(self.attack or "", table, schemes)
        save_figure(figure, self.output_dir / "study.png")
        if hasattr(writer, "add_figure"):
            writer.add_figure(f"study_{self.attack}/curves", figure, 0)
        return metrics


def _by_rate(rows: Sequence[Row]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["rate"], []).append(row)
    return groups


def _curves(rows: Sequence[Row]) -> dict[str, Any]:
    """ROC of each marked scheme against none, by the log-ratio of its likelihood to none's."""
    scores: dict[str, dict[str, list[float]]] = {}
    for i, scheme in enumerate(SCHEMES[1:], start=1):
        for true in (SCHEMES[0], scheme):
            scores.setdefault(scheme, {})[true] = [
                row["log_likelihoods"][i] - row["log_likelihoods"][0]
                for row in rows
                if row["scheme"] == true
            ]
    return {
        scheme: report.roc_curve(by_truth[SCHEMES[0]], by_truth[scheme])
        for scheme, by_truth in scores.items()
        if by_truth[SCHEMES[0]] and by_truth[scheme]
    }
