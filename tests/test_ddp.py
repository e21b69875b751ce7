"""Two processes do what one does: the same weights, every prediction once and in order."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.modules.base import restore
from tests.ddp_worker import EXACT, METHODS, NUM_INPUTS, build, trained

pytestmark = [
    pytest.mark.ddp,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run everything in two processes, once for all tests."""
    folder = tmp_path_factory.mktemp("two")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "ddp_worker.py"), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def one_process(folder: Path, method: str) -> dict[str, torch.Tensor]:
    """Train with the batches that two processes have together."""
    data, model, trainer = build("train", folder, f"model={method}", "data.batch_size=8", EXACT)
    trainer.fit(model, datamodule=data)
    return trained(model)


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_reach_the_weights_of_one_with_twice_the_batch(
    method: str, two_processes: Path, tmp_path: Path
) -> None:
    mine, theirs = one_process(tmp_path, method), torch.load(two_processes / f"{method}.pt")
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name], value, rtol=0, atol=1e-5)
    _, fresh, _ = build("train", tmp_path / "fresh", f"model={method}")
    fresh.configure_model()
    start = trained(fresh)
    assert max((theirs[name] - start[name]).abs().max() for name in start) > 1e-3  # it did train


def test_sharded_weights_reach_the_same(two_processes: Path) -> None:
    sharded, whole = torch.load(two_processes / "fsdp.pt"), torch.load(two_processes / "whole.pt")
    assert sharded.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(sharded[name], value, rtol=0, atol=1e-5)


def test_sharded_weights_are_exported_whole(two_processes: Path) -> None:
    exported = restore(two_processes / "exported").state_dict()
    best = two_processes / "whole" / "checkpoints" / "best.ckpt"
    trained = torch.load(best, weights_only=True)["state_dict"]
    assert trained
    for name, value in trained.items():
        torch.testing.assert_close(exported[name], value, rtol=0, atol=1e-5)


def test_a_signal_to_one_rank_stops_both_at_one_step_and_costs_nothing(two_processes: Path) -> None:
    steps = {(two_processes / f"stopped-{rank}").read_text() for rank in (0, 1)}
    assert steps == {"3"}
    resumed, whole = (torch.load(two_processes / f"{name}.pt") for name in ("resumed", "lora"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_an_odd_number_of_inputs_is_predicted_once_each_and_in_order(
    two_processes: Path, tmp_path: Path
) -> None:
    assert NUM_INPUTS % 2
    data, model, trainer = build("eval", tmp_path, EXACT)
    trainer.predict(model, datamodule=data, return_predictions=False)
    mine = (two_processes / "solve" / "predictions.jsonl").read_text()
    assert mine == (tmp_path / "predictions.jsonl").read_text()
    assert len(mine.splitlines()) == NUM_INPUTS
    metrics = json.loads((two_processes / "solve" / "metrics.json").read_text())
    assert metrics["test/num_problems"] == NUM_INPUTS


def test_fewer_inputs_than_processes(two_processes: Path) -> None:
    assert len((two_processes / "single" / "predictions.jsonl").read_text().splitlines()) == 1
