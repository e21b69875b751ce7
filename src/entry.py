"""What train.py and eval.py do with a composed configuration.

Decides the order of a run: what can be refused is refused first, then seeds, objects made by name,
the Trainer's work, the exported result, ``metrics.json``, the summary. It is the only file in
``src`` that knows Hydra.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
import shlex
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import get_method, get_object, instantiate
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

from src.backbones import BackboneError
from src.callbacks.checkpoint import (
    TrainingInterrupted,
    find_checkpoint,
    requeue_at_warning,
    slurm_job,
)
from src.callbacks.prediction_writer import merge_metrics
from src.signatures import argument_kinds, as_kind, in_words, is_of_kind


class _Said(Exception):
    """A user's mistake in one job of a sweep, which was told already."""


def run(main: Callable[[], Any]) -> None:
    """Call an entry point's ``main``, which Hydra made; what Hydra refuses becomes one sentence.

    Args:
        main: Composes the configuration from the command line and runs the task.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands errors on instead of printing them
    try:
        main()
    except _Said:
        sys.exit(2)
    except (HydraException, OmegaConfBaseException, OSError) as error:
        frames = traceback.walk_tb(error.__traceback__)
        is_of_task = any(frame.f_code is _guarded.__code__ for frame, _ in frames)
        if is_of_task or os.environ.get("TRIDENT_TRACEBACK"):
            raise
        if isinstance(error, (HydraException, OmegaConfBaseException)):
            sentence = _sentence(error)
        else:  # the run's folder, which Hydra makes before the task starts
            sentence = _FOLDER.format(error.filename, error.strerror)
        _say(f"Error: {sentence}")
        sys.exit(2)


def train(cfg: DictConfig) -> float | None:
    """Train a model, test its best weights, and export what was trained.

    Args:
        cfg: The configuration composed from ``configs/train.yaml``.

    Returns:
        The value of ``cfg.optimized_metric``, for sweepers; None if there is none.
    """
    return _guarded(_train, cfg)


def evaluate(cfg: DictConfig) -> float | None:
    """Run one task of ``configs/task``: a Trainer's test or predict loop, or a report.

    Args:
        cfg: The configuration composed from ``configs/eval.yaml``.

    Returns:
        The value of ``cfg.optimized_metric``, for sweepers; None if there is none.
    """
    return _guarded(_evaluate, cfg)


def _train(cfg: DictConfig) -> dict[str, Any]:
    if cfg.get("action") == "report":  # an experiment that makes its own trainers
        output_dir = _prepare(cfg)
        metrics = dict(instantiate(cfg.report, _convert_="all")() or {})
        merge_metrics(output_dir, metrics)
        return metrics
    resume = _resume_checkpoint(cfg)
    _refuse_used_folder(Path(cfg.paths.output_dir), resume)
    _meet_budget(cfg)
    output_dir = _prepare(cfg)
    if 0 in (cfg.trainer.get("max_epochs"), cfg.trainer.get("max_steps")):
        raise ValueError(
            "trainer.max_epochs=0 or max_steps=0 trains nothing; python eval.py measures a model "
            "as it is."
        )
    if cfg.trainer.get("max_epochs") == -1 and cfg.trainer.get("max_steps") in (None, -1):
        raise ValueError(
            "trainer.max_epochs=-1 never ends, so the learning rate has no end to fall to; give "
            "trainer.max_epochs or trainer.max_steps a number."
        )
    data, model, trainer = _build(cfg)
    start = time.monotonic()
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    seconds = time.monotonic() - start
    best = _best_checkpoint(trainer)
    is_sharded = getattr(model, "is_sharded", False)  # a process holds a part of every weight
    metrics = _numbers(trainer)
    if cfg.test:
        trainer.test(
            model,
            datamodule=data,
            ckpt_path=best,
            weights_only=True if best else None,
            verbose=False,
        )
        metrics |= _numbers(trainer)
    elif best and hasattr(model, "export") and not is_sharded:
        checkpoint = torch.load(best, map_location="cpu", weights_only=True)
        model.load_state_dict(checkpoint["state_dict"], strict=False)
    if trainer.is_global_zero and hasattr(model, "export"):
        saved = best or find_checkpoint(output_dir, "evaluate") if is_sharded else None
        whole = model.unsharded(saved) if saved else model  # pyright: ignore[reportCallIssue]
        whole.export(cfg.export_dir)  # pyright: ignore[reportCallIssue]
    if cfg.get("baseline"):
        metrics |= _baseline(cfg, data)
    if not trainer.is_global_zero:
        return metrics
    metrics["train/seconds"] = seconds
    metrics |= _parameters(model)
    merge_metrics(output_dir, metrics)
    if isinstance(trainer.logger, TensorBoardLogger):  # the table of runs by score
        final = {k: v for k, v in metrics.items() if isinstance(v, (int, float))}
        trainer.logger.log_hyperparams(_flat(cfg), final)
        trainer.logger.finalize("success")
    if cfg.get("summary"):
        instantiate(cfg.summary)(metrics)
    return metrics


def _evaluate(cfg: DictConfig) -> dict[str, Any]:
    checkpoint = _adopt_checkpoint(cfg) if cfg.checkpoint and cfg.get("restore") else None
    if cfg.get("restore") and not checkpoint and _chosen_value("model") not in (None, "frozen"):
        raise ValueError(
            f"model={_chosen_value('model')} is untrained here; give the run that trained it, "
            "ckpt_path=RUN, or leave model= out to measure the backbone as it is."
        )
    output_dir = _prepare(cfg)
    if threading.current_thread() is threading.main_thread():
        # Finished rows are on disk; Lightning alone would let predictions run on.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    if cfg.action == "report":
        metrics = dict(instantiate(cfg.report, _convert_="all")() or {})
        merge_metrics(output_dir, metrics)
        return metrics
    data, model, trainer = _build(cfg, checkpoint)
    if cfg.action == "predict":
        trainer.predict(model, datamodule=data, return_predictions=False)
    else:
        trainer.test(model, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return {}
    merge_metrics(output_dir, _numbers(trainer) | _parameters(model))
    metrics = json.loads((output_dir / "metrics.json").read_text(encoding="utf-8"))
    if cfg.get("summary"):
        instantiate(cfg.summary)(metrics)
    return metrics


def _baseline(cfg: DictConfig, data: LightningDataModule) -> dict[str, Any]:
    """Test the backbone as it was before training, on the same problems."""
    model = instantiate(cfg.baseline)
    progress = instantiate(cfg.callbacks.progress)
    trainer = instantiate(
        cfg.trainer,
        callbacks=[progress] if progress else [],
        logger=False,
        enable_checkpointing=False,
    )
    trainer.test(model, datamodule=data, verbose=False)
    return {key.replace("test/", "baseline/"): v for key, v in _numbers(trainer).items()}


# ------------------------------------------------------------------ building


#: Warnings of libraries that a user can do nothing about.
_NOISE = (
    ".*LeafSpec.*is deprecated.*",
    ".*`srun` command is available.*",
    ".*does not have many workers.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*The number of training batches .* is smaller than the logging interval.*",
    ".*Trying to infer the `batch_size`.*",
)


def _quiet() -> None:
    """Let the project's own log lines through, and of the libraries' only warnings."""
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A library that logs to a root logger without handlers would give it one, and every line twice.
    logging.getLogger().addHandler(logging.NullHandler())
    own = logging.getLogger("src")
    own.setLevel(logging.INFO if rank_zero_only.rank == 0 else logging.ERROR)
    if not own.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        own.addHandler(handler)


_FOLDER = (
    "the run's folder {} cannot be written to ({}); choose another with hydra.run.dir=FOLDER, for "
    "a sweep with hydra.sweep.dir=FOLDER."
)


def _prepare(cfg: DictConfig) -> Path:
    """Refuse what cannot work, make the run's folder, and seed."""
    _quiet()
    _refuse_parallel_sweep(cfg)
    _refuse_wrong_kinds(cfg)
    requeue_at_warning()
    output_dir = Path(cfg.paths.output_dir)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        probe = output_dir / f".writable-{rank_zero_only.rank}"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        raise ValueError(_FOLDER.format(output_dir, error.strerror)) from error
    if rank_zero_only.rank == 0:
        OmegaConf.save(cfg, output_dir / "config.yaml", resolve=True)
    if torch.cuda.is_available() and OmegaConf.select(cfg, "trainer.precision") == "32-true":
        _say("Note: computing in fp32 (this GPU has no bf16, or trainer.precision says so).")
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    return output_dir


def _build(
    cfg: DictConfig, checkpoint: Path | None = None
) -> tuple[LightningDataModule, LightningModule, Trainer]:
    _refuse_missing_devices(cfg.trainer)
    # A task may wrap the data group, which stays what the command line changes.
    data = instantiate(cfg.get("datamodule") or cfg.data, _convert_="all")
    if checkpoint is not None:
        changed = {
            key: value
            for key, value in cfg.model.items()
            if key != "_target_" and _is_chosen("backbone" if key == "backbone" else f"model.{key}")
        }
        model = instantiate(cfg.restore, ckpt_path=str(checkpoint), **changed, _convert_="all")
    else:
        model = instantiate(cfg.model, _convert_="all")
    callbacks = [
        instantiate(callback, _convert_="all")
        for callback in cfg.callbacks.values()
        # Of training's callbacks, which evaluation has not, an experiment's settings remain.
        if callback and "_target_" in callback
    ]
    logger = instantiate(cfg.logger, _convert_="all") if cfg.get("logger") else False
    trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=logger, _convert_="all")
    if trainer.world_size != _num_processes(cfg.trainer):
        raise ValueError(
            f"trainer.devices * trainer.num_nodes is {_num_processes(cfg.trainer)}, but the run "
            f"would have {trainer.world_size} process(es), on a part of the data; make them agree."
        )
    if trainer.logger is not None:
        trainer.logger.log_hyperparams(_flat(cfg))
    return data, model, trainer


def _meet_budget(cfg: DictConfig) -> None:
    """Give the method the size that comes closest to ``budget=`` parameters, if that is given."""
    if cfg.get("budget") is None:
        return
    cfg.budget = as_kind(cfg.budget, int)
    if not isinstance(cfg.budget, int):
        raise ValueError(f"budget is {cfg.budget!r}; give a whole number of parameters.")
    model = instantiate(cfg.model, _convert_="all")  # no weights are read yet
    if not hasattr(model, "spec"):
        raise ValueError(f"budget={cfg.budget}: model={cfg.run_name} is no method with a size.")
    config = get_method("src.backbones.load_config")(cfg.backbone)
    spec = get_method("src.algorithms.peft.counts.meet_budget")(model.spec, config, cfg.budget)
    unit = get_object("src.algorithms.peft.counts.UNITS")[spec.method]
    cfg.model[unit] = getattr(spec, unit)


def _adopt_checkpoint(cfg: DictConfig) -> Path:
    """Take from a checkpoint what the command line leaves open: backbone, form of the targets."""
    path = find_checkpoint(cfg.checkpoint, "evaluate")
    saved = get_method(cfg.describe)(path)
    wanted = _chosen_value("model")
    if wanted and wanted != saved["method"]:
        raise ValueError(
            f"ckpt_path={cfg.ckpt_path} holds {saved['method']!r}, not {wanted!r}; leave "
            "model= out, it is read from the checkpoint."
        )
    OmegaConf.set_struct(cfg, False)
    if not _is_chosen("backbone"):
        cfg.backbone = saved["hyper_parameters"]["backbone"]
    for key, value in saved["datamodule_hyper_parameters"].items():
        if key in cfg.get("adopted_data_keys", []) and not _is_chosen(f"data.{key}"):
            cfg.data[key] = value
    return path


def _refuse_parallel_sweep(cfg: DictConfig) -> None:
    """Each process of a job starts this command again, and under ``-m`` the whole sweep with it."""
    if not HydraConfig.initialized() or "trainer" not in cfg:
        return
    hydra_cfg = HydraConfig.get()
    is_basic = str(hydra_cfg.launcher.get("_target_", "")).endswith("BasicLauncher")
    if hydra_cfg.mode == RunMode.MULTIRUN and is_basic and _num_processes(cfg.trainer) > 1:
        raise ValueError(
            f"-m with {_num_processes(cfg.trainer)} processes a job under the basic launcher would "
            "run the whole sweep in every process; use hydra/launcher=euler on a Slurm cluster, or "
            "trainer.devices=1, or one command for each choice."
        )


def _refuse_used_folder(output_dir: Path, resume: Path | None) -> None:
    """Keep the results of another run, which this one would replace in part and mix with."""
    is_used = any(output_dir.glob("checkpoints/*.ckpt")) or (output_dir / "metrics.json").exists()
    if is_used and not (resume and resume.resolve().is_relative_to(output_dir.resolve())):
        raise ValueError(
            f"{output_dir} holds a run already; go on with it by ckpt_path={output_dir}, or choose "
            "another folder."
        )


def _refuse_wrong_kinds(cfg: DictConfig) -> None:
    """Compare every value with the signature of what it is given to, before anything is made.

    Whole numbers written as 1e4, which YAML reads as a float, become whole.
    """
    for node in _made(cfg):
        kinds = argument_kinds(get_object(node["_target_"]))
        written: Any = OmegaConf.to_container(node)
        for key in node:
            if key not in kinds or OmegaConf.is_missing(node, key):
                continue
            value = node[key]
            if isinstance(value, (DictConfig, ListConfig)):
                value = OmegaConf.to_container(value, resolve=True)
            if not is_of_kind(value, kinds[key]):
                source = re.fullmatch(r"\$\{([\w.]+)\}", str(written[key]))
                name = source[1] if source else node._get_full_key(key)
                raise ValueError(f"{name} is {value!r}; it must be {in_words(kinds[key])}.")
            if isinstance(value, float):
                node[key] = as_kind(value, kinds[key])


def _made(node: Any) -> Iterator[DictConfig]:
    """Return the parts of a configuration that name what is made of them."""
    if isinstance(node, DictConfig) and not node._is_none():
        if "_target_" in node:
            yield node
        for key in node:
            if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(
                node, str(key)
            ):
                yield from _made(node[key])


def _num_processes(trainer: DictConfig) -> int:
    """Return the number of processes a job of this trainer config starts."""
    devices = trainer.get("devices", 1)
    if isinstance(devices, str):
        if devices == "auto" or devices == "-1":
            is_cpu = trainer.get("accelerator") == "cpu" or not torch.cuda.is_available()
            devices = 1 if is_cpu else torch.cuda.device_count()
        else:
            devices = len(devices.split(",")) if "," in devices else int(devices)
    elif not isinstance(devices, int):
        devices = len(devices)
    elif devices == -1:
        devices = max(1, torch.cuda.device_count())
    return devices * int(trainer.get("num_nodes", 1))


def _refuse_missing_devices(trainer: DictConfig) -> None:
    """Compare what is asked for with what is there, before anything is loaded."""
    wants_gpu = trainer.get("accelerator") in ("gpu", "cuda")
    found = torch.cuda.device_count()
    if wants_gpu and not found:
        raise ValueError(
            "trainer.accelerator=gpu, but no CUDA device is visible; use trainer=cpu, or ask the "
            "cluster for a GPU."
        )
    wanted = _num_processes(trainer) // int(trainer.get("num_nodes", 1))
    if wants_gpu and wanted > found:
        raise ValueError(
            f"trainer.devices asks for {wanted} GPUs, {found} are visible; use "
            f"trainer.devices={found}."
        )
    num_tasks = int(os.environ.get("SLURM_NTASKS") or 1)
    if os.environ.get("SLURM_JOB_NAME") in (None, "bash", "interactive"):
        return  # no Slurm job, or one in which Lightning starts the processes itself
    if num_tasks != _num_processes(trainer):
        raise ValueError(
            f"trainer.devices * trainer.num_nodes is {_num_processes(trainer)}, but Slurm gave the "
            f"job {num_tasks} task(s); submit with --nodes={trainer.get('num_nodes', 1)} "
            f"--ntasks-per-node={wanted} (each task is one process), or set trainer.devices and "
            "trainer.num_nodes to what the job has."
        )
    if num_tasks > 1 and "SLURM_STEP_ID" not in os.environ:
        raise ValueError(
            f"Slurm gave the job {num_tasks} tasks, but only this one process was started; put "
            "srun before python in the job script."
        )


# ------------------------------------------------------------------- results


def _best_checkpoint(trainer: Trainer) -> str | None:
    paths = [c.best_model_path for c in trainer.callbacks if isinstance(c, ModelCheckpoint)]
    return next((path for path in paths if path and Path(path).exists()), None)


def _numbers(trainer: Trainer) -> dict[str, Any]:
    return {
        key: value.item() if isinstance(value, torch.Tensor) else value
        for key, value in trainer.callback_metrics.items()
    }


def _parameters(model: LightningModule) -> dict[str, Any]:
    facts: dict[str, Any] = {"method": getattr(model, "method", type(model).__name__)}
    if hasattr(model, "parameter_counts"):
        trainable, total = model.parameter_counts()  # pyright: ignore[reportCallIssue]
        facts |= {"parameters/trainable": trainable, "parameters/total": total}
    return facts


def _flat(cfg: DictConfig) -> dict[str, Any]:
    """Return what decides a run as ``group.key: scalar``, for the hyperparameter table."""
    flat: dict[str, Any] = {}
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)

    def visit(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                visit(f"{name}.{key}" if name else str(key), item)
        else:
            flat[name] = value if isinstance(value, (int, float, str, bool)) else str(value)

    for group in ("backbone", "model", "data", "trainer", "seed"):
        if group in cfg:
            visit(group, resolved[group])
    return flat


# ------------------------------------------------------- command line and errors


def _chosen_value(name: str) -> str | None:
    """Return what the command line sets ``name`` to, or None if it leaves it alone."""
    if not HydraConfig.initialized():
        return None
    for override in HydraConfig.get().overrides.task:
        key, _, value = override.lstrip("+~").partition("=")
        if key == name:
            return value
    return None


def _is_chosen(name: str) -> bool:
    """Say whether the command line sets ``name`` or anything below it."""
    if not HydraConfig.initialized():
        return False
    keys = [override.lstrip("+~").split("=")[0] for override in HydraConfig.get().overrides.task]
    return any(key == name or key.startswith(f"{name}.") for key in keys)


def _guarded(work: Callable[[DictConfig], dict[str, Any]], cfg: DictConfig) -> float | None:
    """Run, and print a user's mistake as one sentence instead of a traceback."""
    try:
        metrics = work(cfg)
    except TrainingInterrupted as stop:
        if stop.is_requeued:
            _say(f"\nStopped by {stop}. The job is back in the queue and will go on by itself.")
        else:
            _say(f"\nStopped by {stop}. Continue with: {_resuming_command(cfg)}{_rest_of_sweep()}")
        # Lightning kills the first process when one that it started fails.
        is_child = rank_zero_only.rank > 0 and slurm_job() is None
        sys.exit(0 if is_child else 128 + stop.signum)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning turns Ctrl-C into an exit of its own.
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        _say(
            "\nInterrupted. What was finished is kept; continue with: "
            f"{_resuming_command(cfg)}{_rest_of_sweep()}"
        )
        sys.exit(130)
    except Exception as error:
        sentence = _sentence(error)
        if os.environ.get("TRIDENT_TRACEBACK") or sentence is None:
            raise
        _say(f"Error: {sentence}")
        if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
            raise _Said(sentence) from error  # the other jobs of the sweep go on
        sys.exit(2)
    name = cfg.get("optimized_metric")
    return metrics.get(name) if name else None


def _sentence(error: BaseException) -> str | None:
    """Return what to tell a user who made a mistake; None if it is not one, but a bug."""
    cause, is_made = error, isinstance(error, InstantiationException)
    wrappers = (InstantiationException, InterpolationResolutionError, ConfigCompositionException)
    while isinstance(cause, wrappers) and (inner := cause.__cause__ or cause.__context__):
        cause = inner
    if isinstance(cause, InterpolationKeyError):
        return (
            f"the chosen model, data and task do not go together ({str(cause).splitlines()[0]}); "
            "the head of the task's file in configs/task says what it takes."
        )
    misspelt = isinstance(cause, (ConfigKeyError, ConfigAttributeError))
    if misspelt and isinstance(cause.parent_node, DictConfig):
        keys = [str(key) for key in cause.parent_node if not str(key).startswith("_")]
        near = difflib.get_close_matches(str(cause.key), keys, n=3) or keys
        return f"there is no {cause.full_key}; choose among {', '.join(near)}."
    expected = (ValueError, FileNotFoundError, BackboneError, OmegaConfBaseException)
    if isinstance(cause, (*expected, HydraException)):
        return str(cause)
    return str(cause) if is_made and isinstance(cause, MisconfigurationException) else None


def _resume_checkpoint(cfg: DictConfig) -> Path | None:
    """Return what to go on from: what the user names, or what a requeued job left in its folder."""
    output_dir = Path(cfg.paths.output_dir)
    is_requeued = slurm_job() and int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
    if is_requeued and any(output_dir.glob("checkpoints/*.ckpt")):
        return find_checkpoint(output_dir, "resume")  # newer than what it was submitted with
    if cfg.resume_from:
        return find_checkpoint(cfg.resume_from, "resume")
    return None


def _resuming_command(cfg: DictConfig) -> str:
    """Return the command that goes on with this run: from its checkpoint, or else in its folder."""
    output_dir = Path(cfg.paths.output_dir)
    has_checkpoint = "resume_from" in cfg and any(output_dir.glob("checkpoints/*.ckpt"))
    key = "ckpt_path" if has_checkpoint else "hydra.run.dir"
    overrides = []
    if HydraConfig.initialized():
        given = HydraConfig.get().overrides
        overrides = [
            item
            for item in [*given.task, *given.hydra]
            if not item.startswith((f"{key}=", "hydra.mode="))
        ]
    value = str(output_dir)
    # What Hydra's grammar takes without quotes.
    if not re.fullmatch(r"[\w/.+@%:-]+", value, re.ASCII):
        value = '"' + value.replace('"', '\\"') + '"'
    return shlex.join(["python", Path(sys.argv[0]).name, *overrides, f"{key}={value}"])


def _rest_of_sweep() -> str:
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return ""
    if slurm_job():
        return ""  # each job runs on its own
    return "\nThe sweep's jobs after this one were not run: start them with what is left of -m."


def _say(message: str) -> None:
    if rank_zero_only.rank == 0:
        print(message, file=sys.stderr, flush=True)


# ------------------------------------------------------------- run directories


def _run_dir(kind: str, name: str, ckpt_path: str | None = None) -> str:
    """Name a run's folder, the same on every rank and after a requeue.

    A resumed training goes on in its own folder. The folder of a Slurm job's step carries the ids
    of both, which a requeue keeps; any other's carries the time.
    """
    root = Path(os.environ.get("TRIDENT_OUTPUTS", "outputs")) / kind / name
    if kind == "train" and ckpt_path and ckpt_path != "None":
        where = Path(ckpt_path)
        if where.suffix == ".ckpt":
            where = where.parent
        return str(where.parent if where.name == "checkpoints" else where)
    job = slurm_job()
    if job:
        return str(root / f"slurm-{job}-{os.environ['SLURM_STEP_ID']}")
    return str(root / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3])


def _last_run(ckpt_path: str | None, kind: str, name: str) -> str | None:
    """Replace ``ckpt_path=last`` by the newest run of the same kind that has a checkpoint."""
    if ckpt_path != "last":
        return ckpt_path
    root = Path(os.environ.get("TRIDENT_OUTPUTS", "outputs"))
    patterns = [f"{kind}/{name}/*"] + (["sweep/*/*"] if name == "*" else [])
    runs = [path.parent.parent for p in patterns for path in root.glob(f"{p}/checkpoints/*.ckpt")]
    if not runs:
        raise ValueError(
            f"ckpt_path=last: no run under {root / kind / name} has left a checkpoint yet; train "
            "first, or name a run's folder."
        )
    return str(max(runs, key=lambda run: (run / "checkpoints").stat().st_mtime))


def _precision() -> str:
    """Return what a GPU computes in: bf16 where it has it, fp32 elsewhere; fp32 on a CPU."""
    has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(False)
    return "bf16-mixed" if has_bf16 else "32-true"


def _members(group: str, names: Sequence[str] | str) -> dict[str, Any]:
    """Return several files of a config group by name, for tasks that use more than one."""
    folder = Path(__file__).resolve().parent.parent / "configs" / group
    members: dict[str, Any] = {}
    for name in [names] if isinstance(names, str) else names:
        path = folder / f"{name}.yaml"
        if not path.exists():
            choices = ", ".join(sorted(item.stem for item in folder.glob("*.yaml")))
            raise ValueError(f"there is no {group} {name!r}; choose among {choices}.")
        members[name] = OmegaConf.load(path)
    return members


def _short(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.,=-]+", "-", name)[:120]


OmegaConf.register_new_resolver("run_dir", _run_dir, use_cache=True, replace=True)
OmegaConf.register_new_resolver("last_run", _last_run, use_cache=True, replace=True)
OmegaConf.register_new_resolver("precision", _precision, use_cache=True, replace=True)
OmegaConf.register_new_resolver("short", _short, replace=True)
OmegaConf.register_new_resolver("members", _members, replace=True)
