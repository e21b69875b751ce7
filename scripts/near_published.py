"""List the tales that resemble a published problem, so that they can be taken out.

Each tale is told once; it and every published problem, numbers aside, are encoded by
all-MiniLM-L6-v2. Printed are the tales whose cosine to a problem is above the threshold, the
nearest first: cosine, file, body, what was told, problem. Above 0.88 they tell the same things in
much the same words; below, they share a topic. For SVAMP, a test set, 0.86 was the limit.

    python scripts/near_published.py 0.88 FOLDER/ASDiv.xml FOLDER/train.csv
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from src.algorithms.inversion.encoder import TextEncoder  # noqa: E402
from src.backbones import load_clip  # noqa: E402
from src.datamodules.readers import read_file  # noqa: E402
from src.datamodules.tales import load_tales, make_tale  # noqa: E402


def main(threshold: float, files: Sequence[str]) -> None:
    """Print what is near."""
    tales = load_tales()
    told = [make_tale(random.Random(k), [tale]).text for k, tale in enumerate(tales)]
    published = [(file, p.masked) for file in files for p in read_file(file, "skip")[0]]
    clip = load_clip(OmegaConf.load(ROOT / "configs" / "backbone" / "minilm.yaml"))
    encoder = TextEncoder(clip.model, clip.tokenizer)
    alike = [re.sub(r"number\d+|\d[\d.,]*", "7", t) for t in [*told, *(t for _, t in published)]]
    z = encoder.encode_ids([encoder.tokenize(text)[: encoder.max_tokens] for text in alike])
    cosines = z[: len(told)] @ z[len(told) :].T
    value, which = cosines.max(1)
    for k in value.argsort(descending=True).tolist():
        if value[k] <= threshold:
            break
        file, problem = published[int(which[k])]
        print(f"{value[k]:.3f}\t{Path(file).name}\t{tales[k].body}\t{told[k]}\t{problem}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(float(sys.argv[1]), sys.argv[2:])
