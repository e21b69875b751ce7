"""The entry points' own decisions: devices, run folders, resuming, errors as sentences."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from src import entry

ROOT = Path(__file__).resolve().parent.parent


def run(
    *arguments: str, env: dict[str, str] | None = None, timeout: int = 240
) -> subprocess.CompletedProcess[str]:
    """Run an entry point as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({"accelerator": "cpu", "devices": 1}, 1),
        ({"accelerator": "cpu", "devices": 2, "num_nodes": 3}, 6),
        ({"accelerator": "cpu", "devices": "2"}, 2),
        ({"accelerator": "gpu", "devices": [0, 3]}, 2),
        ({"accelerator": "gpu", "devices": "0,1,2"}, 3),
        ({"accelerator": "cpu", "devices": "auto"}, 1),
    ],
)
def test_number_of_processes(trainer: dict, expected: int) -> None:
    assert entry._num_processes(OmegaConf.create(trainer)) == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_gpu_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no CUDA device is visible; use trainer=cpu"):
        entry._refuse_missing_devices(OmegaConf.create({"accelerator": "gpu", "devices": 1}))


def test_run_dir_is_fixed_by_the_slurm_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    first = entry._run_dir("train", "lora")
    assert first == entry._run_dir("train", "lora") == "outputs/train/lora/slurm-77-0"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    assert entry._run_dir("train", "lora").endswith("slurm-70_4-0")


@pytest.mark.parametrize("where", ["RUN", "RUN/checkpoints", "RUN/checkpoints/last.ckpt"])
def test_a_resumed_run_goes_on_in_its_folder(where: str) -> None:
    assert entry._run_dir("train", "lora", where) == "RUN"


def test_last_is_the_newest_run_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIDENT_OUTPUTS", str(tmp_path))
    assert entry._last_run(None, "train", "lora") is None
    assert entry._last_run("some/path", "train", "lora") == "some/path"
    for age, (model, stamp) in enumerate([("lora", "a"), ("lora", "b"), ("adapter", "c")]):
        folder = tmp_path / "train" / model / stamp / "checkpoints"
        folder.mkdir(parents=True)
        (folder / "last.ckpt").touch()
        os.utime(folder, (1000 + age, 1000 + age))
    (tmp_path / "train" / "lora" / "z").mkdir()  # a run that saved nothing
    assert entry._last_run("last", "train", "lora") == str(tmp_path / "train" / "lora" / "b")
    assert entry._last_run("last", "train", "*") == str(tmp_path / "train" / "adapter" / "c")


def test_unknown_choice_lists_the_choices() -> None:
    done = run("train.py", "model=nonesuch")
    assert done.returncode != 0
    for name in ("lora", "adapter", "prefix_tuning", "full"):
        assert name in done.stderr


def test_sweep_over_several_processes_is_refused_with_the_remedy(tmp_path: Path) -> None:
    done = run(
        "train.py",
        "-m",
        "model=lora,adapter",
        "trainer=ddp",
        f"hydra.sweep.dir={tmp_path}",
    )
    assert done.returncode != 0
    assert "would run the whole sweep in every process" in done.stderr
    assert "hydra/launcher=euler" in done.stderr


def test_missing_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    done = run(
        "eval.py",
        f"ckpt_path={tmp_path}/none.ckpt",
        f"hydra.run.dir={tmp_path}",
    )
    assert done.returncode == 2
    assert "none.ckpt does not exist; give a checkpoint file" in done.stderr
    assert "Traceback" not in done.stderr


def test_hub_out_of_reach_names_the_offline_choice(tmp_path: Path) -> None:
    done = run("eval.py", "backbone=flan_t5_base", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    assert "backbone=t5_mini" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    done = run("eval.py", f"paths.output_dir={blocked}/run", f"hydra.run.dir={tmp_path}/hydra")
    assert done.returncode == 2
    assert "cannot be written to" in done.stderr
    assert "paths.output_dir=FOLDER" in done.stderr
