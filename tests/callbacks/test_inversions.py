from pathlib import Path
from typing import Any

import pytest

from src.callbacks.inversions import InversionWriter


def row(index: int, exact: bool, text: str = "a cat") -> dict[str, Any]:
    return {
        "index": index,
        "text": text,
        "cosine": 1.0 if exact else 0.9,
        "exact": exact,
        "runner_up_gap": 0.01,
        "evaluations": 10 * (index + 1),
        "seconds": 1.0,
        "alternatives": [],
        "background": 0.2,
        "found_by": "insert",
        "gains": {"insert": 0.5},
        "trace": [(1, 0.5), (9, 0.9)],
    }


class Module:
    one_off_evaluations = 7


class NoTrainer:
    logger = None


def test_brackets_of_a_text_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = InversionWriter(str(tmp_path), show_progress=False)
    writer._module = Module()
    writer.finish([row(0, True, "a [red] cat"), row(1, True, "lol [/b]")], NoTrainer())  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert "a [red] cat" in shown
    assert "lol [/b]" in shown


def test_a_guess_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = InversionWriter(str(tmp_path), show_progress=False, num_shown=2)
    writer._module = Module()
    rows = [row(0, True), row(1, False, "two\n words"), row(2, True)]
    metrics = writer.finish(rows, NoTrainer())  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert "2 of 3 identified" in shown
    assert "guess" in shown
    assert "1 more" in shown
    assert (tmp_path / "Q5.txt").read_text() == "a cat\ntwo words\na cat\n"
    assert metrics is not None
    assert metrics["invert/num_exact"] == 2
    assert metrics["invert/evaluations_median"] == 20
    assert metrics["invert/evaluations_total"] == 60
    assert metrics["invert/found_by_insert"] == 3
    assert metrics["invert/gain_insert"] == pytest.approx(0.5)
