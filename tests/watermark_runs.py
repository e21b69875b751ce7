"""Runs of the watermarking tasks in this process, on a tiny model."""

from pathlib import Path
from typing import Any

import lightning

from src.callbacks.attributions import AttributionWriter
from src.callbacks.generations import GenerationWriter
from src.datamodules.prompts import Prompts
from src.datamodules.texts import Texts
from src.modules.watermarked_generation import WatermarkedGeneration

MARK = {"prf": "keyed", "key": 5, "context_width": 1, "green_fraction": 0.5, "bias": 2.0}


def predict(module: Any, data: Any, writer: Any) -> None:
    lightning.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[writer],
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    ).predict(module, datamodule=data, return_predictions=False)


def generate(
    spec: dict[str, Any], folder: Path, prompts: list[str], mark: Any = None, **kwargs: Any
) -> Path:
    """Run the task generate; return its folder."""
    path = folder / "prompts.txt"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(prompts), encoding="utf-8")
    data = Prompts(str(path), kwargs.pop("schemes", ["none", "no_e", "hard", "soft"]), 3)
    module = WatermarkedGeneration(spec, {**MARK, **(mark or {})}, **kwargs)
    predict(module, data, GenerationWriter(str(folder / "out")))
    return folder / "out"


def detect(module: Any, path: Path, folder: Path, counts: Any = None, rates: Any = ()) -> Path:
    """Run the task detect; return its folder."""
    attack = module.hparams["attack"]
    data = Texts(str(path), batch_size=5, attack=attack, rates=rates)
    predict(module, data, AttributionWriter(str(folder), counts, attack))
    return folder


def lines(path: Path) -> list[Any]:
    import json

    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
