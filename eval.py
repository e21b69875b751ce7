#!/usr/bin/env python
"""Run one task: measure, generate, detect, invert, count.

    python eval.py task=solve ckpt_path=last            # accuracy of a trained model
    python eval.py task=solve                           # accuracy of the frozen model
    python eval.py task=prompt                          # the same problems by prompting alone
    python eval.py task=generate                        # watermarked texts
    python eval.py task=detect data.path=FILE           # which scheme made each text
    python eval.py task=filter data.path=FOLDER         # which images a safety filter blocks
    python eval.py task=invert data.path=FILE           # the text behind each embedding
    python eval.py task=count                           # also task=unified, task=scaling
    python eval.py task=detect --cfg job                # show the configuration, run nothing

Every task runs as written, offline, and leaves all that it makes in one folder under outputs/.
"""

import hydra
from omegaconf import DictConfig

from src import entry


@hydra.main(version_base="1.3", config_path="configs", config_name="eval")
def main(cfg: DictConfig) -> float | None:
    """Compose the configuration and run the task."""
    return entry.evaluate(cfg)


if __name__ == "__main__":
    entry.run(main)
