"""Checkpoints that a run can be continued from, whatever ended it.

Decides when the last state is saved (every so many steps, after each epoch, on Ctrl-C, SIGTERM and
Slurm's warning signal), how it reaches the disk (a temporary name, then a rename; the state before
it is kept), and which file ``ckpt_path`` means. The best weights are the business of Lightning's
``ModelCheckpoint``.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class TrainingInterrupted(Exception):
    """Training was stopped by a signal, after its state was saved.

    Args:
        signum: The signal.
        step: Optimiser steps taken.
        path: The checkpoint that continues the run.
    """

    def __init__(self, signum: int, step: int, path: Path) -> None:
        super().__init__(f"{signal.Signals(signum).name} at step {step}; the state is in {path}")
        self.signum, self.step, self.path = signum, step, path


class NonFiniteLoss(ValueError):
    """The training loss became NaN or infinite; the message names the last good checkpoint."""


class LastCheckpoint(Checkpoint):
    """Save the training state as ``last.ckpt``, and stop cleanly at a signal.

    A signal is acted upon between two steps, never inside one, so that what is saved is a state
    that an uninterrupted run also passes through. A second Ctrl-C stops at once.

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
        self._saved_step = -1

    @property
    def path(self) -> Path:
        """Where the last state is saved."""
        return self.dirpath / LAST

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._handlers[signum] = signal.signal(signum, self._note_signal)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore_handlers()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._restore_handlers()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._watch(outputs, trainer)
        step = trainer.global_step
        signum = self._agreed_signal(trainer)
        is_due = step != self._saved_step and step % self.every_n_steps == 0
        if is_due or signum:
            self._save(trainer)
        if signum:
            raise TrainingInterrupted(signum, step, self.path)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        # Nothing new to save here: the state is the one after the last step.
        signum = self._agreed_signal(trainer)
        if signum and trainer.training is False and not trainer.sanity_checking:
            raise TrainingInterrupted(signum, trainer.global_step, self.path)

    def _note_signal(self, signum: int, frame: Any) -> None:
        if self._signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self._signum = signum

    def _agreed_signal(self, trainer: Trainer) -> int | None:
        """Return the signal that any rank received, the same on every rank."""
        if trainer.world_size == 1:
            return self._signum
        seen = torch.tensor(self._signum or 0, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(seen, reduce_op="max")) or None

    def _restore_handlers(self) -> None:
        while self._handlers:
            signum, handler = self._handlers.popitem()
            signal.signal(signum, handler)

    def _watch(self, outputs: Any, trainer: Trainer) -> None:
        """Remember on the device whether every loss was finite; look only now and then."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(loss, Tensor):
            return
        finite = torch.isfinite(loss.detach())
        self._is_finite = finite if self._is_finite is None else self._is_finite & finite
        if trainer.global_step % trainer.log_every_n_steps == 0:  # pyright: ignore
            self._require_finite(trainer)

    def _require_finite(self, trainer: Trainer) -> None:
        if self._is_finite is None or bool(self._is_finite):
            return
        kept = f"the last good state is {self.path}" if self.path.exists() else "none was saved yet"
        raise NonFiniteLoss(
            f"train/loss is not finite by step {trainer.global_step}; {kept}. "
            "Lower model.learning_rate, or use trainer.precision=32-true (T5 overflows in fp16)."
        )

    def _save(self, trainer: Trainer) -> None:
        self._require_finite(trainer)
        if trainer.is_global_zero and self.path.exists():
            self.path.replace(self.dirpath / PREVIOUS)
        trainer.save_checkpoint(self.path)
        self._saved_step = trainer.global_step


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
                "another paths.output_dir. Earlier checkpoints are untouched."
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
            "train.py prints when it ends."
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
