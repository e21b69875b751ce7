"""A Slurm launcher that checks what can be known before the queue is waited for.

Hydra finds this file because it lies in a folder ``hydra_plugins`` beside the entry points. What
it adds to the submitit launcher: the tasks and GPUs of a job follow from its ``trainer``, so that
they cannot disagree; Slurm's warning signal and the requeue are Lightning's and ours
(``src/callbacks/checkpoint.py``), not submitit's, which would start a timed-out job afresh; and a
dry run. The job's environment comes from one file per cluster, ``scripts/euler/cluster.sh``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from omegaconf import DictConfig, ListConfig, OmegaConf

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class EulerLauncher(SlurmLauncher):
    """Submit each job of a sweep to Slurm.

    Args:
        euler: The settings of ``configs/hydra/launcher/euler.yaml``.
    """

    def __init__(self, euler: DictConfig) -> None:
        super().__init__()
        self.euler: dict[str, Any] = OmegaConf.to_container(euler, resolve=True)  # type: ignore

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Check, submit (or show) and, with ``euler.wait``, wait for the jobs.

        Raises:
            CompactHydraException: If a job could not run, or Slurm refuses it.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        configs = [
            self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            for overrides in job_overrides
        ]
        sweep_dir = Path(str(self.config.hydra.sweep.dir)).absolute()
        folder = sweep_dir / ".submitit" / "%j"
        environment = self._cluster_environment()
        parameters = self._parameters(configs, environment)
        if self.euler["dry_run"]:
            print(_submission_file(parameters, folder, len(configs)))
            for overrides in job_overrides:
                print(f"# would run: {Path(sys.argv[0]).name} {shlex.join(overrides)}")
            return []
        _require_writable(sweep_dir)
        for cfg in configs:
            _require_inputs(cfg)
            if self.euler["require_cached"]:
                _require_data_cached(cfg, environment)
                several = OmegaConf.select(cfg, "model.models") or {}  # of task=prompt
                for spec in [cfg.get("backbone"), *several.values()]:
                    if spec:
                        _require_cached(spec, environment)
        jobs = self._submit(parameters, folder, job_overrides, initial_job_idx)
        print(f"submitted {', '.join(job.job_id for job in jobs)}; results and logs: {sweep_dir}")
        print("follow them with: squeue --me; stop one with: scancel JOB")
        return [job.results()[0] for job in jobs] if self.euler["wait"] else []

    # ----------------------------------------------------------------- submission

    def _parameters(
        self, configs: Sequence[DictConfig], environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return what sbatch is told, in submitit's names."""
        shapes = {_shape(cfg) for cfg in configs}
        if len(shapes) > 1:
            raise CompactHydraException(
                "the jobs of one sweep ask for different numbers of devices or nodes; give "
                "them in separate sweeps."
            )
        num_nodes, num_tasks, uses_gpu = shapes.pop()
        euler = self.euler
        extra: dict[str, Any] = {
            "signal": f"SIGUSR1@{euler['warning_seconds']}",
            "requeue": True,
            **(euler["sbatch"] or {}),
        }
        if uses_gpu:
            kind = euler["gpu"] or environment.get("TRIDENT_GPU", "any")
            option = "gpus" if num_nodes == 1 else "gpus-per-node"
            extra[option] = str(num_tasks) if kind == "any" else f"{kind}:{num_tasks}"
            _require_gpu_type(kind, num_tasks)
            if euler["gpu_memory"]:
                extra["gres"] = f"gpumem:{euler['gpu_memory']}"
        parameters: dict[str, Any] = {
            "job_name": euler["name"],
            "time": _minutes(euler["time"]),
            "nodes": num_nodes,
            "ntasks_per_node": num_tasks,
            "cpus_per_task": euler["cpus_per_task"],
            "mem_per_cpu": euler["mem_per_cpu"],
            "account": euler["account"],
            "array_parallelism": euler["max_parallel_jobs"],
            "stderr_to_stdout": True,
            # Slurm 22.05 and later do not hand the job's CPUs per task on to srun.
            "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={euler['cpus_per_task']}"],
            "setup": self._setup_lines(),
            "additional_parameters": extra,
        }
        return {name: value for name, value in parameters.items() if value is not None}

    def _setup_lines(self) -> list[str]:
        """Return what the job script does before it starts the processes."""
        lines = ["set -eo pipefail", f"source {shlex.quote(str(self._cluster_file()))}"]
        if self.euler["modules"]:
            lines.append(shlex.join(["module", "load", *self.euler["modules"]]))
        environment = {
            "PYTHONPATH": str(PROJECT_ROOT),
            **({"HF_HUB_OFFLINE": "1"} if self.euler["require_cached"] else {}),
            **(self.euler["environment"] or {}),
        }
        lines += [f"export {name}={shlex.quote(str(v))}" for name, v in environment.items()]
        return lines

    def _submit(
        self,
        parameters: dict[str, Any],
        folder: Path,
        job_overrides: Sequence[Sequence[str]],
        initial_job_idx: int,
    ) -> list[Any]:
        if shutil.which("sbatch") is None:
            raise CompactHydraException(
                "hydra/launcher=euler needs Slurm's sbatch, which is not on this machine; "
                "log in to the cluster, or look at the job file with euler.dry_run=true."
            )
        import submitit

        executor = submitit.SlurmExecutor(folder=folder)
        executor.update_parameters(**parameters)
        arguments = [
            (list(overrides), "hydra.sweep.dir", index, f"job_{index}", Singleton.get_state())
            for index, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        try:
            return executor.map_array(self, *zip(*arguments, strict=True))
        except submitit.core.utils.FailedJobError as error:
            reason = [line for line in str(error).splitlines() if line.strip()][-1]
            raise CompactHydraException(
                f"Slurm refuses the job ({reason.strip()}); change euler.gpu, euler.time, "
                "euler.mem_per_cpu or euler.account, and look at it with euler.dry_run=true."
            ) from error

    # --------------------------------------------------------------------- checks

    def _cluster_file(self) -> Path:
        path = Path(self.euler["cluster_file"]).expanduser()
        path = path if path.is_absolute() else PROJECT_ROOT / path
        if not path.is_file():
            raise CompactHydraException(
                f"euler.cluster_file={path} does not exist; it says which modules, virtual "
                "environment and caches this cluster has (see scripts/euler/cluster.sh)."
            )
        return path

    def _cluster_environment(self) -> Mapping[str, str]:
        """Return the environment that the cluster's file makes, without its modules."""
        script = f"source {shlex.quote(str(self._cluster_file()))} >&2 && env -0"
        shown = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TRIDENT_NO_MODULES": "1"},
        )
        if shown.returncode:
            reason = (shown.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise CompactHydraException(
                f"{self._cluster_file()} fails on this node ({reason}); correct it, or run "
                "scripts/euler/setup.sh if the virtual environment is gone."
            )
        found = dict(item.split("=", 1) for item in shown.stdout.split("\0") if "=" in item)
        return {**found, **{name: str(v) for name, v in (self.euler["environment"] or {}).items()}}


def _shape(cfg: DictConfig) -> tuple[int, int, bool]:
    """Return a job's nodes, its tasks on each, and whether they use GPUs."""
    trainer = cfg.trainer
    devices = trainer.get("devices", 1)
    if not isinstance(devices, int) or devices < 1:
        raise CompactHydraException(
            f"trainer.devices={devices} leaves open how many tasks a job needs; give a "
            "number, such as trainer.devices=2."
        )
    uses_gpu = trainer.get("accelerator", "auto") != "cpu"
    return int(trainer.get("num_nodes", 1)), devices, uses_gpu


def _minutes(time: str | int) -> int:
    """Read Slurm's time: minutes, ``H:MM:SS`` or ``D-HH:MM:SS``."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", str(time))
    if match:
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return (days * 24 + hours) * 60 + minutes + (seconds > 0)
    if str(time).isdigit() and int(time):
        return int(time)
    raise CompactHydraException(
        f"euler.time={time} is no duration; give minutes, or 4:00:00, or 1-12:00:00."
    )


def _require_gpu_type(kind: str, num_gpus: int) -> None:
    """Refuse a GPU type that no node has, or more of them than one node has."""
    if shutil.which("sinfo") is None or kind == "any":
        return
    shown = subprocess.run(
        ["sinfo", "--noheader", "--format=%G"], capture_output=True, text=True, check=False
    )
    found = re.findall(r"gpu:([\w.-]+):(\d+)", shown.stdout)
    if not found:
        return  # this cluster does not say; sbatch will
    # Euler takes both rtx_3090 and nvidia_geforce_rtx_3090.
    counts = [int(count) for name, count in found if kind in name]
    if not counts:
        names = ", ".join(sorted({name for name, _ in found}))
        raise CompactHydraException(
            f"euler.gpu={kind} is no GPU type of this cluster; choose one of: {names}."
        )
    if num_gpus > max(counts):
        raise CompactHydraException(
            f"trainer.devices asks for {num_gpus} {kind} on one node, none has more "
            f"than {max(counts)}; use fewer devices and trainer.num_nodes=2 or more."
        )


def _submission_file(parameters: Mapping[str, Any], folder: Path, num_jobs: int) -> str:
    """Return the job file that submitit would write, without asking Slurm."""
    from submitit.slurm.slurm import _make_sbatch_string

    command = shlex.join([sys.executable, "-u", "-m", "submitit.core._submit", str(folder)])
    arrays = {"map_count": num_jobs} if num_jobs > 1 else {}
    return _make_sbatch_string(command=command, folder=folder, **parameters, **arrays)


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        raise CompactHydraException(
            f"the sweep's folder {folder} cannot be written to ({error.strerror}); choose "
            "another with hydra.sweep.dir=FOLDER."
        ) from error


def _require_inputs(cfg: DictConfig) -> None:
    """Refuse files that are not there (any more): scratch space is purged."""
    keys = [f"data.{key}" for key in ("path", "train", "val", "test", "challenge")]
    keys += [f"filter.{key}" for key in ("path", "texts", "study")]
    given = [(key, OmegaConf.select(cfg, key)) for key in keys]
    runs = cfg.get("ckpt_path")
    runs = runs if isinstance(runs, ListConfig) else [runs]
    given += [("ckpt_path", run) for run in runs if run != "last"]
    for key, value in given:
        is_file = isinstance(value, str) and (
            key == "ckpt_path"
            or value[:1] in "/.~"
            # owner/name/path/in/it.json is a file of the hub
            or (Path(value).suffix and (value.count("/") < 2 or Path(value).parts[0] == "outputs"))
        )
        if is_file and not Path(value).expanduser().exists():
            raise _lost(key, value)


def _lost(key: str, path: str) -> CompactHydraException:
    return CompactHydraException(
        f"{key}={path} does not exist; if it lay on scratch space, it was deleted after two weeks: "
        "put it there again, or give another path."
    )


def _require_data_cached(cfg: DictConfig, environment: Mapping[str, str]) -> None:
    """Refuse a data set given by its name on the hub that is not in the job's cache."""
    is_training = "resume_from" in cfg
    splits = ["test"] if cfg.get("test", True) else []
    if is_training or OmegaConf.select(cfg, "model.models"):  # task=prompt shows training problems
        splits += ["train", "val"]
    for key in (f"data.{split}" for split in splits):
        value = OmegaConf.select(cfg, key)
        is_name = isinstance(value, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", value)
        if not is_name or Path(value).suffix or Path(value).exists():
            continue
        if not _snapshots(value, environment, "datasets"):
            name = value.split("/")[1].lower()
            raise CompactHydraException(
                f"{key}={value} is not in the cache {_cache(environment)} that the job reads; "
                f"fetch it first with scripts/euler/setup.sh --prefetch {name}, give a file, or "
                "let the job fetch it with euler.require_cached=false."
            )


def _cache(environment: Mapping[str, str]) -> str:
    return environment.get("HF_HOME") or str(Path.home() / ".cache/huggingface")


def _snapshots(name: str, environment: Mapping[str, str], kind: str = "models") -> list[Path]:
    """Return what is whole of a repository of the hub in the cache that the job will see."""
    folder = Path(_cache(environment), "hub", f"{kind}--{name.replace('/', '--')}", "snapshots")
    # A purge takes the blobs and leaves dangling links to them.
    return [
        snapshot
        for snapshot in folder.glob("*")
        if any(file.is_file() for file in snapshot.rglob("*"))
        and all(file.exists() for file in snapshot.rglob("*"))
    ]


def _require_cached(spec: DictConfig, environment: Mapping[str, str]) -> None:
    """Refuse a model of the hub whose files are not all in the cache that the job will see."""
    name, tag = spec.get("path"), spec.get("pretrained")
    if spec.get("random") or spec.get("package") or not (name or tag):
        return
    if tag:
        if Path(tag).is_file():
            return
        import open_clip

        known: Any = open_clip.get_pretrained_cfg(spec.model, tag)
        name = os.path.split((known or {}).get("hf_hub", ""))[0]
        if not name:
            return  # from elsewhere than the hub
    elif any(path.is_dir() for path in (Path(name).expanduser(), PROJECT_ROOT / name)):
        return
    elif name[:1] in "/.~":
        raise _lost("backbone.path", name)
    whole = [
        folder
        for folder in _snapshots(name, environment)
        if any(folder.glob("*.safetensors")) | any(folder.glob("*.bin"))
        if tag or (folder / "config.json").exists()
    ]
    if not whole:
        raise CompactHydraException(
            f"backbone {spec.get('name')!r} ({name}) is not, or not whole, in the cache "
            f"{_cache(environment)} that the job reads; fetch it first with "
            f"scripts/euler/setup.sh --prefetch {spec.get('name')}, or let the job fetch it with "
            "euler.require_cached=false."
        )
