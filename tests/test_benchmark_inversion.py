import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import inversion


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand-ins for the encoder and the search; lists the phrases that were searched for."""
    asked: list[str] = []
    encoder = SimpleNamespace(evaluations=0, to=lambda device: None, tokenize=str.split)

    class Setup:
        device = "cpu"

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.encoder = encoder
            self.table = "a table" if kwargs["table"] else None
            self.proposer = kwargs["proposer"] or None

        def configure_model(self) -> None: ...

        def load_vocabulary(self) -> SimpleNamespace:
            return SimpleNamespace(table=self.table, proposer=self.proposer)

    def measure(*args: Any) -> list[dict[str, Any]]:
        _, _, method, phrases, name, settings, out = args
        asked.extend(phrases)
        facts = {"claimed": True, "right": True, "evaluations": 5}
        rows = [
            {"method": method, "class": name, "phrase": p, **facts, **settings} for p in phrases
        ]
        with out.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        return rows

    monkeypatch.setattr(inversion, "Setup", Setup)
    monkeypatch.setattr(inversion, "measure", measure)
    return asked


def arguments(rows: Path, **changes: Any) -> argparse.Namespace:
    settings = {
        **{"backbone": "minilm", "cache_dir": "", "precision": "float32", "proposer": "auto"},
        **{"no_table": False, "phrases": "inversion_heldout.txt", "classes": ["up to 6"]},
        **{"limit": 2, "methods": ["hybrid"], "group": 16, "budget": 3000, "rows": str(rows)},
    }
    return argparse.Namespace(**{**settings, **changes})


def test_a_run_goes_on_with_rows_of_its_own_settings_only(
    measured: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    first = inversion.run(arguments(path))
    assert len(measured) == len(first) == 2
    assert inversion.run(arguments(path)) == first
    assert len(measured) == 2
    for change in (
        {"backbone": "mini_clip"},
        {"budget": 50},
        {"precision": "bfloat16"},
        {"proposer": ""},
        {"no_table": True},
        {"phrases": "inversion_development.txt"},
    ):
        measured.clear()
        assert len(inversion.run(arguments(path, **change))) == len(measured) == 2
    # Rows of an older file do not say what they were made with.
    old = tmp_path / "old.jsonl"
    for row in first:
        del row["backbone"]
    old.write_text("".join(json.dumps(row) + "\n" for row in first))
    measured.clear()
    assert len(inversion.run(arguments(old))) == len(measured) == 2
    # The summary of a file shows each setting on a line of its own.
    table = tmp_path / "table.md"
    inversion.summarise([json.loads(line) for line in old.read_text().splitlines()], str(table))
    lines = table.read_text().splitlines()[2:]
    assert len(lines) == 2
    assert "backbone ?" in lines[0]
    assert "backbone minilm" in lines[1]
