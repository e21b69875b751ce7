import numpy as np
import pytest

from src.reports.watermark import (
    area_under,
    confusion_matrix,
    distinct_n,
    draw_confusion,
    draw_roc,
    draw_study,
    quality_table,
    rate_at_false_alarms,
    roc_curve,
    wilson_interval,
)


def test_wilson_interval_is_the_published_one():
    low, high = wilson_interval(81, 263)  # Newcombe 1998, table I, method 3
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_quality_is_relative_to_no_mark():
    rows = [
        {"scheme": "none", "token_ids": [1, 2, 1, 2], "nll": 4 * np.log(10), "seconds": 2.0},
        {"scheme": "hard", "token_ids": [1, 2, 3, 4], "nll": 4 * np.log(30), "seconds": 4.0},
    ]
    none, hard = quality_table(rows)
    assert none["perplexity"] == pytest.approx(10)
    assert hard["perplexity_ratio"] == pytest.approx(3)
    assert hard["tokens_per_second_ratio"] == pytest.approx(0.5)
    assert none["distinct_1"] == 0.5
    assert quality_table(rows[1:])[0]["perplexity_ratio"] is None
    short = quality_table([{**row, "token_ids": row["token_ids"][:2]} for row in rows])
    assert short[1]["distinct_2_ratio"] == 1
    assert short[1]["distinct_3_ratio"] is None


def test_distinct_n_counts_grams_within_texts():
    assert distinct_n([[1, 2], [1, 2]], 2) == 0.5
    assert distinct_n([[1], [2]], 2) == 0.0


def test_confusion_has_a_column_for_the_undecided():
    matrix = confusion_matrix(["none", "soft", "soft"], ["none", "hard", "undecided"])
    assert matrix.sum() == 3
    assert matrix[0, 0] == matrix[3, 2] == matrix[3, 4] == 1


def test_roc_of_separated_equal_and_overlapping_scores():
    perfect = roc_curve([0.0, 1.0], [2.0, 3.0])
    assert area_under(*perfect) == 1.0
    assert rate_at_false_alarms(*perfect) == 1.0
    tied = roc_curve([1.0, 1.0], [1.0])
    assert area_under(*tied) == 0.5
    assert rate_at_false_alarms(*tied) == 0.0
    mixed = roc_curve([0.0, 2.0], [1.0, 3.0])
    assert area_under(*mixed) == 0.75
    assert rate_at_false_alarms(*mixed) == 0.5


def test_figures_are_drawn(tmp_path):
    curve = roc_curve(np.linspace(0, 1, 50), np.linspace(0.5, 2, 50))
    rates = [
        {
            "rate": r,
            "num_tokens": 100.0,
            "accuracy": 1 - r,
            "low": 0.4,
            "high": 1.0,
            "accuracy_none": 1.0,
            "accuracy_soft": 1 - r,
            "tpr_soft": 1 - r,
        }
        for r in (0.0, 0.5)
    ]
    for name, figure in {
        "confusion": draw_confusion(confusion_matrix(["none", "soft"], ["none", "hard"])),
        "roc": draw_roc({"hard": curve, "soft": curve}),
        "study": draw_study("truncation", rates, ["none", "soft"]),
    }.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
