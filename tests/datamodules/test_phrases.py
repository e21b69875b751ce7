import gzip
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from src.datamodules.phrases import Phrases


def maker(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_phrases", root / "scripts/make_phrases.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_that_is_judged_is_trained_on(project_root: Path) -> None:
    make = maker(project_root)
    folder = project_root / "benchmarks" / "phrases"
    held_out = (folder / "inversion_heldout.txt").read_text().splitlines()
    development = (folder / "inversion_development.txt").read_text().splitlines()
    assert len(held_out) >= 200
    assert not set(map(str.lower, held_out)) & set(map(str.lower, development))
    wholes, runs = make.judged_runs(held_out + development)
    assert make.overlaps("marie curie", wholes, runs)
    assert make.overlaps("she saw marie curie there", wholes, runs)
    assert not make.overlaps("a purple yacht", wholes, runs)
    with gzip.open(project_root / "assets/inversion/phrases.txt.gz", "rt") as lines:
        phrases = [line.strip() for line in lines]
    assert len(phrases) > 100_000
    assert not [p for p in phrases if make.overlaps(p, wholes, runs)]


def test_draws_repeat(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("a b\n\nc\n")
    data = Phrases(str(path), batch_size=3, steps=2)
    assert data.phrases == ["a b", "c"]
    one, two = ([b["draw"].tolist() for b in data.train_dataloader()] for _ in range(2))
    assert one == two
    assert [len(b) for b in one] == [3, 3]
    with pytest.raises(FileNotFoundError, match=r"data\.path"):
        Phrases(str(tmp_path / "none"))
    path.write_text("\n")
    with pytest.raises(ValueError, match="no phrase"):
        Phrases(str(path))
