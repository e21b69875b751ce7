"""``eval.py task=unified``: every method as ``h <- alpha*h + lambda*dh``, shown by numbers.

Each method is attached to the backbone with random values in what it trains (at its own start
most changes are zero), one batch is run through it, and what the wrapped module returned is
compared with ``alpha*h + lambda*dh`` site by site, in float64. Files: ``unified.csv`` (a line for
each method and site) and ``unified.png`` (the size of each change by site).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from src.algorithms.peft import LoRASpec, MethodSpec, attach
from src.algorithms.peft.unified import FORMULAS, Observation, examine
from src.backbones import load_t5, load_tokenizer
from src.reports.figures import legend_beside, new_figure, save_figure, series_style

TEXTS = (
    "solve: Mia had 12 pears and bought 5 more. How many pears does she have now?",
    "solve: A box holds 6 pens. How many pens are in 7 boxes?",
    "solve: Tom ate 3 of his 10 cookies.",
)
TARGETS = ("12 + 5", "6 * 7", "10 - 3")
#: Largest relative error that counts as equal, in float64.
TOLERANCE = 1e-10


class UnifiedReport:
    """Compare each method with its formula on a real forward pass.

    Args:
        output_dir: Folder of the table and the figure.
        backbone: The spec of a T5.
        methods: Name of each method to its hyperparameters.
        seed: Seed of the random values.
        scale: Standard deviation of what is added to every trained tensor.
        console: Where the table goes.

    Raises:
        ValueError: If the backbone is no T5, or a method has no such form.
    """

    def __init__(
        self,
        output_dir: str,
        backbone: Mapping[str, Any],
        methods: Mapping[str, MethodSpec],
        seed: int = 0,
        scale: float = 0.1,
        console: Console | None = None,
    ) -> None:
        if backbone["family"] != "t5":
            raise ValueError(
                f"backbone {backbone['name']!r} is of family {backbone['family']!r}; this needs a "
                "T5: choose for example backbone=t5_mini."
            )
        for name, spec in methods.items():
            if _formula_name(spec) not in FORMULAS:
                raise ValueError(
                    f"{name} has no form alpha*h + lambda*dh; choose lora, adapter, prefix_tuning."
                )
        self.output_dir, self.backbone, self.methods = Path(output_dir), dict(backbone), methods
        self.seed, self.scale = seed, scale
        self.console = console or Console()

    def __call__(self) -> dict[str, float]:
        """Write the files and print the table.

        Returns:
            Metrics ``error/METHOD`` (largest relative error) and ``change/METHOD`` (median
            ``|lambda dh| / |h|``).
        """
        model = load_t5(self.backbone).double()
        inputs = self._inputs(model)
        seen: dict[str, list[Observation]] = {}
        for name, spec in self.methods.items():
            wrapped = attach(copy.deepcopy(model), spec)
            self._disturb(wrapped)
            seen[name] = examine(wrapped, inputs)
        rows = [
            {
                "method": name,
                "site": observation.name,
                "alpha": _mean(observation.alpha),
                "lambda": _mean(observation.lam),
                "change": _change(observation, inputs),
                "error": observation.error(),
            }
            for name, observations in seen.items()
            for observation in observations
        ]
        table = pd.DataFrame(rows)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        table.to_csv(self.output_dir / "unified.csv", index=False)
        self._print(table)
        self._draw(table)
        self.console.print(f"Table and figure: {self.output_dir}", soft_wrap=True)
        metrics, wrong = {}, []
        for name, mine in table.groupby("method"):
            worst = float(mine["error"].to_numpy().max())  # NaN counts, which pandas would skip
            if not worst < TOLERANCE:
                wrong.append(f"{name} by {worst:.2g}")
            metrics[f"error/{name}"] = worst
            metrics[f"change/{name}"] = float(np.median(mine["change"].to_numpy()))
        if wrong:
            raise RuntimeError(f"differs from its formula: {', '.join(wrong)}")
        return metrics

    def _inputs(self, model: Any) -> dict[str, Tensor]:
        tokenizer = load_tokenizer(self.backbone)
        source = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
        labels = tokenizer(list(TARGETS), padding=True, return_tensors="pt")["input_ids"]
        return {
            "input_ids": source["input_ids"],
            "attention_mask": source["attention_mask"],
            "labels": labels.masked_fill(labels == tokenizer.pad_token_id, -100),
        }

    def _disturb(self, model: nn.Module) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter += self.scale * noise

    def _print(self, table: pd.DataFrame) -> None:
        formulas = Table(title="h <- alpha*h + lambda*dh", title_justify="left")
        for name in ("method", "alpha", "lambda", "dh"):
            formulas.add_column(name, no_wrap=name == "method")
        numbers = Table(
            title=f"The same on {self.backbone['name']}, float64",
            title_justify="left",
            caption="alpha, lambda: means over sites, tokens and heads; error: the largest over "
            "sites of max|alpha h + lambda dh - output| / max|output|",
            caption_justify="left",
        )
        for name in ("method", "alpha", "lambda", "|lambda dh| / |h|", "error"):
            numbers.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
        for name, spec in self.methods.items():
            formula = FORMULAS[_formula_name(spec)]
            mine = table[table["method"] == name]
            formulas.add_row(name, formula.alpha, formula.lam, formula.delta)
            numbers.add_row(
                name,
                f"{mine['alpha'].mean():.3g}",
                f"{mine['lambda'].mean():.3g}",
                f"{mine['change'].median():.3g}",
                f"{mine['error'].max():.1e}",
            )
        self.console.print(formulas)
        self.console.print(numbers)

    def _draw(self, table: pd.DataFrame) -> None:
        figure, (axes,) = new_figure(size=(6.4, 3.6))
        places = list(dict.fromkeys(_place(site) for site in table["site"]))
        for i, name in enumerate(self.methods):
            mine = table[table["method"] == name]
            change = mine["change"].groupby(mine["site"].map(_place)).mean().to_dict()
            present = [place for place in places if place in change]
            axes.semilogy(
                [places.index(place) for place in present],
                [change[place] for place in present],
                label=name,
                **series_style(i),
            )
        axes.set_xticks(range(len(places)), places, rotation=60, ha="right", fontsize=7)
        axes.set(ylabel="|lambda dh| / |h|", title="Size of the change by site")
        legend_beside(axes)
        save_figure(figure, self.output_dir / "unified.png")


def _formula_name(spec: MethodSpec) -> str:
    if isinstance(spec, LoRASpec) and spec.use_dora:
        return "lora (DoRA)"
    if isinstance(spec, LoRASpec) and spec.use_rslora:
        return "lora (rsLoRA)"
    return spec.method


def _place(site: str) -> str:
    stack, layer, sublayer = site.split(".")[:3]
    short = {"self_attention": "self", "cross_attention": "cross", "feed_forward": "ff"}
    return f"{stack[:3]} {layer} {short.get(sublayer, sublayer)}"


def _mean(value: Tensor | float) -> float:
    return float(value.mean()) if isinstance(value, Tensor) else float(value)


def _change(observation: Observation, inputs: Mapping[str, Tensor]) -> float:
    """Return the mean of ``|lambda dh| / |h|`` over the real tokens."""
    change, h = observation.norms()
    if observation.reads_source:
        mask = inputs["attention_mask"].bool()
    else:
        mask = inputs["labels"] != -100
    return float((change / h.clamp_min(1e-30))[mask].mean())
