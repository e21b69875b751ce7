"""Whatever ends a run, and wherever: going on gives the weights of a run that was not ended."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from src.callbacks import checkpoint as checkpoint_module
from src.callbacks.checkpoint import (
    BEST,
    LAST,
    PREVIOUS,
    AtomicCheckpointIO,
    LastCheckpoint,
    NonFiniteLoss,
    SeededSteps,
    TrainingInterrupted,
    find_checkpoint,
    requeue_at_warning,
    slurm_job,
)
from src.datamodules.batching import BucketBatchSampler

NUM_EPOCHS, NUM_BATCHES = 3, 5


class Numbers(Dataset[Tensor]):
    def __len__(self) -> int:
        return NUM_BATCHES * 4

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([float(index), (index * 7) % 20])


class Data(LightningDataModule):
    def train_dataloader(self) -> StatefulDataLoader:
        sampler = BucketBatchSampler(list(range(len(Numbers()))), 4, seed=3)
        return StatefulDataLoader(Numbers(), batch_sampler=sampler)

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(Numbers(), batch_size=7)


class Toy(LightningModule):
    """A regression with dropout and a schedule, which shows any step done twice or left out."""

    def __init__(self, asks_for_steps: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.asks_for_steps = asks_for_steps
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.3), nn.Linear(8, 1))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.net(batch / 20) - 1).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/accuracy", -self.net(batch / 20).square().mean(), batch_size=len(batch))

    def configure_optimizers(self) -> Any:
        if self.asks_for_steps:  # as our modules do; it makes Lightning load the data early
            assert self.trainer.estimated_stepping_batches > 0
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Kick(Callback):
    """Send a signal to this process within a given hook, as the scheduler would at any moment."""

    def __init__(self, signum: int, hook: str, epoch: int, batch: int) -> None:
        self.place = (hook, epoch, batch)
        self.signum = signum

    def _kick(self, trainer: Trainer, hook: str, batch: int) -> None:
        if self.place == (hook, trainer.current_epoch, batch):
            os.kill(os.getpid(), self.signum)

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Tensor) -> None:
        self._kick(trainer, "backward", trainer.fit_loop.batch_idx)

    def on_validation_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self._kick(trainer, "validation", args[2])

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._kick(trainer, "validated", 0)


class Validations(Callback):
    def __init__(self) -> None:
        self.scores: dict[int, float] = {}

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.scores[trainer.current_epoch] = trainer.callback_metrics["val/accuracy"].item()


def fit(
    folder: Path,
    *callbacks: Callback,
    resume: Path | None = None,
    every: int = 2,
    asks_for_steps: bool = True,
    **settings: Any,
) -> tuple[Toy, Trainer, Validations]:
    toy, validations = Toy(asks_for_steps), Validations()
    best = ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor="val/accuracy",
        mode="max",
        enable_version_counter=False,
    )
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=NUM_EPOCHS,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            best,
            LastCheckpoint(str(folder), every_n_steps=every),
            SeededSteps(0),
            validations,
            *callbacks,
        ],
        **settings,
    )
    trainer.fit(toy, datamodule=Data(), ckpt_path=resume, weights_only=True if resume else None)
    return toy, trainer, validations


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, Trainer, Validations]:
    return fit(tmp_path_factory.mktemp("whole"))


def assert_same(run: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    for mine, theirs in zip(run[0].parameters(), other[0].parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert run[1].global_step == other[1].global_step
    best, other_best = run[1].checkpoint_callback, other[1].checkpoint_callback
    assert best.best_model_score == other_best.best_model_score


PLACES = [
    *[("backward", epoch, batch) for epoch in (0, 1, 2) for batch in range(NUM_BATCHES)],
    *[("validation", epoch, batch) for epoch in (0, 1, 2) for batch in (0, 1, 2)],
    *[("validated", epoch, 0) for epoch in (0, 1, 2)],
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: "-".join(map(str, place)))
def test_a_signal_anywhere_costs_nothing(
    place: tuple[str, int, int], tmp_path: Path, uninterrupted: tuple[Toy, Trainer, Validations]
) -> None:
    with pytest.raises(TrainingInterrupted) as stop:
        fit(tmp_path, Kick(signal.SIGTERM, *place))
    assert stop.value.path == tmp_path / LAST
    resumed = fit(tmp_path, resume=find_checkpoint(tmp_path, "resume"))
    assert_same(resumed, uninterrupted)
    # Each epoch is validated on all its batches, also the one that was interrupted there.
    assert resumed[2].scores.items() <= uninterrupted[2].scores.items()
    first = place[1] + (place[0] == "validated")
    assert set(resumed[2].scores) == set(range(first, NUM_EPOCHS))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGUSR1])
def test_ctrl_c_and_slurms_warning_stop_as_sigterm_does(
    signum: int, tmp_path: Path, uninterrupted: tuple[Toy, Trainer, Validations]
) -> None:
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    with pytest.raises(TrainingInterrupted, match="at step 7") as stop:
        fit(tmp_path, Kick(signum, "backward", 1, 1))
    assert stop.value.signum == signum
    assert not stop.value.is_requeued
    assert {s: signal.getsignal(s) for s in before} == before
    assert_same(fit(tmp_path, resume=tmp_path / LAST), uninterrupted)


def test_a_signal_waits_for_accumulated_gradients(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"accumulate_grad_batches": 2}
    whole = fit(tmp_path / "whole", **settings)
    with pytest.raises(TrainingInterrupted):
        fit(tmp_path / "cut", Kick(signal.SIGTERM, "backward", 1, 2), **settings)
    resumed = fit(tmp_path / "cut", resume=tmp_path / "cut" / LAST, **settings)
    assert_same(resumed, whole)


@pytest.mark.parametrize(("every", "asks_for_steps"), [(1, True), (1, False), (3, True)])
def test_every_periodic_state_continues_to_the_same_weights(
    every: int,
    asks_for_steps: bool,
    tmp_path: Path,
    uninterrupted: tuple[Toy, Trainer, Validations],
) -> None:
    """What SIGKILL leaves is some state saved in passing: keep a copy of each and resume all."""
    states: list[Path] = []

    class Copies(AtomicCheckpointIO):
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            super().save_checkpoint(checkpoint, path, storage_options)
            copy = tmp_path / f"{len(states)}.ckpt"
            copy.write_bytes(Path(path).read_bytes())
            states.append(copy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{__name__}.AtomicCheckpointIO", Copies)
        fit(tmp_path / "run", every=every, asks_for_steps=asks_for_steps)
    assert len(states) >= 3
    for state in states:
        # In its own folder, as ModelCheckpoint knows its best file again only there.
        resumed = fit(tmp_path / "run", resume=state, asks_for_steps=asks_for_steps)
        assert_same(resumed, uninterrupted)


def test_a_run_that_logs_nothing_is_watched_too(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole")
    assert_same(fit(tmp_path / "silent", log_every_n_steps=0), whole)
    with pytest.raises(TrainingInterrupted):
        fit(tmp_path / "cut", Kick(signal.SIGTERM, "backward", 0, 1), log_every_n_steps=0)


def test_an_epoch_without_validation_continues_too(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"check_val_every_n_epoch": 3}
    whole = fit(tmp_path / "whole", **settings)
    with pytest.raises(TrainingInterrupted):
        fit(tmp_path / "cut", Kick(signal.SIGTERM, "backward", 0, NUM_BATCHES - 1), **settings)
    resumed = fit(tmp_path / "cut", resume=tmp_path / "cut" / LAST, **settings)
    assert_same(resumed, whole)


def test_a_run_that_stopped_early_stays_stopped(tmp_path: Path) -> None:
    def early() -> EarlyStopping:
        return EarlyStopping("val/accuracy", mode="min", patience=1, min_delta=100)

    _, trainer, _ = fit(tmp_path, early())
    assert trainer.current_epoch == 2
    _, resumed, validations = fit(tmp_path, early(), resume=tmp_path / LAST)
    assert resumed.global_step == trainer.global_step
    assert not validations.scores


# ---------------------------------------------------------------------------- non-finite


class Diverge(Callback):
    """Make the loss (or only the weights) NaN from a given step on."""

    def __init__(self, step: int, what: str) -> None:
        self.step, self.what = step, what

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step and self.what == "loss":
            module.net[2].weight.data.fill_(float("nan"))

    def on_before_zero_grad(self, trainer: Trainer, module: LightningModule, _: Any) -> None:
        if trainer.global_step == self.step and self.what == "weights":
            module.net[2].weight.data.fill_(float("inf"))


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_a_diverging_run_stops_and_keeps_the_last_good_state(what: str, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLoss, match=r"not finite .*last\.ckpt.*learning_rate"):
        fit(tmp_path, Diverge(7, what))
    good = torch.load(find_checkpoint(tmp_path, "resume"), weights_only=True)
    assert good["global_step"] <= 7
    assert all(torch.isfinite(value).all() for value in good["state_dict"].values())


# ------------------------------------------------------------------------ damaged files


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_damaged_state_is_reported_and_the_one_before_it_used(
    share: float, tmp_path: Path, uninterrupted: tuple[Toy, Trainer, Validations]
) -> None:
    with pytest.raises(TrainingInterrupted):
        fit(tmp_path, Kick(signal.SIGTERM, "backward", 1, 2))
    cut(tmp_path / LAST, share)
    with pytest.warns(UserWarning, match=r"last\.ckpt is damaged"):
        found = find_checkpoint(tmp_path, "resume")
    assert found.name == PREVIOUS
    assert_same(fit(tmp_path, resume=found), uninterrupted)


def test_nothing_whole_is_an_error(tmp_path: Path) -> None:
    fit(tmp_path)
    for path in tmp_path.glob("*.ckpt"):
        cut(path, 0.3)
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match=r"every checkpoint in .* is damaged"),
    ):
        find_checkpoint(tmp_path, "resume")
    with pytest.raises(ValueError, match="is damaged or not one of Lightning's"):
        find_checkpoint(tmp_path / LAST, "resume")


def test_the_newest_state_is_taken_whatever_wrote_it(tmp_path: Path) -> None:
    """Lightning's own preemption file counts by its steps, not by its name."""
    for name, step in (("hpc_ckpt_1.ckpt", 8), ("checkpoints/last.ckpt", 9), ("best.ckpt", 3)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save({"global_step": step}, tmp_path / name)
    assert find_checkpoint(tmp_path, "resume").name == LAST
    assert find_checkpoint(tmp_path, "evaluate").name == BEST
    torch.save({"global_step": 12}, tmp_path / "hpc_ckpt_2.ckpt")
    assert find_checkpoint(tmp_path, "resume").name == "hpc_ckpt_2.ckpt"


def test_missing_files_say_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"does not exist; .*scratch"):
        find_checkpoint(tmp_path / "gone", "resume")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        find_checkpoint(tmp_path, "evaluate")


def test_a_write_that_fails_leaves_the_file_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "a.ckpt"
    io.save_checkpoint({"global_step": 1}, path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"could not be written .*No space left"):
        io.save_checkpoint({"global_step": 2}, path)
    assert torch.load(path, weights_only=True)["global_step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".last.ckpt.4242.tmp"
    leftover.write_bytes(b"half")
    fit(tmp_path)
    assert not leftover.exists()
    assert (tmp_path / LAST).exists()


# --------------------------------------------------------------------------------- Slurm


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Pretend to be step 0 of job 77; collect what is asked of Slurm."""
    asked: list[list[str]] = []

    class Answer:
        returncode, stderr = 0, ""

    def run(command: list[str], **_: Any) -> Answer:
        asked.append(command)
        return Answer()

    for name, value in (("JOB_ID", "77"), ("STEP_ID", "0"), ("JOB_NAME", "train")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr(checkpoint_module.subprocess, "run", run)
    return asked


@pytest.mark.parametrize(
    ("settings", "job"),
    [
        ({}, "77"),
        ({"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}, "70_3"),
        ({"SLURM_JOB_NAME": "interactive"}, None),
        ({"SLURM_JOB_NAME": "bash"}, None),
    ],
)
def test_a_job_is_named_by_what_a_requeue_keeps(
    settings: dict[str, str], job: str | None, slurm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert slurm_job() == job
    monkeypatch.delenv("SLURM_STEP_ID")
    assert slurm_job() is None


def test_slurms_warning_saves_then_requeues(tmp_path: Path, slurm: list[list[str]]) -> None:
    last = LastCheckpoint(str(tmp_path))
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(TrainingInterrupted) as stop:
        last._stop(trainer, signal.SIGUSR1)
    assert stop.value.is_requeued
    assert slurm == [["scontrol", "requeue", "77"]]
    with pytest.raises(TrainingInterrupted) as stop:
        last._stop(trainer, signal.SIGTERM)  # Slurm ends the job itself, and knows why
    assert not stop.value.is_requeued
    assert len(slurm) == 1


def test_a_refused_requeue_is_said(
    tmp_path: Path, slurm: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(command: list[str], **_: Any) -> Any:
        raise OSError("no scontrol here")

    monkeypatch.setattr(checkpoint_module.subprocess, "run", refuse)
    with pytest.warns(UserWarning, match="job 77 could not be requeued .*no scontrol here"):
        assert not checkpoint_module.requeue_slurm_job()


def test_outside_of_training_the_warning_requeues_at_once(slurm: list[list[str]]) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        requeue_at_warning()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert slurm == [["scontrol", "requeue", "77"]]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="every_n_steps is 0"):
        LastCheckpoint("x", every_n_steps=0)


def test_steps_draw_the_same_whatever_came_before(tmp_path: Path) -> None:
    drawn: list[float] = []

    class Draw(Callback):
        def on_before_backward(self, *_: Any) -> None:
            drawn.append(torch.rand(()).item())

    fit(tmp_path / "a", Draw())
    first, drawn[:] = list(drawn), []
    lightning.seed_everything(99, verbose=False)
    fit(tmp_path / "b", Draw())
    assert drawn == first
    assert len(set(first)) == len(first)
