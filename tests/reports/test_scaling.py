"""The scaling report: what it writes, and what it refuses before it starts."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from src.algorithms import scaling
from src.reports.scaling import ScalingReport


def quiet() -> Console:
    return Console(file=io.StringIO(), width=100)


@pytest.fixture
def table(tmp_path):
    runs = scaling.plant_runs(
        scaling.CHINCHILLA_REPLICATED, np.logspace(8, 10, 5), np.logspace(9, 11, 5), noise=0.003
    )
    path = tmp_path / "runs.csv"
    pd.DataFrame({"params": runs.params, "tokens": runs.tokens, "loss": runs.loss}).to_csv(
        path, index=False
    )
    return path


def test_without_runs_the_closed_forms_are_there(tmp_path) -> None:
    console = quiet()
    metrics = ScalingReport(str(tmp_path), console=console)()
    found = json.loads((tmp_path / "scaling.json").read_text())
    assert found["n_opt"] == pytest.approx(2.185e10, rel=1e-3)
    assert found["d_opt"] == pytest.approx(1.373e12, rel=1e-3)
    assert found["d_for_n"] == pytest.approx(8.185e12, rel=1e-3)
    assert found["n_for_d"] == pytest.approx(5.981e9, rel=1e-3)
    assert metrics["scaling/oversize"] == pytest.approx(4.58, rel=1e-3)
    shown = console.file.getvalue()
    assert "too large, short of data" in shown
    assert "2.185e+10" in shown


def test_runs_are_fitted_and_drawn(tmp_path, table) -> None:
    console = quiet()
    metrics = ScalingReport(
        str(tmp_path / "out"), path=str(table), num_bootstrap=4, isoflop_tolerance=0.2,
        console=console,
    )()  # fmt: skip
    found = json.loads((tmp_path / "out" / "scaling.json").read_text())
    law = scaling.CHINCHILLA_REPLICATED
    assert metrics["fit/alpha"] == pytest.approx(law.alpha, rel=0.2)
    assert metrics["fit/exponent"] == pytest.approx(law.exponent, abs=0.05)
    assert found["joint"]["coefficients"]["E"] == metrics["fit/E"]
    assert found["irreducible_test"]["p_value"] < 0.01
    assert "Adding E improves the fit" in console.file.getvalue()
    for name in ("fit", "residuals", "frontier", "isoflop", "split"):
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            pixels = np.asarray(image.convert("L"))
        assert pixels.shape[0] > 300
        assert pixels.std() > 5, f"{name}.png is blank"


@pytest.mark.parametrize(
    ("law", "tokens", "num", "says"),
    [
        (scaling.JointLaw(1.7, 400, 400, 0.34, 0.28), [1e8, 1e9, 1e10], 5, "5 runs for 5 coeff"),
        (scaling.JointLaw(1.7, 400, 400, 0.34, 0.28), [1e8, 1e9], 6, "2 different numbers of tok"),
        (scaling.JointLaw(0.0, 400, 400, 0.34, 0.28), [1e8, 1e9, 1e10], 9, "E is at its lower end"),
        (scaling.JointLaw(1.7, 400, 400, 0.34, 0.28), [1e8, 1e9, 1e10], 9, ""),
    ],
)
def test_what_the_runs_cannot_determine_is_said(tmp_path, law, tokens, num: int, says: str) -> None:
    n, d = (axis.ravel()[:num] for axis in np.meshgrid([1e7, 1e8, 1e9], tokens, indexing="ij"))
    path = tmp_path / "runs.csv"
    pd.DataFrame({"params": n, "tokens": d, "loss": law.loss(n, d)}).to_csv(path)
    console = Console(file=io.StringIO(), width=200)
    ScalingReport(str(tmp_path), str(path), num_bootstrap=0, console=console)()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    notes = ("runs for 5 coefficients", "different numbers of", "E is at its lower end")
    assert says in shown
    assert any(note in shown for note in notes) == bool(says)


def test_four_runs_are_fitted_without_e(tmp_path) -> None:
    # Not a 2 x 2 grid: an additive law has only three independent values there.
    n, d = np.array([1e7, 1e8, 1e9, 1e7]), np.array([1e9, 1e9, 1e10, 1e11])
    loss = scaling.JointLaw(0, 400, 400, 0.3, 0.25).loss(n, d)
    path = tmp_path / "runs.csv"
    pd.DataFrame({"params": n, "tokens": d, "loss": loss}).to_csv(path)
    metrics = ScalingReport(str(tmp_path), str(path), num_bootstrap=0, console=quiet())()
    assert "fit/E" not in metrics
    assert metrics["fit/alpha"] == pytest.approx(0.3, rel=1e-2)
    assert metrics["fit/beta"] == pytest.approx(0.25, rel=1e-2)


def test_arguments_are_refused_before_anything_is_written(tmp_path, table) -> None:
    with pytest.raises(ValueError, match="must sum to 1"):
        ScalingReport(str(tmp_path / "o"), audit={"n": 1e9, "d": 1e9, "x": 0.5, "y": 0.6})
    with pytest.raises(ValueError, match="alpha is 0"):
        ScalingReport(str(tmp_path / "o"), balance={"A": 1, "alpha": 0, "B": 1, "beta": 1})
    short = tmp_path / "short.csv"
    short.write_text("params,tokens,loss\n1e6,1e8,3\n2e6,1e8,2\n")
    with pytest.raises(ValueError, match="2 runs cannot determine"):
        ScalingReport(str(tmp_path / "o"), path=str(short))
    assert not (tmp_path / "o").exists()
