"""The study's table: intervals, paired tests, the heat map, and cells that failed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from scipy.stats import binom

from src.reports.prompt_study import compare, summarize, with_distinct_names, write_study


def cell(
    model: str, strategy: str, shots: int, solved: list[int], num: int = 40, **more: Any
) -> list[dict[str, Any]]:
    return [
        {
            "index": i, "model": model, "strategy": strategy, "num_shots": shots, "problem": i,
            "correct": i in solved, "parsed": None if i % 10 == 9 else "1", "num_tokens": 12,
            "num_examples_dropped": 0, "seconds": 0.5, **more,
        }
        for i in range(num)
    ]  # fmt: skip


def test_a_cell_has_its_wilson_interval_and_shares() -> None:
    (found,) = summarize(cell("m", "zero_shot", 0, list(range(10))))
    assert (found.accuracy, found.num_correct, found.num_problems) == (0.25, 10, 40)
    # Wilson 1927: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    z, n, p = 1.959963985, 40, 0.25
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert found.low == pytest.approx((p + z**2 / (2 * n) - half) / (1 + z**2 / n))
    assert found.high == pytest.approx((p + z**2 / (2 * n) + half) / (1 + z**2 / n))
    assert found.unparsable == pytest.approx(0.1)
    assert found.tokens == 12
    assert found.seconds == pytest.approx(20)


def test_mcnemar_is_exact_and_holm_covers_the_grid() -> None:
    rows = (
        cell("m", "zero_shot", 0, [0, 1, 2])
        + cell("m", "few_shot", 3, [2, *range(10, 22)])  # 12 gained, 2 lost
        + cell("m", "instruction", 0, [0, 1, 3])  # 1 gained, 1 lost
    )
    few, instruction = compare(rows)
    assert (few.num_gained, few.num_lost) == (12, 2)
    assert few.difference == pytest.approx(10 / 40)
    assert few.p_value == pytest.approx(2 * binom.cdf(2, 14, 0.5))
    assert few.p_holm == pytest.approx(min(1, 2 * few.p_value))
    assert instruction.p_value == 1
    assert instruction.p_holm == 1


def test_an_adapted_model_is_compared_with_its_bare_backbone() -> None:
    rows = cell("t5", "zero_shot", 0, []) + cell("t5 + lora", "as trained", 0, list(range(20)))
    (found,) = compare(rows)
    assert found.model == "t5 + lora"
    assert found.num_gained == 20
    assert compare(cell("other + lora", "as trained", 0, [])) == []


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (["out/a", "out/b"], ["t5 + lora (a)", "t5 + lora (b)"]),
        (["a/last", "b/last"], ["t5 + lora (a/last)", "t5 + lora (b/last)"]),
        (["a/last"], ["t5 + lora"]),
    ],
)
def test_two_runs_of_a_method_stay_apart(runs: list[str], names: list[str]) -> None:
    rows = cell("t5", "zero_shot", 0, [])
    for run in runs:
        rows += cell(
            "t5 + lora", "as_trained", 0, list(range(40)) if run == runs[0] else [], run=run
        )
    named = with_distinct_names(rows)
    assert [(r.model, r.num_problems, r.num_correct) for r in summarize(named)] == [
        ("t5", 40, 0), (names[0], 40, 40), *[(name, 40, 0) for name in names[1:]]
    ]  # fmt: skip
    assert [item.num_gained for item in compare(named)] == [40, *[0 for _ in names[1:]]]


def test_the_study_is_written_and_a_failed_cell_is_named(tmp_path: Path) -> None:
    rows = (
        cell("m", "zero_shot", 0, [0, 1])
        + cell("m", "few_shot", 3, list(range(20)), num_examples_dropped=1)
        + cell("n", "zero_shot", 0, [], error="OutOfMemoryError: no room", correct=None)
    )
    console = Console(file=io.StringIO(), width=100)
    metrics = write_study(rows, tmp_path, console)
    assert metrics == {"accuracy/m/zero_shot-0": 0.05, "accuracy/m/few_shot-3": 0.5}
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Failed: n / zero_shot / k=0: OutOfMemoryError: no room" in shown
    assert "40 examples were left out" in shown
    assert "50 [35-65]" in shown
    table = pd.read_csv(tmp_path / "prompt.csv")
    assert table["accuracy"].isna().tolist() == [False, False, True]
    significance = pd.read_csv(tmp_path / "significance.csv")
    assert significance["strategy"].tolist() == ["few_shot"]
    assert significance["p_holm"][0] < 0.05
    with Image.open(tmp_path / "heatmap.png") as image:
        assert np.asarray(image.convert("L")).std() > 5
