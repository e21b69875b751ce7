"""train.py under Ctrl-C and SIGKILL: what it prints goes on, and ends with the same weights."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from src.callbacks.checkpoint import find_checkpoint
from tests.ddp_worker import build, trained
from tests.tiny import tiny_overrides

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
ROOT = Path(__file__).resolve().parent.parent
LONGER = {"data__num_train": 160, "callbacks__last__every_n_steps": 4}
SAME = ["data.generator.irrelevant_rate=0.0", "data.max_source_length=1000"]


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TRIDENT_OUTPUTS": str(folder / "outputs"),
    }
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *command],
        env=environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def signal_after_a_save(process: subprocess.Popen[str], path: Path, signum: int) -> str:
    before = path.stat().st_mtime_ns if path.exists() else 0
    while not path.exists() or path.stat().st_mtime_ns == before:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signum)
    return process.communicate(timeout=800)[1]


def test_interrupted_then_killed_then_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    overrides = [
        *tiny_overrides(tmp_path, test="false", baseline="null", summary="null", **LONGER),
        "data.max_target_length=1000",
        *SAME,
    ]
    run = tmp_path / "run"
    last = run / "checkpoints" / "last.ckpt"

    process = start([*overrides, f"hydra.run.dir={run}"], tmp_path)
    said = signal_after_a_save(process, last, signal.SIGINT)
    assert process.returncode == 128 + signal.SIGINT
    assert "Stopped by SIGINT at step" in said
    assert "Traceback" not in said
    printed = said[said.index("python train.py ") :].splitlines()[0]
    stopped = torch.load(last, weights_only=True)["global_step"]
    assert 0 < stopped < 80

    process = start(shlex.split(printed)[2:], tmp_path)  # the command that it tells the user
    signal_after_a_save(process, last, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    killed = torch.load(find_checkpoint(run, "resume"), weights_only=True)["global_step"]
    assert stopped < killed < 80

    longer = [f"{name.replace('__', '.')}={value}" for name, value in LONGER.items()]
    data, model, trainer = build("train", run, *longer)
    resume = find_checkpoint(run, "resume")
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    data, whole, trainer = build("train", tmp_path / "whole", *longer)
    trainer.fit(whole, datamodule=data)
    mine, theirs = trained(model), trained(whole)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
