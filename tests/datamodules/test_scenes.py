import random
from pathlib import Path

import pytest
import torch

from src.datamodules.scenes import COLOURS, Scenes, captions, render


def test_captions_are_distinct_and_drawn_right() -> None:
    every = captions()
    assert len(every) == len(set(every)) == 6320
    image = render("a large red square", random.Random(0))
    assert image.size == (64, 64)
    red = sum(
        all(abs(v - c) < 30 for v, c in zip(pixel, COLOURS["red"], strict=True))
        for pixel in (image.getpixel((x, y)) for x in range(64) for y in range(64))
    )
    assert 64 * 64 * 0.15 < red < 64 * 64 * 0.6


def test_relations_are_where_they_say() -> None:
    image = render("a black circle left of a white square", random.Random(1))
    row = [sum(image.getpixel((x, 32))) for x in range(64)]
    assert row.index(min(row)) < row.index(max(row))


def test_batches_repeat_and_held_out_captions_stay_out(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("\n".join(f"phrase {'x' * (i % 9)} {i}" for i in range(50)))
    data = Scenes(str(path), batch_size=4, phrases_per_batch=6, steps=3, num_validation=8)
    first, again = list(data.train_dataloader()), list(data.train_dataloader())
    assert len(first) == 3
    assert [b["phrase"] for b in first] == [b["phrase"] for b in again]
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, again, strict=True))
    assert first[0]["image"].shape == (4, 3, 64, 64)
    assert 0 <= first[0]["image"].min() < first[0]["image"].max() <= 1
    assert all(data.phrases[i] == p for i, p in zip(first[0]["phrase_index"], first[0]["phrase"]))
    seen = {c for b in first for c in b["caption"]}
    kept = {c for b in data.val_dataloader() for c in b["caption"]}
    assert kept <= set(data.held_out)
    assert not seen & set(data.held_out)
    with pytest.raises(FileNotFoundError, match="phrases_path"):
        Scenes(str(tmp_path / "none.txt"))
