"""What adaptation costs: the files, the budgets, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console

from src.algorithms.peft import (
    AdapterSpec,
    FrozenSpec,
    FullFineTuningSpec,
    LoRASpec,
    MethodSpec,
    PrefixSpec,
)
from src.algorithms.peft.counts import backbone_size, count, measure, total
from src.reports.count import CountReport, cost

BACKBONES = Path(__file__).resolve().parents[2] / "configs" / "backbone"
METHODS: dict[str, MethodSpec] = {
    "lora": LoRASpec(rank=8, targets=["q", "v"]),
    "adapter": AdapterSpec(bottleneck_dim=64),
    "prefix_tuning": PrefixSpec(num_virtual_tokens=20, reparametrize=False),
    "prefix_tuning_mlp": PrefixSpec(num_virtual_tokens=20, reparametrize=True),
    "full": FullFineTuningSpec(),
    "frozen": FrozenSpec(),
}
#: The published sizes, in millions.
PUBLISHED = {
    "t5_small": 60.5, "t5_base": 222.9, "t5_large": 737.7, "t5_3b": 2851.6, "t5_11b": 11307.3,
    "flan_t5_small": 77.0, "flan_t5_base": 247.6, "flan_t5_large": 783.2, "flan_t5_xl": 2849.8,
    "flan_t5_xxl": 11135.3,
}  # fmt: skip


def spec(name: str) -> dict[str, Any]:
    return yaml.safe_load((BACKBONES / f"{name}.yaml").read_text())


def report(folder: Path, name: str = "t5_small", **arguments: Any) -> tuple[pd.DataFrame, str]:
    console = Console(file=io.StringIO(), width=120)
    CountReport(str(folder), spec(name), METHODS, console=console, **arguments)()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    return pd.read_csv(folder / "counts.csv").set_index("method"), shown


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_closed_form_equals_the_meta_device_from_small_to_11b(name: str) -> None:
    config = spec(name)["config"]
    assert backbone_size(config) / 1e6 == pytest.approx(PUBLISHED[name], abs=0.06)
    for method in METHODS.values():
        assert total(count(method, config)) == measure(method, config)[0]


def test_the_lora_row_of_t5_small_and_the_columns(tmp_path: Path) -> None:
    table, shown = report(tmp_path)
    assert list(table.reset_index().columns[:1]) == ["method"]
    header = (tmp_path / "counts.csv").read_text().splitlines()[0]
    assert header.startswith("backbone,method,trainable,total,share,")
    lora = table.loc["lora"]
    assert lora["trainable"] == lora["measured"] == 294_912
    assert lora["share"] == pytest.approx(294_912 / lora["total"])
    assert lora["disk_bytes"] == 4 * 294_912
    assert lora["optimizer_bytes"] == 8 * 294_912
    assert lora["checkpoint_bytes"] == 12 * 294_912
    assert lora["infer_flops_source"] == lora["infer_flops_target"] == 0
    assert lora["train_flops_source"] > 0
    assert table.loc["adapter", "trainable"] == 1_998_720
    # A prefix is stored without its MLP.
    assert table.loc["prefix_tuning_mlp", "stored"] == table.loc["prefix_tuning", "stored"]
    assert table.loc["frozen", "trainable"] == 0
    assert "294,912" in shown
    assert (tmp_path / "counts.png").stat().st_size > 10_000
    sites = pd.read_csv(tmp_path / "counts_by_site.csv")
    sums = sites.groupby("method")["count"].sum()
    assert sums["lora"] == 294_912
    assert sums["full"] == 60_506_624


def test_match_gives_the_others_the_same_budget_within_one_unit(tmp_path: Path) -> None:
    table, _ = report(tmp_path, match="lora")
    assert table.loc["lora", "trainable"] == 294_912
    config = spec("t5_small")["config"]
    unit = {
        "adapter": total(count(AdapterSpec(2), config)) - total(count(AdapterSpec(1), config)),
        "prefix_tuning": 18 * 2 * 512,
    }
    for name, size in unit.items():
        assert abs(table.loc[name, "trainable"] - 294_912) <= size / 2
    assert table.loc["prefix_tuning_mlp", "stored"] == table.loc["prefix_tuning", "trainable"]


def test_match_counts_what_is_kept_of_a_prefix(tmp_path: Path) -> None:
    free, _ = report(tmp_path / "free", match="prefix_tuning")
    table, _ = report(tmp_path / "mlp", match="prefix_tuning_mlp")
    usual, _ = report(tmp_path / "usual")
    assert table.equals(free)
    assert table.loc["prefix_tuning_mlp"].equals(usual.loc["prefix_tuning_mlp"])


def test_a_method_that_cannot_meet_the_budget_is_named_and_left_out(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    small = CountReport(str(tmp_path), spec("t5_small"), METHODS, budget=37_000, console=console)
    assert "adapter" in small.unmet
    assert "smallest adapter" in small.unmet["adapter"]
    assert "lora" in small.methods
    with pytest.raises(ValueError, match="budget of 3 parameters is below the smallest"):
        CountReport(str(tmp_path), spec("t5_small"), METHODS, budget=3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"match": "loar"}, "match=loar is unknown; choose lora, adapter"),
        ({"match": "full"}, "match=full has no size"),
        ({"match": "lora", "budget": 9}, "both given"),
    ],
)
def test_a_bad_request_is_refused(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CountReport(str(tmp_path), spec("t5_small"), METHODS, **arguments)


def test_only_a_t5_can_be_counted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="family 'causal_lm'"):
        CountReport(str(tmp_path), spec("smollm2"), METHODS)


def test_the_share_is_of_backbone_and_method_together() -> None:
    row = cost("t5_small", "lora", METHODS["lora"], spec("t5_small")["config"])
    assert row.total == 60_506_624 + 294_912
