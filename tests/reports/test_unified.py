"""The unified view by numbers: every method equals its formula on a running model."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from src.algorithms.peft import AdapterSpec, FullFineTuningSpec, LoRASpec, PrefixSpec
from src.reports.unified import UnifiedReport

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tiny_models import causal_spec, t5_spec

METHODS = {
    "adapter": AdapterSpec(bottleneck_dim=3),
    "lora": LoRASpec(rank=2, alpha=6),
    "dora": LoRASpec(rank=2, use_dora=True),
    "prefix_tuning": PrefixSpec(num_virtual_tokens=3, reparametrize=False),
}


def test_every_method_equals_alpha_h_plus_lambda_dh(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    metrics = UnifiedReport(str(tmp_path), t5_spec(tmp_path), METHODS, console=console)()
    assert all(metrics[f"error/{name}"] < 1e-10 for name in METHODS)
    assert all(metrics[f"change/{name}"] > 0.01 for name in METHODS)
    table = pd.read_csv(tmp_path / "unified.csv")
    lora = table[table["method"] == "lora"]
    assert set(lora["alpha"]) == {1.0}
    assert set(lora["lambda"]) == {3.0}
    prefix = table[table["method"] == "prefix_tuning"]
    assert ((prefix["alpha"] + prefix["lambda"] - 1).abs() < 1e-9).all()
    assert prefix["lambda"].between(0.01, 0.99).all()
    assert len(prefix) == 2 + 2 * 2  # encoder self, decoder self and cross, two layers each
    assert "x A B" in console.file.getvalue()  # type: ignore[attr-defined]
    assert (tmp_path / "unified.png").stat().st_size > 10_000


def test_methods_that_miss_their_formula_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.reports.unified.TOLERANCE", 0.0)
    report = UnifiedReport(
        str(tmp_path), t5_spec(tmp_path), METHODS, console=Console(file=io.StringIO())
    )
    with pytest.raises(RuntimeError, match=r"formula: .*dora by .*, prefix_tuning by \d"):
        report()


def test_what_has_no_such_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="full has no form"):
        UnifiedReport(str(tmp_path), t5_spec(tmp_path), {"full": FullFineTuningSpec()})
    with pytest.raises(ValueError, match="this needs a T5"):
        UnifiedReport(str(tmp_path), causal_spec(tmp_path), METHODS)
