"""hydra/launcher=euler: what it would submit, and what it refuses before the queue."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

from hydra_plugins import euler_launcher
from hydra_plugins.euler_launcher import (
    EulerLauncher,
    _minutes,
    _require_cached,
    _require_data_cached,
    _require_gpu_type,
    _require_inputs,
    _require_writable,
    _shape,
)

ROOT = Path(__file__).resolve().parent.parent


def settings(**changes: Any) -> Any:
    euler = OmegaConf.load(ROOT / "configs/hydra/launcher/euler.yaml").euler
    return OmegaConf.merge(euler, changes)


def job(**trainer: Any) -> Any:
    return OmegaConf.create({"trainer": {"devices": 1, "accelerator": "auto", **trainer}})


def test_a_dry_run_shows_the_job_file_and_submits_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "train.py", "-m", "model=lora,adapter,prefix_tuning"),
            *("hydra/launcher=euler", "euler.dry_run=true", "euler.time=1-2:00:00"),
            *("euler.modules=[cuda/12]", "euler.environment={NAME: a b}", "trainer.devices=2"),
            f"hydra.sweep.dir={tmp_path}/sweep",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for expected in (
        "#SBATCH --array=0-2%3",
        "#SBATCH --signal=SIGUSR1@120",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --gpus=rtx_3090:2",
        "#SBATCH --ntasks-per-node=2",
        "#SBATCH --mem-per-cpu=4G",
        "#SBATCH --time=1560",
        "set -eo pipefail",
        "module load cuda/12",
        "export NAME='a b'",
    ):
        assert expected in lines
    assert any(line.startswith("srun ") and "--kill-on-bad-exit=1" in line for line in lines)
    assert lines.index("module load cuda/12") > next(
        i for i, line in enumerate(lines) if line.startswith("source ")
    )
    assert sum(line.startswith("# would run: train.py model=") for line in lines) == 3
    assert not (tmp_path / "sweep" / ".submitit").exists()


def test_several_nodes_ask_for_gpus_on_each() -> None:
    launcher = EulerLauncher(settings(gpu="a100"))
    parameters = launcher._parameters([job(devices=4, num_nodes=2)], {})
    assert parameters["nodes"] == 2
    assert parameters["ntasks_per_node"] == 4
    assert parameters["additional_parameters"]["gpus-per-node"] == "a100:4"


def test_any_gpu_of_a_size_and_no_gpu() -> None:
    launcher = EulerLauncher(settings(gpu="any", gpu_memory="24g"))
    extra = launcher._parameters([job()], {})["additional_parameters"]
    assert extra["gpus"] == "1"
    assert extra["gres"] == "gpumem:24g"
    extra = launcher._parameters([job(accelerator="cpu")], {})["additional_parameters"]
    assert not extra.keys() & {"gpus", "gres", "gpus-per-node"}


def test_jobs_of_one_sweep_have_one_shape() -> None:
    with pytest.raises(CompactHydraException, match="different numbers of devices"):
        EulerLauncher(settings())._parameters([job(), job(devices=2)], {})
    for devices in ("auto", -1, [0, 1]):
        with pytest.raises(CompactHydraException, match=r"give a number"):
            _shape(job(devices=devices))


@pytest.mark.parametrize(
    ("time", "minutes"), [("4:00:00", 240), ("1-12:00:30", 36 * 60 + 1), ("90", 90), (5, 5)]
)
def test_times_are_read_as_slurm_reads_them(time: str | int, minutes: int) -> None:
    assert _minutes(time) == minutes


@pytest.mark.parametrize("time", ["", "0", "four hours", "4h", "-5"])
def test_what_is_no_time_is_refused(time: str) -> None:
    with pytest.raises(CompactHydraException, match=r"is no duration; give minutes, or 4:00:00"):
        _minutes(time)


@pytest.fixture
def sinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shown:
        stdout = "gpu:nvidia_geforce_rtx_3090:8(S:0-1)\ngpu:a100:4\n(null)\n"

    monkeypatch.setattr(euler_launcher.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(euler_launcher.subprocess, "run", lambda *_, **__: Shown())


@pytest.mark.usefixtures("sinfo")
def test_gpu_types_are_those_of_the_cluster() -> None:
    _require_gpu_type("rtx_3090", 8)
    _require_gpu_type("nvidia_geforce_rtx_3090", 1)
    _require_gpu_type("any", 99)
    with pytest.raises(CompactHydraException, match=r"euler\.gpu=h100 is no GPU type .*: a100, nv"):
        _require_gpu_type("h100", 1)
    with pytest.raises(CompactHydraException, match=r"8 a100 on one node, none has more than 4"):
        _require_gpu_type("a100", 8)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CompactHydraException, match=r"cannot be written to .*hydra\.sweep\.dir"):
        _require_writable(tmp_path / "file" / "sweep")


def test_purged_inputs_are_refused(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"data": {"train": str(tmp_path / "train.jsonl"), "seed": 0}})
    with pytest.raises(CompactHydraException, match=r"data\.train=.* deleted after two weeks"):
        _require_inputs(cfg)
    (tmp_path / "train.jsonl").write_text("")
    _require_inputs(cfg)
    _require_inputs(OmegaConf.create({"data": {"train": "openai/gsm8k"}, "ckpt_path": "last"}))
    with pytest.raises(CompactHydraException, match=r"ckpt_path=.* does not exist"):
        _require_inputs(OmegaConf.create({"ckpt_path": str(tmp_path / "gone")}))


@pytest.mark.parametrize(
    "cfg",
    [
        {"ckpt_path": "outputs/train/lora/slurm-12-0"},
        {"ckpt_path": ["outputs/train/lora/slurm-12-0"]},
        {"data": {"challenge": "/cluster/scratch/me/ASDiv.xml"}},
        {"filter": {"texts": "/cluster/scratch/me/Q5.txt"}},
    ],
)
def test_every_input_is_looked_for(cfg: dict[str, Any]) -> None:
    with pytest.raises(CompactHydraException, match="does not exist; if it lay on scratch space"):
        _require_inputs(OmegaConf.create(cfg))


def test_data_of_the_hub_are_looked_for(tmp_path: Path) -> None:
    cfg = OmegaConf.create(
        {
            "data": {"train": "openai/gsm8k", "test": str(tmp_path / "t.jsonl")},
            "resume_from": None,
        }
    )
    evaluation = OmegaConf.create({"data": cfg.data})
    _require_data_cached(evaluation, {"HF_HOME": str(tmp_path)})  # it reads the test split only
    with pytest.raises(
        CompactHydraException, match=r"data\.train=.* --prefetch gsm8k, give a file"
    ):
        _require_data_cached(cfg, {"HF_HOME": str(tmp_path)})
    snapshot = tmp_path / "hub/datasets--openai--gsm8k/snapshots/abc/main"
    snapshot.mkdir(parents=True)
    (snapshot / "train-00000-of-00001.parquet").write_text("x")
    _require_data_cached(cfg, {"HF_HOME": str(tmp_path)})


def test_weights_of_open_clip_are_looked_for(tmp_path: Path) -> None:
    spec = OmegaConf.load(ROOT / "configs/backbone/vit_h14_laion2b.yaml")
    assert isinstance(spec, DictConfig)
    with pytest.raises(CompactHydraException, match=r"laion/CLIP-ViT-H-14.* is not, or not whole"):
        _require_cached(spec, {"HF_HOME": str(tmp_path)})
    name = "models--laion--CLIP-ViT-H-14-laion2B-s32B-b79K"
    snapshot = tmp_path / "hub" / name / "snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").write_text("x")
    _require_cached(spec, {"HF_HOME": str(tmp_path)})


def test_a_file_of_a_repository_is_no_part_of_its_name(tmp_path: Path) -> None:
    spec = OmegaConf.create({"model": "ViTamin-L", "pretrained": "datacomp1b", "name": "v"})
    with pytest.raises(CompactHydraException, match=r"\(jienengchen/ViTamin-L-224px\) is not"):
        _require_cached(spec, {"HF_HOME": str(tmp_path)})


def test_a_file_of_the_hub_is_not_lost() -> None:
    _require_inputs(OmegaConf.create({"data": {"train": "owner/name/data/train.jsonl"}}))
    with pytest.raises(CompactHydraException, match="does not exist"):
        _require_inputs(OmegaConf.create({"data": {"train": "outputs/my/data/train.jsonl"}}))


def test_a_lost_folder_of_weights_is_not_fetched(tmp_path: Path) -> None:
    spec = OmegaConf.create({"name": "mine", "path": str(tmp_path / "gone")})
    with pytest.raises(CompactHydraException, match=r"backbone\.path=.* does not exist; if it lay"):
        _require_cached(spec, {})


def test_an_empty_or_hollow_cache_is_refused(tmp_path: Path) -> None:
    spec = OmegaConf.create({"name": "flan_t5_base", "path": "google/flan-t5-base"})
    environment = {"HF_HOME": str(tmp_path)}
    with pytest.raises(CompactHydraException, match=r"setup\.sh --prefetch flan_t5_base"):
        _require_cached(spec, environment)
    snapshot = tmp_path / "hub/models--google--flan-t5-base/snapshots/abc"
    blobs = snapshot.parents[1] / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("config.json", "model.safetensors"):
        (blobs / name).write_text("x")
        (snapshot / name).symlink_to(blobs / name)
    _require_cached(spec, environment)
    (blobs / "model.safetensors").unlink()  # the purge takes what was not read for two weeks
    with pytest.raises(CompactHydraException, match="not whole"):
        _require_cached(spec, environment)
    _require_cached(OmegaConf.create({"name": "x", "path": "a/b", "random": True}), environment)


def test_a_missing_or_failing_cluster_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompactHydraException, match=r"cluster_file=.* does not exist"):
        EulerLauncher(settings(cluster_file=str(tmp_path / "none.sh")))._cluster_file()
    broken = tmp_path / "broken.sh"
    broken.write_text("echo no such project space >&2\nfalse\n")
    with pytest.raises(CompactHydraException, match=r"fails on this node .*no such project space"):
        EulerLauncher(settings(cluster_file=str(broken)))._cluster_environment()


def test_without_slurm_it_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(euler_launcher.shutil, "which", lambda name: None)
    with pytest.raises(CompactHydraException, match=r"needs Slurm's sbatch.*euler\.dry_run=true"):
        EulerLauncher(settings())._submit({}, tmp_path, [], 0)


@pytest.mark.parametrize("script", sorted((ROOT / "scripts/euler").glob("*.s*")), ids=str)
def test_scripts_are_valid_and_careful(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    if script.name != "cluster.sh":  # it is sourced into shells that have their own settings
        assert "set -euo pipefail" in text
    if script.suffix == ".sbatch":
        for needed in ("#SBATCH --requeue", "#SBATCH --open-mode=append", "exec srun "):
            assert needed in text
