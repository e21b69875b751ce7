"""notebooks/quickstart.ipynb runs from its first cell to its last."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
TASKS = sorted(path.stem for path in (ROOT / "configs" / "task").glob("*.yaml"))


def source() -> str:
    return "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_in_it(task: str) -> None:
    assert f"task={task}" in source()


def test_it_is_committed_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert all(not cell.get("outputs") for cell in cells)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIDENT_NOTEBOOK_OUTPUTS", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=3600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    )
    client.execute()
    made = {path.parent.name for path in tmp_path.glob("*/metrics.json")}
    assert {"train", *TASKS} <= made | {"prompt"}
    assert "test/accuracy" in json.loads((tmp_path / "solve" / "metrics.json").read_text())
