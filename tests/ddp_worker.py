"""What two gloo processes run for tests/test_ddp.py, and one process runs to compare with.

    python tests/ddp_worker.py FOLDER

Lightning starts this command a second time, as it does with train.py.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from hydra import compose, initialize_config_dir
from lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch import Callback

from src import entry
from src.callbacks.checkpoint import LAST, TrainingInterrupted
from tests.tiny import tiny_overrides

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
METHODS = ("lora", "adapter", "prefix_tuning")
NUM_INPUTS = 7
#: In single precision, Adam's first steps turn the rounding of a gradient that is all but zero into
#: a difference of up to the learning rate.
EXACT = "trainer.precision=64-true"


def build(
    config: str, folder: Path, *overrides: str
) -> tuple[LightningDataModule, LightningModule, Trainer]:
    """Make what the entry points make of a command line."""
    settings = {
        "paths__output_dir": folder,
        "data__num_test": NUM_INPUTS,
        "data__generator__irrelevant_rate": 0.0,
        "data__max_source_length": 1000,
        "data__max_target_length": 1000,
    }
    if config == "train":
        settings |= {"run_name": "x", "callbacks__unified_monitor": "null"}
        settings |= {"callbacks__learning_rate": "null"}  # it needs a logger
    given = [item.split("=")[0] for item in overrides]
    base = [item for item in tiny_overrides(folder, **settings) if item.split("=")[0] not in given]
    seed_everything(0, verbose=False)  # as the entry points do
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIGS)):
        return entry._build(compose(config, [*base, *overrides, "~logger"]))


def trained(model: LightningModule) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


class Kick(Callback):
    """Let one rank receive a signal, in the middle of a step."""

    def on_before_backward(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def main(folder: Path) -> None:
    """Run everything once, and leave the weights of each run in ``folder``."""
    processes = ("trainer=ddp", "trainer.accelerator=cpu", EXACT)
    torch.set_num_threads(1)
    for method in METHODS:
        data, model, trainer = build("train", folder / method, f"model={method}", *processes)
        assert trainer.world_size == 2
        trainer.fit(model, datamodule=data)
        if trainer.is_global_zero:
            torch.save(trained(model), folder / f"{method}.pt")

    data, model, trainer = build("train", folder / "cut", *processes)
    trainer.callbacks.insert(0, Kick())  # pyright: ignore[reportAttributeAccessIssue]
    try:
        trainer.fit(model, datamodule=data)
    except TrainingInterrupted as stop:
        (folder / f"stopped-{trainer.global_rank}").write_text(str(stop.step))
    data, model, trainer = build("train", folder / "cut", *processes)
    last = folder / "cut" / "checkpoints" / LAST
    trainer.fit(model, datamodule=data, ckpt_path=last, weights_only=True)
    if trainer.is_global_zero:
        torch.save(trained(model), folder / "resumed.pt")

    data, model, trainer = build("eval", folder / "solve", *processes)
    trainer.predict(model, datamodule=data, return_predictions=False)
    data, model, trainer = build("eval", folder / "single", "data.num_test=1", *processes)
    trainer.predict(model, datamodule=data, return_predictions=False)

    single = ("trainer.accelerator=cpu", "trainer.precision=32-true")  # what FSDP allows
    data, model, trainer = build("train", folder / "whole", "trainer=ddp", *single)
    trainer.fit(model, datamodule=data)
    if trainer.is_global_zero:
        torch.save(trained(model), folder / "whole.pt")
    data, model, trainer = build("train", folder / "fsdp", "trainer=fsdp", *single)
    trainer.fit(model, datamodule=data)
    gathered = trainer.strategy.lightning_module_state_dict()
    if trainer.is_global_zero:
        torch.save({name: gathered[name] for name in trained(model)}, folder / "fsdp.pt")
    best = entry._best_checkpoint(trainer)
    assert best is not None
    trainer.test(model, datamodule=data, ckpt_path=best, weights_only=True, verbose=False)
    if trainer.is_global_zero:
        model.unsharded(best).export(folder / "exported")  # pyright: ignore[reportCallIssue]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
