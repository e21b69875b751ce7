"""Tables and figures of watermarked generation and of attribution.

Decides how quality is measured (perplexity, distinct-n, speed), what a confusion matrix, a ROC
curve and its rate at 1 % false alarms are, and how the three are drawn. distinct-n is the share of
different n-grams among all n-grams of a scheme's texts (Li et al. 2016, arXiv 1510.03055); it falls
with the number of texts, so it compares schemes of one run only.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.algorithms.watermark.schemes import SCHEMES
from src.reports.figures import SEQUENTIAL, ink_on, legend_beside, new_figure, series_style

Row = Mapping[str, Any]

#: Schemes as a reader knows them.
TITLES = {"none": "none", "no_e": "no-e", "hard": "hard", "soft": "soft"}


def wilson_interval(num_right: int, num: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share; (0, 1) for none of none."""
    if num == 0:
        return 0.0, 1.0
    share = num_right / num
    centre = share + z * z / (2 * num)
    half = z * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    scale = 1 + z * z / num
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def quality_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Compare the schemes' texts with unmarked ones.

    Args:
        rows: Generated rows with ``scheme, token_ids, nll, seconds``.

    Returns:
        One row a scheme: its perplexity under the unmarked model, distinct-1 to distinct-3 and
        tokens a second, and the ratio of each to that of ``none`` (None where there is no
        ``none``).
    """
    table = []
    for scheme in dict.fromkeys(row["scheme"] for row in rows):
        mine = [row for row in rows if row["scheme"] == scheme]
        num_tokens = sum(len(row["token_ids"]) for row in mine)
        entry: dict[str, Any] = {
            "scheme": scheme,
            "num_texts": len(mine),
            "perplexity": math.exp(min(700.0, sum(row["nll"] for row in mine) / num_tokens)),
            "tokens_per_second": num_tokens / max(1e-9, sum(row["seconds"] for row in mine)),
        }
        for n in (1, 2, 3):
            entry[f"distinct_{n}"] = distinct_n([row["token_ids"] for row in mine], n)
        table.append(entry)
    measures = ("perplexity", "distinct_1", "distinct_2", "distinct_3", "tokens_per_second")
    plain = next((entry for entry in table if entry["scheme"] == "none"), None)
    for entry in table:
        for measure in measures:
            usual = plain[measure] if plain else 0.0  # 0: texts of two tokens have no distinct_3
            entry[f"{measure}_ratio"] = entry[measure] / usual if usual else None
    return table


def distinct_n(token_ids: Sequence[Sequence[int]], n: int) -> float:
    """Return the share of different n-grams among all of several texts; 0 if there is none."""
    grams = [tuple(ids[i : i + n]) for ids in token_ids for i in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def write_csv(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows of equal keys as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def confusion_matrix(truth: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
    """Count known schemes (rows) against labels (columns: the schemes, then ``undecided``).

    Returns:
        Shape (4, 5).
    """
    columns = [*SCHEMES, "undecided"]
    matrix = np.zeros((len(SCHEMES), len(columns)), dtype=np.int64)
    for true, label in zip(truth, labels, strict=True):
        matrix[SCHEMES.index(true), columns.index(label)] += 1
    return matrix


def roc_curve(
    unmarked: Sequence[float], marked: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Trace the rate of true against false alarms over every threshold.

    Args:
        unmarked: Scores of texts without the mark.
        marked: Scores of texts with it; larger means more marked.

    Returns:
        False and true alarm rates, both from 0 to 1, one point for each different score.
    """
    negative, positive = np.sort(np.asarray(unmarked)), np.sort(np.asarray(marked))
    thresholds = np.unique(np.concatenate([negative, positive]))[::-1]
    false = 1 - np.searchsorted(negative, thresholds, side="left") / len(negative)
    true = 1 - np.searchsorted(positive, thresholds, side="left") / len(positive)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


def rate_at_false_alarms(
    false: NDArray[np.float64], true: NDArray[np.float64], level: float = 0.01
) -> float:
    """Return the largest true alarm rate whose false alarm rate is at most ``level``."""
    return float(true[false <= level + 1e-12].max())


def area_under(false: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Return the area under a ROC curve by trapezoids."""
    return float(np.trapezoid(true, false))


def draw_confusion(matrix: NDArray[np.int64]) -> Figure:
    """Draw a confusion matrix: counts as numbers, shares of each row as lightness."""
    has_undecided = matrix[:, -1].any()
    shown = matrix if has_undecided else matrix[:, :-1]
    figure, (axes,) = new_figure(size=(4.8 if has_undecided else 4.4, 3.6))
    shares = shown / np.maximum(1, shown.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap=SEQUENTIAL, vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(shown):
        ink = ink_on(tuple(image.cmap(image.norm(shares[i, j]))))
        axes.text(j, i, str(count), ha="center", va="center", color=ink, fontsize=10)
    names = [TITLES[scheme] for scheme in SCHEMES]
    axes.set_xticks(range(shown.shape[1]), [*names, "undecided"][: shown.shape[1]])
    axes.set_yticks(range(len(SCHEMES)), names)
    axes.set_xlabel("attributed to")
    axes.set_ylabel("made by")
    axes.grid(False)
    total = int(shown.sum())
    right = int(np.trace(matrix[:, : len(SCHEMES)]))
    axes.set_title(f"{right} of {total} texts attributed right")
    figure.colorbar(image, ax=axes, label="share of the row")
    return figure


def draw_roc(curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Figure:
    """Draw ROC curves, false alarms on a logarithmic axis as far as they can be told apart."""
    figure, (axes,) = new_figure(size=(5.0, 3.6))
    smallest = min(float(false[false > 0].min()) for false, _ in curves.values())
    floor = min(smallest / 2, 0.005)
    for i, (scheme, (false, true)) in enumerate(curves.items()):
        rate = rate_at_false_alarms(false, true)
        style = {**series_style(i), "markevery": 0.12}
        axes.plot(
            np.maximum(false, floor),
            true,
            **style,
            drawstyle="steps-post",
            label=f"{TITLES[scheme]}: {rate:.1%} at 1 % false alarms",
            linewidth=2.6 - 0.6 * i,  # curves that coincide stay visible under each other
        )
    axes.axvline(0.01, color="0.4", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(floor, 1.05)
    axes.set_ylim(-0.02, 1.04)
    axes.set_xlabel("false alarms on unmarked texts")
    axes.set_ylabel("marked texts found")
    axes.legend(loc="lower right")
    return figure


def draw_study(attack: str, table: Sequence[Mapping[str, Any]], schemes: Sequence[str]) -> Figure:
    """Draw attribution and detection against the rate of an attack, or the length it leaves.

    Args:
        attack: Its name; for ``truncation`` the axis is the tokens that are left.
        table: One row a rate: ``rate, num_tokens, accuracy, low, high`` and, for each scheme,
            ``accuracy_SCHEME`` and (but for none) ``tpr_SCHEME``.
        schemes: Those that the texts have.
    """
    figure, (left, right) = new_figure(2, size=(4.3, 3.5), sharey=True)
    is_length = attack == "truncation"
    x = [row["num_tokens"] if is_length else 100 * row["rate"] for row in table]
    low = [row["low"] for row in table]
    high = [row["high"] for row in table]
    left.fill_between(x, low, high, color="0.85", label="all, 95 % interval", linewidth=0)
    left.plot(x, [row["accuracy"] for row in table], color="black", linewidth=2, label="all")
    for i, scheme in enumerate(schemes):
        style = {**series_style(i), "alpha": 0.9}
        left.plot(x, [row[f"accuracy_{scheme}"] for row in table], label=TITLES[scheme], **style)
        if f"tpr_{scheme}" in table[0]:
            right.plot(x, [row[f"tpr_{scheme}"] for row in table], label=TITLES[scheme], **style)
    label = "tokens in a text" if is_length else f"{attack}: % of the tokens"
    left.set_title("attributed to the right scheme")
    right.set_title("found at 1 % false alarms")
    for axes in (left, right):
        axes.set_xlabel(label)
        axes.set_ylim(-0.02, 1.04)
    left.set_ylabel("share of texts")
    legend_beside(right, handles=left.get_legend_handles_labels()[0])
    return figure
