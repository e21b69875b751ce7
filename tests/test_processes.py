"""What the entry points refuse, or find by themselves, in runs of several processes and in jobs."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from src import entry

SLURM = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "trident", "SLURM_NTASKS": "1"}


def trainer(**settings: Any) -> DictConfig:
    return OmegaConf.create({"accelerator": "cpu", "devices": 1, "num_nodes": 1, **settings})


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("SLURM_STEP_ID", "SLURM_RESTART_COUNT", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"asks for 4 GPUs, 2 are visible; use trainer\.devices=2"):
        entry._refuse_missing_devices(trainer(accelerator="gpu", devices=4))
    entry._refuse_missing_devices(trainer(accelerator="gpu", devices=2, num_nodes=1))


@pytest.mark.parametrize(
    ("tasks", "settings"),
    [("1", {"devices": 2}), ("2", {"devices": 2, "num_nodes": 2}), ("4", {"devices": 1})],
)
def test_a_job_with_other_tasks_than_devices_is_refused(
    tasks: str, settings: dict[str, int], job: pytest.MonkeyPatch
) -> None:
    job.setenv("SLURM_NTASKS", tasks)
    job.setenv("SLURM_STEP_ID", "0")
    with pytest.raises(ValueError, match=rf"gave the job {tasks} task\(s\); .*--ntasks-per-node="):
        entry._refuse_missing_devices(trainer(**settings))


def test_a_job_without_srun_is_refused(job: pytest.MonkeyPatch) -> None:
    job.setenv("SLURM_NTASKS", "2")
    with pytest.raises(ValueError, match="put srun before python"):
        entry._refuse_missing_devices(trainer(devices=2))
    job.setenv("SLURM_STEP_ID", "0")
    entry._refuse_missing_devices(trainer(devices=2))


def test_in_an_interactive_job_lightning_starts_the_processes(job: pytest.MonkeyPatch) -> None:
    job.setenv("SLURM_JOB_NAME", "interactive")
    entry._refuse_missing_devices(trainer(devices=2))


def test_runs_of_one_notebook_or_shell_have_folders_of_their_own(job: pytest.MonkeyPatch) -> None:
    """Only a step of a batch job is named by the job; a shell in it starts many runs."""
    assert "slurm-77" not in entry._run_dir("train", "lora")
    job.setenv("SLURM_STEP_ID", "3")
    assert entry._run_dir("train", "lora").endswith("train/lora/slurm-77-3")


def test_a_requeued_job_finds_its_own_newest_state(tmp_path: Path, job: pytest.MonkeyPatch) -> None:
    own, other = tmp_path / "own" / "checkpoints", tmp_path / "other.ckpt"
    own.mkdir(parents=True)
    torch.save({"global_step": 3}, own / "last.ckpt")
    torch.save({"global_step": 9}, other)
    job.setenv("SLURM_STEP_ID", "0")

    def found(resume_from: Path | None, folder: Path = own.parent) -> Path | None:
        paths = {"output_dir": str(folder)}
        given = None if resume_from is None else str(resume_from)
        return entry._resume_checkpoint(OmegaConf.create({"resume_from": given, "paths": paths}))

    assert found(None) is None  # the first start of the job
    assert found(other) == other
    job.setenv("SLURM_RESTART_COUNT", "1")
    assert found(None) == own / "last.ckpt"
    assert found(other) == own / "last.ckpt"
    assert found(None, tmp_path / "nothing") is None
    job.delenv("SLURM_STEP_ID")
    assert found(None) is None


def test_a_full_disk_is_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    cfg = OmegaConf.create({"paths": {"output_dir": str(tmp_path)}, "seed": 0})
    with pytest.raises(ValueError, match=r"cannot be written to \(No space left.*run\.dir=FOLDER"):
        entry._prepare(cfg)
