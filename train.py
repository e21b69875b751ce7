#!/usr/bin/env python
"""Train a model: adapt T5 to math word problems, or make one of the project's own models.

    python train.py                                     # LoRA on t5_mini, procedural problems
    python train.py model=adapter                       # adapter | prefix_tuning | full
    python train.py -m model=lora,adapter,prefix_tuning,full
    python train.py model=lora model.rank=16 backbone=flan_t5_base data=gsm8k trainer=gpu
    python train.py ckpt_path=last                      # go on where the last run stopped
    python train.py --cfg job                           # show the configuration, run nothing

Every run leaves its weights, predictions, metrics and TensorBoard log in one folder under outputs/.
"""

import hydra
from omegaconf import DictConfig

from src import entry


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Compose the configuration and train."""
    return entry.train(cfg)


if __name__ == "__main__":
    entry.run(main)
