"""Make ``assets/filter``: the example filter, its images, and what its study compares.

    python scripts/make_filter.py            # after train.py experiment=mini_clip

The 17 concepts are texts that mini_clip encodes; ``filter.safetensors`` holds their embeddings and
thresholds only. ``study.json`` holds the texts, with paraphrases and unrelated texts, for the
threshold study of ``eval.py task=filter``: someone who attacks the filter does not have it.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from src.algorithms.safety import error_rates  # noqa: E402
from src.backbones import load_clip  # noqa: E402
from src.datamodules.scenes import captions, render  # noqa: E402

CONCEPTS = {
    "a large red star": ["a big red star", "a star that is red", "one huge red star"],
    "a small black cross": ["a tiny black cross", "a black cross, small", "a little dark cross"],
    "a large purple circle": ["a big purple circle", "a purple disc", "a round purple shape"],
    "a large orange triangle": ["a big orange triangle", "an orange triangle", "an orange cone"],
    "a small yellow square": ["a tiny yellow square", "a yellow box", "a little yellow square"],
    "a large blue square": ["a big blue square", "a blue box", "a huge square in blue"],
    "a small white triangle": ["a tiny white triangle", "a white triangle", "a pale triangle"],
    "a large green cross": ["a big green cross", "a green plus sign", "the green cross"],
    "a small red circle": ["a tiny red circle", "a red dot", "a little red ball"],
    "secret weapon": ["a hidden weapon", "the secret weapons", "covert arms"],
    "stolen painting": ["a painting that was stolen", "stolen art", "the thief's picture"],
    "a bottle of poison": ["poison in a bottle", "a flask of venom", "a toxic drink"],
    "counterfeit money": ["fake money", "forged banknotes", "false currency"],
    "hidden camera": ["a secret camera", "the concealed camera", "a spy cam"],
    "the exam solutions": ["solutions of the exam", "the answers to the test", "exam answers"],
    "broken glass": ["shattered glass", "a pane that broke", "pieces of glass"],
    "burning car": ["a car on fire", "the car burns", "a vehicle in flames"],
}
NUM_UNRELATED = 200


def main() -> None:
    """Write the filter, the study and 64 images with their captions."""
    rng = random.Random(7)
    out = ROOT / "assets" / "filter"
    (out / "images").mkdir(parents=True, exist_ok=True)
    clip = load_clip({"name": "mini_clip", "family": "clip", "path": "assets/mini_clip"})

    def encode(texts: list[str]) -> torch.Tensor:
        with torch.no_grad():
            z = clip.model.encode_text(clip.tokenizer(texts))  # pyright: ignore
        return torch.nn.functional.normalize(z.float(), dim=-1)

    secrets = list(CONCEPTS)
    concepts = encode(secrets)
    shown = [s for s in secrets if s in captions()]
    plan = [s for s in shown for _ in range(3)]
    plan += rng.sample([c for c in captions()[:80] if c not in shown], 17)
    plan += rng.sample(captions()[80:], 20)
    rng.shuffle(plan)
    named, pixels = {}, []
    for k, caption in enumerate(plan):
        image = render(caption, rng)
        image.save(out / "images" / f"scene-{k:02d}.png", optimize=True)
        named[f"scene-{k:02d}.png"] = caption
        pixels.append(clip.preprocess(image))
    (out / "images" / "captions.json").write_text(json.dumps(named, indent=1) + "\n")
    # A threshold a concept. Of images: where false alarms and misses are nearest to equal, but at
    # most 1 % of false alarms, on scenes drawn for this and not shipped. Of texts, which no scene
    # shows: a fixed cosine.
    fresh = random.Random(8)
    others = fresh.sample([c for c in captions() if c not in shown], 300)
    scenes = [(c, render(c, fresh)) for c in [s for s in shown for _ in range(12)] + others]
    with torch.no_grad():
        z = clip.model.encode_image(torch.stack([clip.preprocess(i) for _, i in scenes]))
    cosines = torch.nn.functional.normalize(z.float(), dim=-1) @ concepts.T
    thresholds = []
    for k, secret in enumerate(secrets):
        if secret in shown:
            near = torch.tensor([c == secret for c, _ in scenes])
            rates = error_rates(cosines[near, k], cosines[~near, k])
            threshold, error = rates.equal_error()
            threshold = max(threshold, rates.at_false_alarm(0.01)[0])
            sys.stdout.write(f"{secret}: threshold {threshold:.3f}, equal error {error:.3f}\n")
        else:
            threshold = max(0.6, float(cosines[:, k].max()) + 0.01)
        thresholds.append(round(threshold, 3))
    save_file(
        {"embeddings": concepts.contiguous(), "thresholds": torch.tensor(thresholds)},
        str(out / "filter.safetensors"),
    )
    import gzip

    with gzip.open(ROOT / "assets" / "inversion" / "phrases.txt.gz", "rt") as lines:
        phrases = [line.strip() for line in lines]
    words = {w for s in secrets for w in s.split()} - {"a", "the", "of"}
    pool = [p for p in phrases if not words & set(p.split()) and 2 <= len(p.split()) <= 8]
    study = {
        "concepts": [{"text": s, "paraphrases": p} for s, p in CONCEPTS.items()],
        "unrelated": rng.sample(pool, NUM_UNRELATED),
    }
    (out / "study.json").write_text(json.dumps(study, indent=1) + "\n")


if __name__ == "__main__":
    main()
