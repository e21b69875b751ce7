"""Checkpoints that a run can be continued from, whatever ended it.

Decides when the last state is saved (every so many steps, after each epoch, on Ctrl-C, SIGTERM and
Slurm's warning signal), how it reaches the disk (a temporary name, then a rename; the state before
it is kept), which file ``ckpt_path`` means, and when a Slurm job puts itself back in the queue. The
best weights are the business of Lightning's ``ModelCheckpoint``.

Lightning's own answer to Slurm's warning saves inside the signal handler, so between a gradient and
its step if the signal comes there, and prefers its file to a newer one. It stands back where a
handler exists, so this one takes its place.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.data import _set_sampler_epoch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch import Tensor
from torch.distributed.tensor import DTensor

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"

#: Slurm's warning before the time is up or a job of higher rank takes the node (sbatch --signal).
WARNING = signal.SIGUSR1

#: A validation loop about to begin, in the form in which Lightning stores its progress.
_NO_BATCH_DONE = {"ready": 1, "started": 1, "processed": 0, "completed": 0}


class TrainingInterrupted(Exception):
    """Training was stopped by a signal, after its state was saved.

    Args:
        signum: The signal.
        step: Optimiser steps taken.
        path: The checkpoint that continues the run.
        is_requeued: Whether the Slurm job was put back in the queue, to go on by itself.
    """

    def __init__(self, signum: int, step: int, path: Path, is_requeued: bool = False) -> None:
        super().__init__(f"{signal.Signals(signum).name} at step {step}; the state is in {path}")
        self.signum, self.step, self.path, self.is_requeued = signum, step, path, is_requeued


class NonFiniteLoss(ValueError):
    """The training loss became NaN or infinite; the message names the last good checkpoint."""


def slurm_job() -> str | None:
    """Return the id of the Slurm job that this process is a step of, None if it is of none.

    A requeued job keeps its id. An interactive allocation (``salloc``, a shell) is no such job:
    many runs share it.
    """
    if "SLURM_STEP_ID" not in os.environ:
        return None
    if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    if task:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{task}"
    return os.environ.get("SLURM_JOB_ID")


def requeue_slurm_job() -> bool:
    """Put the Slurm job of this process back in its queue.

    Returns:
        Whether Slurm agreed; where it did not, its reason is shown as a warning.
    """
    job = slurm_job()
    if job is None:
        return False
    try:
        answer = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False
        )
        reason = answer.stderr.strip() if answer.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if reason:
        rank_zero_warn(f"job {job} could not be requeued ({reason}); submit it again by hand.")
    return not reason


def requeue_at_warning() -> None:
    """Answer Slurm's warning, from now on, by putting the job back in the queue at once.

    That is all that predictions need, whose rows are on disk as they come; while training,
    :class:`LastCheckpoint` saves first.
    """
    if slurm_job() is not None and threading.current_thread() is threading.main_thread():
        signal.signal(WARNING, lambda *_: rank_zero_only(requeue_slurm_job)())


class LastCheckpoint(Checkpoint):
    """Save the training state as ``last.ckpt``, and stop cleanly at a signal.

    A signal is acted upon between two optimiser steps (or two batches of validation), never inside
    one, so that what is saved is a state that an uninterrupted run also passes through. All ranks
    stop at the same step, whichever of them the signal reached. Slurm's warning also puts the job
    back in its queue. A second Ctrl-C stops at once.

    Args:
        dirpath: The folder of the checkpoints.
        every_n_steps: Optimiser steps between two saves, at least 1.

    Raises:
        ValueError: If ``every_n_steps`` is below 1.
        NonFiniteLoss: During training, before a state with such a loss would be saved.
        TrainingInterrupted: After a signal.
    """

    def __init__(self, dirpath: str, every_n_steps: int = 200) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}; it must be at least 1.")
        self.dirpath = Path(dirpath)
        self.every_n_steps = every_n_steps
        self._signum: int | None = None
        self._handlers: dict[int, Any] = {}
        self._is_finite: Tensor | None = None
        self._step = 0
        self._val_batches_left = 0
        self._is_validating = False

    @property
    def path(self) -> Path:
        """Where the last state is saved."""
        return self.dirpath / LAST

    # ------------------------------------------------------------------ hooks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            for leftover in self.dirpath.glob(".*.ckpt.*.tmp"):  # of a process killed while saving
                leftover.unlink(missing_ok=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        self._repair_restart(trainer)
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM, WARNING):
                self._handlers[signum] = signal.signal(signum, self._note_signal)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_handlers()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._restore_handlers()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._watch(outputs)
        step = trainer.global_step
        has_stepped, self._step = step != self._step, step
        if step % (trainer.log_every_n_steps or self.every_n_steps) == 0 or trainer.world_size > 1:
            signum = self._agree(trainer)
        else:
            signum = self._signum  # no look at the loss, which would wait for the device
        # Gradients that are still being accumulated are in no checkpoint; and from a state saved
        # after an epoch's last batch Lightning goes on without that epoch's validation.
        if not has_stepped or trainer.is_last_batch:
            return
        if signum or step % self.every_n_steps == 0:
            self._save(trainer)
        if signum:
            self._stop(trainer, signum)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._is_validating = True
        # Ranks may have unequally many batches; they can agree only while all of them have one.
        self._val_batches_left = int(min(sum(trainer.num_val_batches), 2**31 - 1))
        if trainer.world_size > 1:
            num = torch.tensor(self._val_batches_left, device=trainer.strategy.root_device)
            self._val_batches_left = int(trainer.strategy.reduce(num, reduce_op="min"))

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if not self._is_validating or self._val_batches_left <= 0:
            return
        self._val_batches_left -= 1
        signum = self._agree(trainer)
        if signum:
            self._save(trainer)
            self._stop(trainer, signum)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_validating = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signum = self._agree(trainer)
        self._save(trainer)
        if signum:
            self._stop(trainer, signum)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._is_validating:  # the metric of half a validation is lost: do it again, whole
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = {
                "total": dict(_NO_BATCH_DONE),
                "current": dict(_NO_BATCH_DONE),
                "is_last_batch": False,
            }

    @staticmethod
    def _repair_restart(trainer: Trainer) -> None:
        """Repair what Lightning 2.6 gets wrong on going on from a checkpoint.

        A module that asks for the number of steps (for its schedule) makes Lightning set the data
        up before the loaders' states are there, and it never hands them over afterwards. From the
        end of an epoch, it draws the batches of the next one before it tells the sampler which
        epoch that is. And it does not know that early stopping had stopped the run.
        """
        loop: Any = trainer.fit_loop
        if loop.resumed_on_epoch_end:
            loop._combined_loader_states_to_load = []
            for loader in loop._combined_loader.flattened:
                _set_sampler_epoch(loader, loop.epoch_progress.current.processed)
            iter(loop._data_fetcher)
        elif loop._combined_loader_states_to_load:
            loop._load_combined_loader_states()
            iter(loop._data_fetcher)
        for callback in trainer.early_stopping_callbacks:
            if callback is not None and callback.wait_count >= callback.patience:
                trainer.should_stop = True

    # ---------------------------------------------------------------- signals

    def _note_signal(self, signum: int, frame: Any) -> None:
        if self._signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self._signum = signum

    def _restore_handlers(self) -> None:
        while self._handlers:
            signum, handler = self._handlers.popitem()
            signal.signal(signum, handler)

    def _agree(self, trainer: Trainer) -> int | None:
        """Return the signal that any rank received; refuse a loss that any rank found infinite."""
        is_finite = self._is_finite if self._is_finite is not None else torch.tensor(True)
        seen = torch.stack([torch.tensor(self._signum or 0), (~is_finite).long().cpu()])
        if trainer.world_size > 1:
            seen = seen.to(trainer.strategy.root_device)
            seen = trainer.strategy.reduce(seen, reduce_op="max")
        signum, is_bad = seen.tolist()
        if is_bad:
            self._refuse(trainer, "train/loss is")
        return signum or None

    def _stop(self, trainer: Trainer, signum: int) -> None:
        is_requeued = False
        if signum == WARNING and slurm_job() is not None:
            self._ignore_sigterm(trainer)
            if trainer.is_global_zero:
                is_requeued = requeue_slurm_job()
            is_requeued = trainer.strategy.broadcast(is_requeued)  # nobody exits before Slurm knows
        raise TrainingInterrupted(signum, trainer.global_step, self.path, is_requeued)

    def _ignore_sigterm(self, trainer: Trainer) -> None:
        """Let the process end by itself, although Slurm terminates what it requeues.

        Lightning's handler, which would be back by then, answers SIGTERM with a broadcast, and
        fails with a long traceback if another rank has left already.
        """
        if self._handlers.pop(signal.SIGTERM, None) is not None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            trainer._signal_connector._original_handlers[signal.SIGTERM] = signal.SIG_IGN

    # ------------------------------------------------------------------ states

    def _watch(self, outputs: Any) -> None:
        """Remember on the device whether every loss was finite."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            finite = torch.isfinite(loss.detach())
            self._is_finite = finite if self._is_finite is None else self._is_finite & finite

    def _refuse(self, trainer: Trainer, what: str) -> None:
        kept = [path for path in (self.path, self.dirpath / PREVIOUS) if path.exists()]
        raise NonFiniteLoss(
            f"{what} not finite by step {trainer.global_step}; "
            + (f"the last good state is {kept[0]}. " if kept else "none was saved yet. ")
            + "Lower model.learning_rate, or use trainer.precision=32-true (T5 overflows in fp16)."
        )

    def _save(self, trainer: Trainer) -> None:
        self._agree(trainer)
        weights = [p.detach() for p in trainer.lightning_module.parameters() if p.requires_grad]
        weights = [p.to_local() if isinstance(p, DTensor) else p for p in weights]
        finite = torch.stack([torch.isfinite(p).all() for p in weights]).all()
        if trainer.world_size > 1:  # sharded weights: each rank sees a part
            finite = trainer.strategy.reduce(finite.long(), reduce_op="min")
        if not bool(finite):
            self._refuse(trainer, "a weight is")
        if trainer.is_global_zero and self.path.exists():
            self.path.replace(self.dirpath / PREVIOUS)
        trainer.save_checkpoint(self.path)


class SeededSteps(Callback):
    """Make every step's randomness a function of (seed, rank, epoch, batch).

    A resumed run then draws the dropout masks that an uninterrupted one draws, on every rank,
    without any generator's state in the checkpoint.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        place = f"{self.seed}/{trainer.global_rank}/{trainer.current_epoch}/{batch_idx}"
        digest = hashlib.blake2b(place.encode(), digest_size=8).digest()
        torch.manual_seed(int.from_bytes(digest, "little") >> 1)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint under a temporary name in its own folder, then rename it.

    Whatever stops the writing, the name never stands for half a file.

    Raises:
        ValueError: If the disk is full or the folder cannot be written to.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            raise ValueError(
                f"the checkpoint {path} could not be written ({error}); free some space or choose "
                "another paths.output_dir. The state before it is kept."
            ) from error


def find_checkpoint(where: str | Path, purpose: Literal["resume", "evaluate"]) -> Path:
    """Return the checkpoint file that a user's ``ckpt_path`` means.

    Args:
        where: A checkpoint file, or a run's folder (or its ``checkpoints`` folder), or, to
            evaluate, the folder that a run exported.
        purpose: In a folder, ``resume`` takes the newest state (the most steps, then the latest
            file), ``evaluate`` the best weights and the newest state only where there are none.

    Returns:
        The path of a file that can be read.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If all that is there is damaged.
    """
    where = Path(where)
    if purpose == "evaluate" and (where / "method.json").is_file():
        return where  # what a run exported: the trained tensors alone
    if where.is_file():
        _steps_of(where)
        return where
    if not where.exists():
        raise FileNotFoundError(
            f"ckpt_path={where} does not exist; give a checkpoint file or a run's folder, which "
            "train.py prints when it ends (a cluster deletes old files from scratch space)."
        )
    folders = [where, where / "checkpoints"]
    files = [path for folder in folders for path in folder.glob("*.ckpt")]
    if not files:
        raise FileNotFoundError(
            f"{where} holds no checkpoint (looked for *.ckpt there and in checkpoints/); give the "
            "folder of a run of train.py."
        )
    readable: list[tuple[tuple[int, float], Path]] = []
    for path in files:
        try:
            readable.append(((_steps_of(path), path.stat().st_mtime), path))
        except ValueError as error:
            rank_zero_warn(f"{error} Using another checkpoint of the same run.")
    if not readable:
        raise ValueError(f"every checkpoint in {where} is damaged; train again.")
    best = [item for item in readable if item[1].name == BEST]
    return max(best if best and purpose == "evaluate" else readable)[1]


def _steps_of(path: Path) -> int:
    """Return the optimiser steps a checkpoint has seen; proves that the file is whole."""
    try:
        return int(
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]
        )
    except Exception as error:
        raise ValueError(
            f"the checkpoint {path} is damaged or not one of Lightning's "
            f"({type(error).__name__}); choose another file of the run."
        ) from error
