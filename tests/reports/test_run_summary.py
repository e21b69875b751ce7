"""The table that a run ends with."""

import json
from pathlib import Path

import pytest

from src.reports.count import _bytes
from src.reports.figures import short_number
from src.reports.run_summary import RunSummary


def test_a_sweep_is_told_in_the_order_of_its_jobs_and_without_what_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "multirun.yaml").touch()
    for number in (10, 2, 0):
        folder = tmp_path / f"{number}-model=x"
        folder.mkdir()
        content = {"method": f"method{number}", "parameters/trainable": 5, "parameters/total": 10}
        (folder / "metrics.json").write_text(json.dumps({**content, "test/accuracy": 0.5}))
    (tmp_path / "3-model=y").mkdir()
    (tmp_path / "3-model=y" / "metrics.json").write_text(json.dumps({"test/accuracy": 0.25}))
    RunSummary(str(tmp_path / "0-model=x"))({})
    shown = capsys.readouterr().out
    places = [shown.index(f"method{number} ") for number in (0, 2, 10)]
    assert places == sorted(places)
    assert "25.0%" not in shown
    assert shown.count("50.00%") == 3


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (999_600, "1M"),
        (999_400, "999k"),
        (999.7e6, "1B"),
        (999.9, "1k"),
        (999, "999"),
        (294912, "295k"),
    ],
)
def test_a_number_is_written_in_the_unit_that_it_rounds_to(value: float, written: str) -> None:
    assert short_number(value) == written


def test_bytes_too() -> None:
    assert [_bytes(size) for size in (999_999, 999_000, 999)] == ["1 MB", "999 kB", "999 B"]
