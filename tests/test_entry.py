"""The entry points' own decisions: devices, run folders, resuming, errors as sentences."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from src import entry
from src.modules.lora import LoRA
from tests.test_configs import composed
from tests.tiny_models import t5_spec

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


def test_whole_number_in_scientific_form_is_taken() -> None:
    cfg = composed("train", "data.batch_size=1.6e1", "data.max_target_length=2e2")
    entry._refuse_wrong_kinds(cfg)
    for value in (cfg.data.batch_size, cfg.data.max_target_length, cfg.model.max_new_tokens):
        assert isinstance(value, int)


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


def test_budget_in_scientific_form_is_taken() -> None:
    cfg = composed("train", "budget=1e5")
    entry._meet_budget(cfg)
    assert cfg.model.rank == 8


@pytest.mark.parametrize("budget", ["budget=abc", "+budget=abc", "budget=1.5"])
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
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "would run the whole sweep in every process" in done.stderr
    assert "hydra/launcher=euler" in done.stderr


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., DictConfig]]:
    """Compose a configuration as an entry point does, Hydra's own part included."""

    def compose_all(config: str, folder: Path, *overrides: str) -> DictConfig:
        monkeypatch.setattr("sys.argv", [f"/home/me/{config}.py"])
        with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "configs")):
            given = [*overrides, f"hydra.run.dir={folder.parent}"]
            cfg = compose(config, given, return_hydra_config=True)
        cfg.paths.output_dir = str(folder)
        OmegaConf.update(cfg, "hydra.runtime.output_dir", str(folder), force_add=True)
        HydraConfig.instance().set_config(cfg)
        return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])

    yield compose_all
    HydraConfig.instance().cfg = None


def test_the_command_to_go_on_with_can_be_pasted(command_line, tmp_path: Path) -> None:
    data = f"data.train={tmp_path}/my data.csv"
    fresh = entry._resuming_command(command_line("train", tmp_path, "data=asdiv", data))
    assert shlex.split(fresh)[:4] == ["python", "train.py", "data=asdiv", data]
    assert shlex.split(fresh)[-1] == f"hydra.run.dir={tmp_path}"
    for name in ("0-model=lora", "a b,(c)", "it's", 'a "b"', "josé"):
        given = shlex.split(entry._resuming_command(command_line("train", tmp_path / name)))[-1]
        assert OverridesParser.create().parse_override(given).value() == str(tmp_path / name)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    # A folder with checkpoints is refused but for going on with them.
    begun = entry._resuming_command(command_line("train", tmp_path, "model=full"))
    assert shlex.split(begun)[-1] == f"ckpt_path={tmp_path}"
    evaluation = entry._resuming_command(command_line("eval", tmp_path, f"ckpt_path={tmp_path}"))
    assert shlex.split(evaluation)[2] == f"ckpt_path={tmp_path}"
    assert shlex.split(evaluation)[-1] == f"hydra.run.dir={tmp_path}"


@pytest.mark.parametrize("override", ["trainer.max_epochs=-1", "trainer.max_epochs=0"])
def test_training_without_an_end_or_a_beginning(command_line, tmp_path, override: str) -> None:
    with pytest.raises(ValueError, match=r"trainer\.max_epochs"):
        entry._train(command_line("train", tmp_path, override))


def test_an_untrained_method_is_not_measured(command_line, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model=lora is untrained here; .* ckpt_path=RUN"):
        entry._evaluate(command_line("eval", tmp_path, "model=lora"))


def test_evaluation_changes_what_the_command_line_names(command_line, tmp_path: Path) -> None:
    trained = LoRA(backbone=t5_spec(tmp_path), num_beams=4, max_new_tokens=6)
    trained.configure_model()
    trained.export(tmp_path / "lora")
    where = f"checkpoint={tmp_path}/lora"
    for overrides, expected in (([], 4), (["model.num_beams=1"], 1)):
        cfg = command_line("eval", tmp_path, where, *overrides)
        _, model, _ = entry._build(cfg, entry._adopt_checkpoint(cfg))
        assert (model.hparams.num_beams, model.hparams.max_new_tokens) == (expected, 6)
    cfg = command_line("eval", tmp_path, where, "model=lora", "model.alpha=40")
    with pytest.raises(InstantiationException, match=r"as it was trained \(model\.alpha is 40"):
        entry._build(cfg, entry._adopt_checkpoint(cfg))


def test_sweeps_go_where_outputs_go(command_line, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TRIDENT_OUTPUTS", "/scratch/me")
    for config in ("train", "eval"):
        command_line(config, tmp_path)
        assert HydraConfig.get().sweep.dir.startswith("/scratch/me/sweep/")


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
