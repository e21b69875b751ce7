"""``eval.py task=count``: what each way of adapting a T5 trains, stores and computes.

Only the backbone's architecture is read. Every count is made twice, in closed form and on the meta
device, and the two must agree. With a budget (or ``match`` to the budget of one method) every
method that has a size gets the rank, bottleneck or prefix length that comes closest.

Files: ``counts.csv`` (a line for each method), ``counts_by_site.csv`` (stack, layer, sublayer and
part) and ``counts.png``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from src.algorithms.peft import MethodSpec, PrefixSpec
from src.algorithms.peft.counts import (
    UNITS,
    Count,
    added_flops,
    backbone_size,
    count,
    measure,
    meet_budget,
    total,
)
from src.backbones import load_config
from src.reports.figures import (
    COLORS,
    in_unit,
    legend_beside,
    new_figure,
    save_figure,
    short_number,
)

BYTES = 4  # float32, which is what is trained and stored
ADAM_MOMENTS = 2


@dataclass(frozen=True)
class MethodCost:
    """One row of ``counts.csv``.

    Attributes:
        backbone: Name of the backbone.
        method: Name of the method.
        trainable: Trainable parameters, closed form.
        total: Parameters of the backbone with the method.
        share: ``trainable / total``.
        measured: Trainable parameters as counted on the meta device.
        size: The hyperparameter that sets the size, as ``rank=8``; empty if there is none.
        stored: Parameters that are kept after training (a prefix without its MLP).
        disk_bytes: Their bytes on disk.
        optimizer_bytes: AdamW's two moments.
        checkpoint_bytes: A checkpoint to resume from: what is trained, and its moments.
        train_flops_source: FLOPs added in training (forward and backward) per encoder token.
        train_flops_target: The same per decoder token.
        infer_flops_source: FLOPs added in inference per encoder token, LoRA merged.
        infer_flops_target: The same per decoder token.
    """

    backbone: str
    method: str
    trainable: int
    total: int
    share: float
    measured: int
    size: str
    stored: int
    disk_bytes: int
    optimizer_bytes: int
    checkpoint_bytes: int
    train_flops_source: int
    train_flops_target: int
    infer_flops_source: int
    infer_flops_target: int


def cost(backbone: str, name: str, spec: MethodSpec, config: Any) -> MethodCost:
    """Work out what a method costs on a T5.

    Args:
        backbone: Name of the backbone.
        name: Name of the method.
        spec: The method.
        config: The T5's configuration.
    """
    trainable = total(count(spec, config))
    measured, everything = measure(spec, config)
    stored = (
        total(count(spec.materialized(), config)) if isinstance(spec, PrefixSpec) else trainable
    )
    unit = UNITS.get(spec.method)
    train = added_flops(spec, config, is_training=True)
    infer = added_flops(spec, config, is_training=False)
    return MethodCost(
        backbone=backbone,
        method=name,
        trainable=trainable,
        total=everything,
        share=trainable / everything,
        measured=measured,
        size=f"{unit}={getattr(spec, unit)}" if unit else "",
        stored=stored,
        disk_bytes=BYTES * stored,
        optimizer_bytes=ADAM_MOMENTS * BYTES * trainable,
        checkpoint_bytes=(1 + ADAM_MOMENTS) * BYTES * trainable,
        train_flops_source=train.source,
        train_flops_target=train.target,
        infer_flops_source=infer.source,
        infer_flops_target=infer.target,
    )


class CountReport:
    """Count every method on one backbone.

    Args:
        output_dir: Folder of the tables and the figure.
        backbone: The backbone's spec.
        methods: Name of each method to its hyperparameters.
        budget: Stored parameters that every method with a size is to come close to.
        match: Name of the method whose count is that budget.
        console: Where the tables go.

    Raises:
        ValueError: If the backbone is no T5, ``match`` is unknown or has no size, both ``match``
            and ``budget`` are given, or no method meets the budget.
        BackboneError: If the architecture can neither be read nor downloaded.
    """

    def __init__(
        self,
        output_dir: str,
        backbone: Mapping[str, Any],
        methods: Mapping[str, MethodSpec],
        budget: int | None = None,
        match: str | None = None,
        console: Console | None = None,
    ) -> None:
        if backbone["family"] != "t5":
            raise ValueError(
                f"backbone {backbone['name']!r} is of family {backbone['family']!r}; the methods "
                "counted here are those on T5: choose for example backbone=t5_base."
            )
        self.output_dir, self.name = Path(output_dir), str(backbone["name"])
        self.config = load_config(backbone)
        self.console = console or Console()
        self.unmet: dict[str, str] = {}
        self.methods = dict(methods)
        if match is not None:
            if budget is not None:
                raise ValueError("match and budget are both given; give one of them.")
            if match not in methods:
                raise ValueError(f"match={match} is unknown; choose {', '.join(methods)}.")
            if methods[match].method not in UNITS:
                raise ValueError(f"match={match} has no size to match; choose {', '.join(UNITS)}.")
            spec = methods[match]
            # What is kept of a prefix: its training may take an MLP besides.
            kept = spec.materialized() if isinstance(spec, PrefixSpec) else spec
            budget = total(count(kept, self.config))
        self.budget = budget
        if budget is not None:
            self._meet(budget)

    def _meet(self, budget: int) -> None:
        for name, spec in list(self.methods.items()):
            if spec.method not in UNITS:
                continue
            try:
                self.methods[name] = meet_budget(spec, self.config, budget)
            except ValueError as error:
                self.unmet[name] = str(error)
                del self.methods[name]
        if not any(spec.method in UNITS for spec in self.methods.values()):
            raise ValueError(next(iter(self.unmet.values())))

    def __call__(self) -> dict[str, float]:
        """Write the files and print the tables.

        Returns:
            Metrics ``trainable/METHOD``.
        """
        costs = [cost(self.name, name, spec, self.config) for name, spec in self.methods.items()]
        for row in costs:
            if row.measured != row.trainable:
                raise RuntimeError(
                    f"{row.method}: closed form {row.trainable:,}, measured {row.measured:,}"
                )
        sites = {name: count(spec, self.config) for name, spec in self.methods.items()}
        self.output_dir.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([asdict(row) for row in costs]).to_csv(
            self.output_dir / "counts.csv", index=False
        )
        by_site = [
            {"backbone": self.name, "method": name, **asdict(item)}
            for name, items in sites.items()
            for item in items
        ]
        pd.DataFrame(by_site).to_csv(self.output_dir / "counts_by_site.csv", index=False)
        self._print(costs, sites)
        self._draw(costs, sites)
        self.console.print(f"Tables and figure: {self.output_dir}", soft_wrap=True)
        return {f"trainable/{row.method}": row.trainable for row in costs}

    # ------------------------------------------------------------------ tables

    def _print(self, costs: list[MethodCost], sites: Mapping[str, list[Count]]) -> None:
        size = short_number(backbone_size(self.config))
        title = f"What adaptation costs on {self.name} ({size} parameters)"
        if self.budget is not None:
            title += f", budget {self.budget:,}"
        table = Table(title=title, title_justify="left")
        table.add_column("method", no_wrap=True)
        for name in ("size", "trainable", "share", "on disk", "checkpoint"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in costs:
            unit, _, number = row.size.partition("=")
            table.add_row(
                row.method,
                _SYMBOLS.get(unit, "") + number,
                f"{row.trainable:,}",
                _share(row.share),
                _bytes(row.disk_bytes),
                _bytes(row.checkpoint_bytes),
            )
        self.console.print(table)
        for message in self.unmet.values():
            self.console.print(f"Left out: {message}.", markup=False)
        table = Table(
            title="FLOPs added to a token of the encoder / decoder; optimiser state",
            title_justify="left",
            caption="training: forward and backward; inference: LoRA merged, a prefix without "
            "its MLP; full: the gradients of the weights",
            caption_justify="left",
        )  # fmt: skip
        for name in ("method", "training", "inference", "AdamW's moments"):
            table.add_column(name, justify="left" if name == "method" else "right")
        for row in costs:
            table.add_row(
                row.method,
                f"{short_number(row.train_flops_source)} / {short_number(row.train_flops_target)}",
                f"{short_number(row.infer_flops_source)} / {short_number(row.infer_flops_target)}",
                _bytes(row.optimizer_bytes),
            )
        self.console.print(table)
        table = Table(title="Where they sit", title_justify="left")
        table.add_column("method", no_wrap=True)
        for place in _PLACES:
            table.add_column(place, justify="right")
        for name, items in sites.items():
            found = _by_place(items)
            table.add_row(name, *(short_number(found[p]) if found[p] else "-" for p in _PLACES))
        self.console.print(table)

    # ------------------------------------------------------------------ figure

    def _draw(self, costs: list[MethodCost], sites: Mapping[str, list[Count]]) -> None:
        figure, axes = new_figure(
            2, size=(4.8, 0.42 * len(costs) + 1.3), gridspec_kw={"width_ratios": [1, 1.2]}
        )
        names = [row.method for row in costs]
        place = range(len(costs))
        values = [max(row.trainable, 0) for row in costs]
        axes[0].barh(place, values, color=COLORS[0], height=0.6)
        positive = [value for value in values if value]
        if positive:
            axes[0].set_xscale("log")
            axes[0].set_xlim(min(positive) / 5, max(positive) * 40)
        for y, row in enumerate(costs):
            x = row.trainable or (min(positive) / 5 if positive else 0)
            axes[0].text(
                x * 1.15, y, f"{short_number(row.trainable)} ({_share(row.share)})", va="center",
                fontsize=8,
            )  # fmt: skip
        axes[0].set_yticks(place, names)
        axes[0].invert_yaxis()
        axes[0].set(xlabel="trainable parameters", title=f"How many, on {self.name}")
        left = [0.0] * len(costs)
        for i, spot in enumerate(_PLACES):
            shares = []
            for row in costs:
                found = _by_place(sites[row.method])
                shares.append(100 * found[spot] / row.trainable if row.trainable else 0.0)
            if any(shares):
                axes[1].barh(
                    place, shares, left=left, height=0.6, color=COLORS[i % len(COLORS)],
                    hatch=_HATCHES[i % len(_HATCHES)], edgecolor="white", linewidth=0.5, label=spot,
                )  # fmt: skip
            left = [a + b for a, b in zip(left, shares)]
        axes[1].set_yticks(place, [])
        axes[1].invert_yaxis()
        axes[1].set(xlabel="% of the trainable parameters", title="Where", xlim=(0, 100))
        legend_beside(axes[1])
        save_figure(figure, self.output_dir / "counts.png")


#: The literature's symbols, for a narrow table.
_SYMBOLS = {"rank": "r=", "bottleneck_dim": "m=", "num_virtual_tokens": "l="}
_PLACES: tuple[str, ...] = (
    "encoder self",
    "encoder ff",
    "decoder self",
    "decoder cross",
    "decoder ff",
    "other",
)
_HATCHES = ("", "///", "...", "\\\\\\", "xx", "++")


def _by_place(items: list[Count]) -> dict[str, int]:
    found = dict.fromkeys(_PLACES, 0)
    short = {"self_attention": "self", "cross_attention": "cross", "feed_forward": "ff"}
    for item in items:
        place = f"{item.stack} {short.get(item.sublayer, '')}"
        found[place if place in found else "other"] += item.count
    return found


def _share(share: float) -> str:
    return f"{100 * share:.3g} %" if share else "0 %"


def _bytes(size: int) -> str:
    return in_unit(size, {1e9: " GB", 1e6: " MB", 1e3: " kB", 1: " B"})
