"""The entry points' own decisions: devices, run folders, resuming, errors as sentences."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from src import entry
from tests.test_configs import composed

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


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "trainer.max_epochs=two",
            "trainer.max_epochs is 'two'; it must be a whole number or null",
        ),
        ("data.batch_size=many", "data.batch_size is 'many'"),
        ("model.learning_rate=fast", "model.learning_rate is 'fast'; it must be a number"),
        ("model.rank=2.5", "model.rank is 2.5"),
    ],
)
def test_value_of_the_wrong_kind(override: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        entry._refuse_wrong_kinds(composed("train", override))


def test_value_of_the_wrong_kind_is_named_as_the_user_gave_it() -> None:
    with pytest.raises(ValueError, match=r"filter\.threshold is 'abc'"):
        entry._refuse_wrong_kinds(composed("eval", "task=filter", "filter.threshold=abc"))


@pytest.mark.parametrize("trace", ["checkpoints/last.ckpt", "metrics.json"])
def test_folder_of_another_run_is_kept(tmp_path: Path, trace: str) -> None:
    entry._refuse_used_folder(tmp_path, None)
    (tmp_path / trace).parent.mkdir(exist_ok=True)
    (tmp_path / trace).touch()
    entry._refuse_used_folder(tmp_path, tmp_path / "checkpoints" / "last.ckpt")
    for resume in (None, tmp_path.parent / "other" / "last.ckpt"):
        with pytest.raises(ValueError, match="holds a run already; go on with it by ckpt_path="):
            entry._refuse_used_folder(tmp_path, resume)


def test_no_run_to_go_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIDENT_OUTPUTS", str(tmp_path))
    with pytest.raises(ValueError, match="has left a checkpoint yet; train first"):
        entry._last_run("last", "train", "lora")


@pytest.mark.parametrize("budget", ["budget=abc", "+budget=abc"])
def test_budget_that_is_no_number(budget: str) -> None:
    with pytest.raises(ValueError, match="give a whole number of parameters"):
        entry._meet_budget(composed("train", budget))


def test_refusals_before_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compose_misspelt() -> None:
        composed("train", "model.rnk=4")

    def make_folder() -> None:
        (tmp_path / "file").touch()
        (tmp_path / "file" / "run").mkdir()

    def fail() -> None:
        raise KeyError("a bug")

    monkeypatch.delenv("TRIDENT_TRACEBACK", raising=False)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    for mistake, said in (
        (compose_misspelt, "there is no model.rnk; choose among rank"),
        (make_folder, "cannot be written to"),
    ):
        with pytest.raises(SystemExit):
            entry.run(mistake)
        assert said in capsys.readouterr().err
    with pytest.raises(KeyError):
        entry.run(fail)


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
    assert "hydra.run.dir=FOLDER" in done.stderr
