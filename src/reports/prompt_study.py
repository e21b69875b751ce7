"""The prompt study's results: one line a cell, the heat map, and which differences are real.

An accuracy comes with its 95 % Wilson interval. Each strategy is compared with zero-shot of the
same model on the same problems by McNemar's exact test, two-sided, and the p-values of the whole
grid are corrected together by Holm's method.

Files: ``prompt.csv`` (a line for each cell), ``significance.csv`` and ``heatmap.png``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from src.reports.figures import SEQUENTIAL, ink_on, new_figure, save_figure

BASELINE = "zero_shot"
LEVEL = 0.05

Key = tuple[str, str, int]


@dataclass(frozen=True)
class CellResult:
    """One cell of the grid.

    Attributes:
        model: Backbone, with its method if it was adapted.
        strategy: Strategy, ``as trained`` for an adapted model.
        num_shots: Examples shown.
        num_problems: Problems asked.
        num_correct: Problems solved.
        accuracy: Share solved; None where the cell failed.
        low: Lower end of the 95 % Wilson interval.
        high: Upper end.
        unparsable: Share of outputs without an answer.
        tokens: Tokens generated a problem, all samples together.
        seconds: Time of the cell.
        num_examples_dropped: Examples left out of prompts that were too long.
        error: Why the cell failed, or None.
    """

    model: str
    strategy: str
    num_shots: int
    num_problems: int
    num_correct: int
    accuracy: float | None
    low: float | None
    high: float | None
    unparsable: float | None
    tokens: float | None
    seconds: float
    num_examples_dropped: int
    error: str | None

    @property
    def key(self) -> Key:
        """What identifies the cell."""
        return (self.model, self.strategy, self.num_shots)


@dataclass(frozen=True)
class Comparison:
    """A cell against zero-shot of the same backbone.

    Attributes:
        model: As in the cell.
        strategy: As in the cell.
        num_shots: As in the cell.
        difference: Accuracy minus that of zero-shot.
        num_gained: Problems that only the cell solved.
        num_lost: Problems that only zero-shot solved.
        p_value: McNemar's exact test, two-sided.
        p_holm: The same, corrected over the grid.
    """

    model: str
    strategy: str
    num_shots: int
    difference: float
    num_gained: int
    num_lost: int
    p_value: float
    p_holm: float


def with_distinct_names(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Name adapted models after their runs too, where two runs of a backbone have one method.

    Args:
        rows: As for :func:`summarize`; an adapted model's hold its ``run``, a folder or file.
    """
    rows = list(rows)
    runs: dict[str, dict[str, None]] = {}
    for row in rows:
        if run := row.get("run"):
            runs.setdefault(row["model"], {})[run] = None
    names = {}
    for model, paths in runs.items():
        short = {path: Path(path).name for path in paths}
        is_clear = len(set(short.values())) == len(paths)
        for path in paths:
            name = short[path] if is_clear else path
            names[model, path] = f"{model} ({name})" if len(paths) > 1 else model
    return [
        {**row, "model": names.get((row["model"], row.get("run")), row["model"])} for row in rows
    ]


def group_rows(rows: Iterable[Mapping[str, Any]]) -> dict[Key, list[Mapping[str, Any]]]:
    """Sort rows into their cells, in the order in which the cells first appear."""
    cells: dict[Key, list[Mapping[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["model"], row["strategy"], row["num_shots"]), []).append(row)
    return cells


def summarize(rows: Iterable[Mapping[str, Any]]) -> list[CellResult]:
    """Work out the result of every cell.

    Args:
        rows: What ``src/modules/prompting.py`` returns for each problem of each cell.
    """
    results = []
    for (model, strategy, num_shots), cell in group_rows(rows).items():
        error = next((row["error"] for row in cell if row.get("error")), None)
        num_correct = sum(bool(row["correct"]) for row in cell)
        accuracy = low = high = unparsable = tokens = None
        if error is None:
            accuracy = num_correct / len(cell)
            interval = proportion_confint(num_correct, len(cell), method="wilson")
            low, high = np.array(interval).tolist()
            unparsable = sum(row["parsed"] is None for row in cell) / len(cell)
            tokens = sum(row["num_tokens"] for row in cell) / len(cell)
        results.append(
            CellResult(
                model, strategy, num_shots, len(cell), num_correct, accuracy,
                low, high, unparsable, tokens, sum(row["seconds"] for row in cell),
                sum(row.get("num_examples_dropped", 0) for row in cell), error,
            )
        )  # fmt: skip
    return results


def compare(rows: Iterable[Mapping[str, Any]]) -> list[Comparison]:
    """Compare every cell with zero-shot of its backbone, problem by problem.

    Args:
        rows: As for :func:`summarize`. Cells that failed, and models without a zero-shot cell, are
            left out. An adapted model is compared with zero-shot of its bare backbone.
    """
    cells = {
        key: {row["problem"]: bool(row["correct"]) for row in cell}
        for key, cell in group_rows(rows).items()
        if not any(row.get("error") for row in cell)
    }
    found = []
    for (model, strategy, num_shots), solved in cells.items():
        baseline = cells.get((model.split(" + ")[0], BASELINE, 0))
        if baseline is None or (model, strategy, num_shots) == (model, BASELINE, 0):
            continue
        gained = sum(solved[p] and not baseline[p] for p in solved if p in baseline)
        lost = sum(baseline[p] and not solved[p] for p in solved if p in baseline)
        p_value = min(float(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue), 1.0)
        difference = (gained - lost) / len(solved)
        found.append(
            Comparison(model, strategy, num_shots, difference, gained, lost, p_value, p_value)
        )
    if not found:
        return []
    corrected = np.array(multipletests([item.p_value for item in found], method="holm")[1])
    return [replace(item, p_holm=p) for item, p in zip(found, corrected.tolist(), strict=True)]


def write_study(
    rows: Sequence[Mapping[str, Any]], output_dir: str | Path, console: Console | None = None
) -> dict[str, float]:
    """Write the tables and the heat map, and print the result.

    Args:
        rows: As for :func:`summarize`.
        output_dir: Folder of the files.
        console: Where the table goes.

    Returns:
        Metrics ``accuracy/MODEL/STRATEGY-K``.
    """
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    console = console or Console()
    rows = with_distinct_names(rows)
    results, comparisons = summarize(rows), compare(rows)
    pd.DataFrame([asdict(result) for result in results]).to_csv(
        output_dir / "prompt.csv", index=False
    )
    columns = list(Comparison.__dataclass_fields__)
    pd.DataFrame([asdict(item) for item in comparisons], columns=columns).to_csv(
        output_dir / "significance.csv", index=False
    )
    against = {(item.model, item.strategy, item.num_shots): item for item in comparisons}
    console.print(_table(results, against))
    for result in results:
        if result.error:
            name = f"{result.model} / {result.strategy} / k={result.num_shots}"
            console.print(f"Failed: {name}: {result.error}", markup=False)
    if dropped := sum(result.num_examples_dropped for result in results):
        console.print(f"{dropped} examples were left out of prompts that would be too long.")
    draw_heatmap(results, against, output_dir / "heatmap.png")
    console.print(f"Prompts, outputs, tables and figure: {output_dir}", soft_wrap=True)
    return {
        f"accuracy/{r.model}/{r.strategy}-{r.num_shots}": r.accuracy
        for r in results
        if r.accuracy is not None
    }


def _table(results: Sequence[CellResult], against: Mapping[Key, Comparison]) -> Table:
    table = Table(
        title=f"Word problems by prompting, {max(r.num_problems for r in results)} problems",
        title_justify="left",
        caption="%: accuracy with its 95 % Wilson interval; p: McNemar against zero-shot, Holm "
        "over the grid, * below 0.05; none: share of outputs without an answer",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("model, strategy", no_wrap=True)
    for name in ("k", "%", "p", "none", "tokens", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for i, r in enumerate(results):
        if i == 0 or results[i - 1].model != r.model:
            table.add_row(f"[bold]{escape(r.model)}")
        if r.accuracy is None or r.low is None or r.high is None:
            cells = ["failed", "-", "-", "-"]
        else:
            item = against.get(r.key)
            star = "*" if item and item.p_holm < LEVEL else " "
            cells = [
                escape(f"{100 * r.accuracy:.0f} [{100 * r.low:.0f}-{100 * r.high:.0f}]"),
                f"{item.p_holm:.2g}{star}" if item else "- ",
                f"{r.unparsable:.0%}",
                f"{r.tokens:.0f}",
            ]
        ends = i + 1 == len(results) or results[i + 1].model != r.model
        table.add_row(
            f"  {r.strategy}", str(r.num_shots), *cells, f"{r.seconds:.0f}", end_section=ends
        )
    return table


def draw_heatmap(
    results: Sequence[CellResult], against: Mapping[Key, Comparison], path: str | Path
) -> Path:
    """Draw accuracy by model (rows) and strategy with its k (columns).

    Args:
        results: The cells.
        against: Their comparisons with zero-shot; a significant one is starred.
        path: File to write.
    """
    models = list(dict.fromkeys(r.model for r in results))
    columns = list(dict.fromkeys((r.strategy, r.num_shots) for r in results))
    grid = np.full((len(models), len(columns)), np.nan)
    found = {}
    for r in results:
        place = models.index(r.model), columns.index((r.strategy, r.num_shots))
        found[place] = r
        grid[place] = np.nan if r.accuracy is None else r.accuracy
    width = max(0.95 * len(columns) + 2.2, 4.5)
    figure, (axes,) = new_figure(size=(width, 0.75 * len(models) + 1.9))
    axes.grid(visible=False)
    colors = mpl.colormaps[SEQUENTIAL]
    top = max(float(np.nanmax(grid, initial=0.0)), 0.1)
    image = axes.imshow(grid, cmap=colors, vmin=0, vmax=top, aspect="auto")
    for row in range(len(models)):
        for column in range(len(columns)):
            r = found.get((row, column))
            if r is None or r.accuracy is None:
                text, ink = ("" if r is None else "failed"), "0.3"
            else:
                item = against.get(r.key)
                star = "*" if item and item.p_holm < LEVEL else ""
                text = f"{100 * r.accuracy:.0f}{star}\n{100 * r.low:.0f}-{100 * r.high:.0f}"
                ink = ink_on(colors(r.accuracy / top))
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    labels = [strategy.replace("_", " ") + (f"\nk = {k}" if k else "") for strategy, k in columns]
    axes.set_xticks(range(len(columns)), labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(models)), models)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, pad=0.02, format=lambda v, _: f"{100 * v:.3g} %")
    bar.outline.set_visible(False)
    axes.set_title(
        "Answer accuracy in % with its 95 % interval (* differs from zero-shot)", fontsize=9
    )
    return save_figure(figure, path)
