"""``eval.py task=scaling``: closed forms, the audit of a run, and laws fitted to a table of runs.

Writes ``scaling.json`` (every number), ``fit.png`` (losses and the fitted law), ``residuals.png``,
``frontier.png`` (iso-loss contours, iso-FLOP lines and the efficient frontier), ``isoflop.png``
(approach 2) and ``split.png`` (the exact exponent and its limit).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from src.algorithms import scaling
from src.algorithms.scaling import BalancedLaw, Fit, IsoFlop, JointLaw, Runs
from src.reports.figures import (
    COLORS,
    count_ticks,
    legend_beside,
    new_figure,
    save_figure,
    series_style,
    short_number,
)

_REPLICATED = {
    name: getattr(scaling.CHINCHILLA_REPLICATED, name) for name in ("A", "alpha", "B", "beta")
}


class ScalingReport:
    """Compute-optimal allocation, from formulas and from runs.

    Args:
        output_dir: Folder of the tables and figures.
        path: CSV of runs, or None for the closed forms alone.
        audit: The run to audit: ``n``, ``d`` and the exponents ``x``, ``y``.
        balance: The one-factor limits ``A, alpha, B, beta`` and a budget ``compute``.
        columns: Our column names to the file's.
        flops: ``6nd`` or ``column``.
        drop_highest: Runs of highest loss to leave out.
        delta: Huber threshold in log loss.
        num_bootstrap: Resamples behind each interval.
        isoflop_tolerance: Runs within this share of FLOPs form one budget.
        seed: Seed of the resampling.
        console: Where the tables go.

    Raises:
        ValueError: If an argument, or a row of the table, is out of range.
        FileNotFoundError: If there is no such table.
    """

    def __init__(
        self,
        output_dir: str,
        path: str | None = None,
        audit: Mapping[str, float] | None = None,
        balance: Mapping[str, float] | None = None,
        columns: Mapping[str, str] | None = None,
        flops: str = "6nd",
        drop_highest: int = 0,
        delta: float = 1e-3,
        num_bootstrap: int = 200,
        isoflop_tolerance: float = 0.1,
        seed: int = 0,
        console: Console | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.audit = scaling.audit(**(audit or {"n": 1e11, "d": 3e11, "x": 0.46, "y": 0.54}))
        balance = dict(balance or _REPLICATED)
        self.compute = float(balance.pop("compute", 3e22))
        self.balanced = BalancedLaw(**balance)
        self.balanced.split(self.compute)  # refuses a budget that is out of range
        self.path = path
        self.runs = (
            scaling.read_runs(path, columns, flops, drop_highest) if path is not None else None
        )
        if self.runs is not None and len(self.runs) < 4:
            raise ValueError(
                f"{path}: {len(self.runs)} runs cannot determine the 4 coefficients A, B, alpha, "
                "beta; give at least 4 runs (5 to fit E as well)."
            )
        self.delta, self.num_bootstrap = delta, num_bootstrap
        self.tolerance, self.seed = isoflop_tolerance, seed
        self.console = console or Console()

    def __call__(self) -> dict[str, float]:
        """Write the files and print the tables.

        Returns:
            Metrics named ``scaling/...``.
        """
        n, d = self.balanced.split(self.compute)
        result: dict[str, Any] = {
            **asdict(self.audit),
            "balanced": {
                **asdict(self.balanced),
                "compute": self.compute,
                "n": n,
                "d": d,
                "x": self.balanced.exponent(self.compute),
                "y": 1 - self.balanced.exponent(self.compute),
                "x_limit": self.balanced.limit,
            },
        }
        metrics = {f"scaling/{k}": v for k, v in asdict(self.audit).items()}
        self._print_closed_forms(result["balanced"])
        self._draw_split()
        if self.runs is not None:
            fitted = self._fit(self.runs)
            result |= fitted
            joint = fitted["joint"]
            metrics |= {f"fit/{name}": value for name, value in joint["coefficients"].items()}
            metrics["fit/exponent"] = joint["exponent"]
            metrics["fit/num_runs"] = len(self.runs)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        (self.output_dir / "scaling.json").write_text(json.dumps(_finite(result), indent=2) + "\n")
        self.console.print(f"Numbers and figures: {self.output_dir}", soft_wrap=True)
        return metrics

    # ------------------------------------------------------------- closed forms

    def _print_closed_forms(self, balanced: Mapping[str, float]) -> None:
        a = self.audit
        n, d = a.compute / self.audit_d, self.audit_d
        table = Table(title=f"Audit at C = N·D = {a.compute:.3g}", title_justify="left")
        for name in ("", "N (parameters)", "D (tokens)", "reads"):
            table.add_column(name, justify="left" if name in ("", "reads") else "right")
        verdict = "too large, short of data" if a.oversize > 1 else "too small for its data"
        if abs(math.log(a.oversize)) < 0.01:
            verdict = "optimal"
        table.add_row("the run", f"{n:.4g}", f"{d:.4g}", f"{a.oversize:.3g} x N_opt: {verdict}")
        table.add_row(
            "optimal at the same C", f"{a.n_opt:.4g}", f"{a.d_opt:.4g}", "N = C^x, D = C^y"
        )
        table.add_row(
            "this N made optimal", f"{n:.4g}", f"{a.d_for_n:.4g}", "D = N^(y/x): train on"
        )
        table.add_row("this D made optimal", f"{a.n_for_d:.4g}", f"{d:.4g}", "N = D^(x/y)")
        self.console.print(table)
        table = Table(title="Equal limits A/N^alpha = B/D^beta", title_justify="left")
        for name in ("C", "N", "D", "x(C)", "y(C)", "limit of x"):
            table.add_column(name, justify="right")
        table.add_row(
            f"{balanced['compute']:.3g}",
            *(f"{balanced[key]:.4g}" for key in ("n", "d", "x", "y", "x_limit")),
        )
        self.console.print(table)

    @property
    def audit_d(self) -> float:
        """Tokens of the audited run."""
        return self.audit.compute / (self.audit.n_opt * self.audit.oversize)

    def _draw_split(self) -> None:
        computes = np.logspace(15, 30, 200)
        figure, (axes,) = new_figure()
        axes.semilogx(
            computes,
            [self.balanced.exponent(c) for c in computes],
            color=COLORS[0],
            label="exact x(C), equal limits",
        )
        axes.axhline(
            self.balanced.limit,
            color=COLORS[1],
            linestyle="--",
            label=f"limit β/(α+β) = {self.balanced.limit:.4f}",
        )
        axes.plot(
            self.compute,
            self.balanced.exponent(self.compute),
            "o",
            color="black",
            label=f"C = {self.compute:.2g}: x = {self.balanced.exponent(self.compute):.4f}",
        )
        axes.set(xlabel="compute C = N·D", ylabel="x, with N = C^x", title="Share of the model")
        axes.legend()
        save_figure(figure, self.output_dir / "split.png")

    # -------------------------------------------------------------------- fits

    def _fit(self, runs: Runs) -> dict[str, Any]:
        can_fit_e = len(runs) >= 5
        test = scaling.irreducible_test(runs) if len(runs) >= 6 else None
        with Progress(console=self.console, transient=True) as bar:

            def progress(loop: Iterable[int]) -> Iterator[int]:
                yield from bar.track(loop, description="bootstrap of the joint law")

            joint = scaling.fit_joint(
                runs, can_fit_e, self.delta, self.num_bootstrap, seed=self.seed, progress=progress
            )
        power = {}
        for factor, name in (("params", "L(N)"), ("tokens", "L(D)")):
            chosen = scaling.single_factor_runs(runs, factor)
            x = getattr(chosen, factor)
            if np.unique(x).size >= 2:
                fit = scaling.fit_power(x, chosen.loss, self.num_bootstrap, self.seed, self.delta)
                power[name] = (fit, chosen)
        isoflop = scaling.fit_isoflop(runs, self.tolerance, self.num_bootstrap, self.seed)
        flops = float(np.median(runs.flops / (runs.params * runs.tokens)))
        self._print_fits(runs, joint, power, isoflop, test)
        self._draw_fit(runs, joint)
        self._draw_residuals(runs, joint)
        self._draw_frontier(runs, joint.law, isoflop, flops)
        if isoflop.parabolas:
            self._draw_isoflop(runs, isoflop)
        budgets = np.unique([float(c) for c in np.quantile(runs.flops, [0.5, 1.0])])
        optimum = [
            dict(zip(("compute", "n_opt", "d_opt"), map(float, (c, *joint.law.optimum(c, flops)))))
            for c in (*budgets, 10 * budgets[-1])
        ]
        return {
            "runs": {"path": str(self.path), "num": len(runs), "flops_per_nd": flops},
            "joint": {
                **_fit_record(joint),
                "exponent": joint.law.exponent,
                "exponent_interval": _exponent_interval(joint),
                "optimum": optimum,
            },
            "irreducible_test": asdict(test) if test else None,
            "single_factor": {
                name: {**_fit_record(fit), "num_runs": len(chosen)}
                for name, (fit, chosen) in power.items()
            },
            "isoflop": {
                "budgets": [
                    {
                        "compute": p.compute,
                        "n_opt": p.n_opt,
                        "d_opt": p.d_opt,
                        "loss": p.loss,
                        "num_runs": len(p.index),
                        "is_bracketed": p.is_bracketed,
                    }
                    for p in isoflop.parabolas
                ],
                "n_law": _fit_record(isoflop.n_law) if isoflop.n_law else None,
                "d_law": _fit_record(isoflop.d_law) if isoflop.d_law else None,
            },
        }

    def _print_fits(
        self,
        runs: Runs,
        joint: Fit,
        power: Mapping[str, tuple[Fit, Runs]],
        isoflop: IsoFlop,
        test: scaling.IrreducibleTest | None,
    ) -> None:
        table = Table(title=f"Laws fitted to {len(runs)} runs of {self.path}", title_justify="left")
        for name in ("law", "coefficient", "estimate", "95 % interval"):
            table.add_column(
                name, justify="right" if name not in ("law", "coefficient") else "left"
            )

        def add(law: str, fit: Fit, signs: Mapping[str, int] | None = None) -> None:
            for position, name in enumerate(fit.names):
                sign = (signs or {}).get(name, 1)
                low, high = sorted(sign * bound for bound in fit.interval(name))
                table.add_row(
                    law if position == 0 else "",
                    name,
                    f"{sign * fit[name]:.4g}",
                    f"{low:.4g} … {high:.4g}" if math.isfinite(low) else "-",
                    end_section=position == len(fit.names) - 1 and law != "joint",
                )

        add("joint", joint)
        low, high = _exponent_interval(joint)
        table.add_row(
            "",
            "N_opt ~ C^",
            f"{joint.law.exponent:.4g}",
            f"{low:.4g} … {high:.4g}" if math.isfinite(low) else "-",
            end_section=True,
        )
        for name, (fit, _) in power.items():
            add(name, fit)
        if isoflop.n_law:
            add("iso-FLOP N_opt", isoflop.n_law, {"exponent": -1})
        if isoflop.d_law:
            add("iso-FLOP D_opt", isoflop.d_law, {"exponent": -1})
        self.console.print(table)
        if test is not None:
            says = "improves the fit" if test.p_value < 0.05 else "does not improve the fit"
            gain = "" if test.aicc_gain is None else f", AICc gain {test.aicc_gain:.1f}"
            self.console.print(
                f"Adding E {says}: F(1, {len(runs) - 5}) = {test.f:.3g}, p = {test.p_value:.2g}"
                f"{gain}."
            )
        for name, values in (("parameters", runs.params), ("tokens", runs.tokens)):
            if (num := np.unique(values).size) < 3:
                self.console.print(
                    f"The runs have {num} different numbers of {name}: from fewer than three E and "
                    "the joint law's term of them cannot be told apart."
                )
        if len(runs) <= len(joint.names):
            self.console.print(
                f"{len(runs)} runs for {len(joint.names)} coefficients: the joint law goes through "
                "all of them, which says nothing about its truth."
            )
        if "E" in joint.names and joint["E"] < 1e-3 * runs.loss.min():
            self.console.print(
                "E is at its lower end, zero: these runs do not determine it, and the other "
                "coefficients of the joint law lean on that."
            )
        outside = sum(not p.is_bracketed for p in isoflop.parabolas)
        if outside:
            self.console.print(
                f"{outside} of {len(isoflop.parabolas)} iso-FLOP parabolas have no minimum within "
                "their sizes and are left out of the laws."
            )

    # ----------------------------------------------------------------- figures

    def _draw_fit(self, runs: Runs, joint: Fit) -> None:
        law = joint.law
        figure, axes = new_figure(2, size=(5.4, 3.4))
        panels = (
            (axes[0], runs.params, runs.tokens, "N (parameters)", "D", True),
            (axes[1], runs.tokens, runs.params, "D (tokens)", "N", False),
        )
        for panel, x, other, label, name, is_n in panels:
            levels = _levels(other)
            grid = np.geomspace(x.min() / 1.3, x.max() * 1.3, 100)
            for i, level in enumerate(levels):
                style = series_style(i)
                near = _nearest_level(other, levels) == i
                panel.loglog(
                    x[near],
                    runs.loss[near],
                    linestyle="",
                    color=style["color"],
                    marker=style["marker"],
                    label=f"{name} = {short_number(level)}",
                )
                fitted = law.loss(grid, level) if is_n else law.loss(level, grid)
                panel.loglog(grid, fitted, color=style["color"], linestyle=style["linestyle"])
            panel.set(xlabel=label, ylabel="loss (nats a token)")
            count_ticks(panel.xaxis, grid[0], grid[-1])
            _plain_log_ticks(panel, runs.loss)
            legend_beside(panel)
        formula = f"{law.E:.3g} + {law.A:.3g}/N^{law.alpha:.3g} + {law.B:.3g}/D^{law.beta:.3g}"
        figure.suptitle(f"Runs (marks) and the fitted law L = {formula}", fontsize=10)
        save_figure(figure, self.output_dir / "fit.png")

    def _draw_residuals(self, runs: Runs, joint: Fit) -> None:
        figure, axes = new_figure(3, size=(3.6, 3.0))
        percent = 100 * np.expm1(joint.residuals)
        for panel, x, label in zip(
            axes, (runs.params, runs.tokens), ("N (parameters)", "D (tokens)")
        ):
            panel.semilogx(x, percent, linestyle="", marker="o", color=COLORS[0], alpha=0.7)
            panel.axhline(0, color="black", linewidth=0.8)
            panel.set(xlabel=label, ylabel="observed over fitted, %")
            count_ticks(panel.xaxis, x.min(), x.max())
        axes[2].hist(percent, bins=min(30, max(5, len(runs) // 3)), color=COLORS[0], alpha=0.8)
        axes[2].set(xlabel="observed over fitted, %", ylabel="runs")
        axes[2].set_title(f"median |residual| {np.median(np.abs(percent)):.2g} %")
        save_figure(figure, self.output_dir / "residuals.png")

    def _draw_frontier(self, runs: Runs, law: JointLaw, isoflop: IsoFlop, flops: float) -> None:
        figure, (axes,) = new_figure(size=(5.6, 4.2))
        n = np.geomspace(runs.params.min() / 3, runs.params.max() * 3, 200)
        d = np.geomspace(runs.tokens.min() / 3, runs.tokens.max() * 3, 200)
        surface = law.loss(n[None, :], d[:, None])
        # A law that hardly bends has no contours to draw.
        if surface.max() > surface.min() * (1 + 1e-6):
            levels = np.geomspace(surface.min(), surface.max(), 11)[1:-1]
            contours = axes.contour(n, d, surface, levels=levels, cmap="cividis", linewidths=1)
            axes.clabel(contours, fmt="%.2f", fontsize=7, colors="0.2")
        computes = np.geomspace(runs.flops.min() / 10, runs.flops.max() * 10, 100)
        n_opt, d_opt = law.optimum(computes, flops)
        is_seen = (n_opt > n[0]) & (n_opt < n[-1]) & (d_opt > d[0]) & (d_opt < d[-1])
        n_opt, d_opt = n_opt[is_seen], d_opt[is_seen]
        if len(n_opt):
            axes.plot(n_opt, d_opt, color=COLORS[1], linewidth=2.2, label="efficient frontier")
        for i, c in enumerate(np.geomspace(runs.flops.min(), runs.flops.max(), 3)):
            axes.plot(
                n, c / (flops * n), color="0.45", linestyle=":", linewidth=1,
                label="equal FLOPs" if i == 0 else None,
            )  # fmt: skip
        axes.plot(
            runs.params, runs.tokens, linestyle="", marker="o", color="black", markersize=3.5,
            label="runs",
        )  # fmt: skip
        good = [p for p in isoflop.parabolas if p.is_bracketed]
        if good:
            axes.plot(
                [p.n_opt for p in good], [p.d_opt for p in good], linestyle="", marker="D",
                markerfacecolor="white", markeredgecolor=COLORS[1], label="iso-FLOP minima",
            )  # fmt: skip
        axes.set(
            xscale="log", yscale="log", xlim=(n[0], n[-1]), ylim=(d[0], d[-1]),
            xlabel="N (parameters)", ylabel="D (tokens)",
            title=f"Iso-loss contours (nats); N_opt ~ C^{law.exponent:.3f}"
            + ("" if len(n_opt) else ", off this map"),
        )  # fmt: skip
        count_ticks(axes.xaxis, n[0], n[-1])
        count_ticks(axes.yaxis, d[0], d[-1])
        legend_beside(axes)
        save_figure(figure, self.output_dir / "frontier.png")

    def _draw_isoflop(self, runs: Runs, isoflop: IsoFlop) -> None:
        figure, axes = new_figure(2 if isoflop.n_law else 1, size=(5.4, 3.4))
        num = len(isoflop.parabolas)
        shown = np.unique(np.linspace(0, num - 1, min(num, 8)).round().astype(int))
        for i, parabola in enumerate(isoflop.parabolas[k] for k in shown):
            style = series_style(i)
            x = runs.params[parabola.index]
            grid = np.geomspace(x.min() / 1.2, x.max() * 1.2, 100)
            axes[0].semilogx(
                x, runs.loss[parabola.index], linestyle="", color=style["color"],
                marker=style["marker"],
                label=f"C = {parabola.compute:.2g}" + ("" if parabola.is_bracketed else " *"),
            )  # fmt: skip
            axes[0].semilogx(
                grid, np.polyval(parabola.coefficients, np.log(grid)), color=style["color"],
                linestyle=style["linestyle"], linewidth=1.2,
            )  # fmt: skip
            if parabola.is_bracketed:
                axes[0].plot(
                    parabola.n_opt, parabola.loss, marker="D", markersize=7,
                    markerfacecolor="white", markeredgecolor=style["color"],
                )  # fmt: skip
        starred = any(not isoflop.parabolas[k].is_bracketed for k in shown)
        title = "Equal compute" if num == len(shown) else f"Equal compute, {len(shown)} of {num}"
        axes[0].set(
            xlabel="N (parameters)", ylabel="loss (nats a token)",
            title=title + (" (*: no minimum within)" if starred else ""),
        )  # fmt: skip
        shown_runs = runs.params[np.concatenate([isoflop.parabolas[k].index for k in shown])]
        count_ticks(axes[0].xaxis, shown_runs.min() / 1.2, shown_runs.max() * 1.2)
        legend_beside(axes[0])
        if isoflop.n_law:
            good = [p for p in isoflop.parabolas if p.is_bracketed]
            c = np.array([p.compute for p in good])
            for i, (name, law, values) in enumerate(
                (
                    ("N_opt", isoflop.n_law, [p.n_opt for p in good]),
                    ("D_opt", isoflop.d_law, [p.d_opt for p in good]),
                )
            ):
                assert law is not None
                style = series_style(i)
                axes[1].loglog(
                    c, values, linestyle="", color=style["color"], marker=style["marker"]
                )
                axes[1].loglog(
                    c, law["scale"] * c ** -law["exponent"], color=style["color"],
                    linestyle=style["linestyle"], label=f"{name} ~ C^{-law['exponent']:.3f}",
                )  # fmt: skip
            axes[1].set(xlabel="C (FLOPs)", ylabel="optimal size", title="Through the minima")
            axes[1].legend()
        save_figure(figure, self.output_dir / "isoflop.png")


def _levels(values: np.ndarray, most: int = 6) -> np.ndarray:
    """Pick at most ``most`` representative values, among those that occur if they are few."""
    unique = np.unique(values)
    if unique.size <= most:
        return unique
    return np.geomspace(unique[0], unique[-1], most)


def _nearest_level(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return np.abs(np.log(values)[:, None] - np.log(levels)[None]).argmin(1)


def _plain_log_ticks(axes: Any, values: np.ndarray) -> None:
    """Label a short logarithmic axis in plain numbers: powers of ten would leave it bare."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = float(values.min()), float(values.max())
    ticks = np.geomspace(low, high, 6)
    axes.yaxis.set_major_locator(FixedLocator([float(f"{tick:.2g}") for tick in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _fit_record(fit: Fit) -> dict[str, Any]:
    return {
        "coefficients": {name: fit[name] for name in fit.names},
        "intervals": {name: list(fit.interval(name)) for name in fit.names},
        "objective": fit.objective,
        "median_absolute_log_residual": float(np.median(np.abs(fit.residuals))),
    }


def _exponent_interval(joint: Fit) -> list[float]:
    if not len(joint.samples):
        return [math.nan, math.nan]
    alpha, beta = (joint.samples[:, joint.names.index(name)] for name in ("alpha", "beta"))
    return [float(v) for v in np.percentile(beta / (alpha + beta), [2.5, 97.5])]


def _finite(value: Any) -> Any:
    """Replace what JSON has no word for (nan, infinity) by None, at any depth."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
