"""Answer accuracy against direct computation, whole and merged over ranks."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from src.algorithms.answers import answers_match
from src.modules.metrics import AnswerAccuracy


def _cases(count: int):
    rng = random.Random(0)
    golds = [Fraction(rng.randint(-5, 5), rng.randint(1, 4)) for _ in range(count)]
    tolerances = [rng.choice([Fraction(0), Fraction(1, 4)]) for _ in range(count)]
    predictions = [rng.choice([None, gold, gold + Fraction(1, 5), gold + 1]) for gold in golds]
    return predictions, golds, tolerances


def test_accuracy_equals_direct_count():
    predictions, golds, tolerances = _cases(200)
    metric = AnswerAccuracy()
    for start in range(0, 200, 32):
        part = slice(start, start + 32)
        metric.update(
            predictions[part],
            [str(gold) for gold in golds[part]],
            [str(tolerance) for tolerance in tolerances[part]],
        )
    right = sum(map(answers_match, predictions, golds, tolerances))
    assert 0 < right < 200
    assert metric.compute()["accuracy"].item() == pytest.approx(right / 200)
    assert metric.compute()["unparsable"].item() == pytest.approx(predictions.count(None) / 200)
    assert metric.total.item() == 200


def test_tolerance_decides_and_none_is_wrong():
    metric = AnswerAccuracy()
    metric.update([Fraction("0.3333"), None, Fraction(1, 3)], ["1/3", "1/3", "1/3"])
    assert (metric.correct.item(), metric.unparsable.item()) == (1, 1)
    metric.update([Fraction("0.3333")], ["1/3"], ["1/1000"])
    assert metric.correct.item() == 2


def test_ranks_merge_to_the_whole():
    predictions, golds, tolerances = _cases(101)
    whole = AnswerAccuracy()
    whole.update(predictions, golds, tolerances)
    ranks = [AnswerAccuracy() for _ in range(3)]
    for rank, metric in enumerate(ranks):
        metric.update(predictions[rank::3], golds[rank::3], tolerances[rank::3])
    merged = ranks[0]
    for other in ranks[1:]:
        merged.merge_state(other)
    assert merged.compute() == whole.compute()
    assert merged.total.item() == 101
    # What a process group does to the states: a sum.
    assert all(reduction is not None for reduction in merged._reductions.values())
    assert {name: merged._reductions[name].__name__ for name in merged._reductions} == {
        "correct": "dim_zero_sum",
        "unparsable": "dim_zero_sum",
        "total": "dim_zero_sum",
    }


def test_empty_and_reset():
    metric = AnswerAccuracy()
    metric.update([], [], [])
    assert metric.compute()["accuracy"].item() == 0.0
    metric.update([Fraction(1)], ["1"])
    assert metric.compute()["accuracy"].item() == 1.0
    metric.reset()
    assert metric.total.item() == 0


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="one of each"):
        AnswerAccuracy().update([None], ["1", "2"])
