"""How the project's figures look: sizes, colours, markers, and how they are saved.

The colours are those of Okabe and Ito (2008), told apart by every common form of colour vision;
each series also has a marker and a dash pattern of its own, so that a figure reads in black and
white. Figures are drawn with matplotlib's object interface and never open a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (5, 2, 1, 2)),
    (0, (3, 1)),
    (0, (8, 2)),
    (0, (1, 3)),
    (0, (3, 1, 1, 1, 1, 1)),
)
#: A sequential map that is monotone in lightness.
SEQUENTIAL = "cividis"

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
}


def new_figure(
    num_columns: int = 1, num_rows: int = 1, size: tuple[float, float] = (4.6, 3.4), **kwargs: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``num_rows x num_columns`` panels.

    Args:
        num_columns: Panels side by side.
        num_rows: Panels above each other.
        size: Width and height of one panel in inches.
        **kwargs: Passed to ``Figure.subplots``.

    Returns:
        The figure and its axes, row by row.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(
            figsize=(size[0] * num_columns, size[1] * num_rows), layout="constrained", dpi=150
        )
        FigureCanvasAgg(figure)
        axes = figure.subplots(num_rows, num_columns, squeeze=False, **kwargs)
    return figure, list(axes.flat)


def series_style(index: int) -> dict[str, Any]:
    """Return colour, marker and dashes of the ``index``-th series."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index % len(DASHES)],
    }


def legend_beside(axes: Axes, **kwargs: Any) -> None:
    """Put a panel's legend to its right, where it hides no data."""
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8, **kwargs)


def count_ticks(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis of counts as ``20k  50k  100k``, without crowding it.

    Args:
        axis: ``axes.xaxis`` or ``axes.yaxis``.
        low: Smallest value shown.
        high: Largest value shown.
    """
    decades = math.log10(high / low)
    subs = (1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axis.set_minor_formatter(NullFormatter())


def ink_on(rgba: Sequence[float]) -> str:
    """Return black or white, whichever reads on a background of this colour."""
    red, green, blue = rgba[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG; the folder is made if need be.

    Args:
        figure: The figure.
        path: File to write.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_STYLE):
        figure.savefig(path)
    return path


def short_number(value: float) -> str:
    """Write a count in three digits and a unit: ``295k`` for 294,912, ``21.9B`` for 2.19e10."""
    return in_unit(value, {1e12: "T", 1e9: "B", 1e6: "M", 1e3: "k", 1: ""})


def in_unit(value: float, units: Mapping[float, str]) -> str:
    """Write a number in three digits and the largest unit that it reaches.

    Args:
        value: The number.
        units: Size of each unit to its name, the largest first.
    """
    # What three digits round up to a unit has reached it.
    size = next((size for size in units if abs(value) >= size * 0.9995), min(units))
    return f"{value / size:.3g}{units[size]}"
