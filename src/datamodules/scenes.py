"""Rendered scenes with captions, and phrases to distil: what ``mini_clip`` learns from.

A scene is one coloured shape, or two with a spatial relation; its caption says what is there. The
phrases are those of ``assets/inversion/phrases.txt.gz``. Both are endless streams from a seed: the
same seed gives the same batches.
"""

from __future__ import annotations

import gzip
import math
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (40, 150, 60),
    "blue": (40, 80, 210),
    "yellow": (240, 210, 40),
    "purple": (130, 50, 160),
    "orange": (245, 130, 30),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
SIZES = ("small", "large")
RELATIONS = ("left of", "right of", "above", "below")
IMAGE_SIZE = 64


def captions() -> list[str]:
    """List every caption: 80 of one shape, 6,240 of two different ones."""
    things = [f"{c} {s}" for c in COLOURS for s in SHAPES]
    one = [f"a {size} {thing}" for size in SIZES for thing in things]
    two = [
        f"a {a} {relation} a {b}"
        for a in things
        for b in things
        if a != b
        for relation in RELATIONS
    ]
    return [_article(c) for c in one + two]


def _article(caption: str) -> str:
    return caption.replace("a orange", "an orange")


def render(caption: str, rng: random.Random, size: int = IMAGE_SIZE) -> Image.Image:
    """Draw a scene that a caption describes.

    Args:
        caption: One of :func:`captions`.
        rng: Decides place, size, tint and background.
        size: Side of the square image in pixels.

    Returns:
        An RGB image. It is drawn at twice the size and reduced, so edges are smooth.
    """
    words = caption.split()
    grey = rng.randint(110, 175)
    big = size * 2
    image = Image.new("RGB", (big, big), tuple(grey + rng.randint(-12, 12) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    if words[1] in SIZES:
        radius = big * (rng.uniform(0.10, 0.15) if words[1] == "small" else rng.uniform(0.27, 0.36))
        x, y = (rng.uniform(radius, big - radius) for _ in range(2))
        _shape(draw, words[3], words[2], x, y, radius, rng)
        return image.resize((size, size), Image.Resampling.BILINEAR)
    relation = " ".join(words[3:-3])
    first, second = (words[1], words[2]), (words[-2], words[-1])
    near, far = rng.uniform(0.22, 0.30), rng.uniform(0.70, 0.78)
    across = rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6)
    places = {
        "left of": ((near, across[0]), (far, across[1])),
        "right of": ((far, across[0]), (near, across[1])),
        "above": ((across[0], near), (across[1], far)),
        "below": ((across[0], far), (across[1], near)),
    }[relation]
    for (colour, shape), (x, y) in zip((first, second), places, strict=True):
        _shape(draw, shape, colour, x * big, y * big, big * rng.uniform(0.15, 0.20), rng)
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _shape(
    draw: ImageDraw.ImageDraw,
    shape: str,
    colour: str,
    x: float,
    y: float,
    radius: float,
    rng: random.Random,
) -> None:
    fill = tuple(min(255, max(0, v + rng.randint(-14, 14))) for v in COLOURS[colour])
    if shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    elif shape == "square":
        side = radius * 0.86
        draw.rectangle((x - side, y - side, x + side, y + side), fill=fill)
    elif shape == "cross":
        arm = radius * 0.32
        draw.rectangle((x - radius, y - arm, x + radius, y + arm), fill=fill)
        draw.rectangle((x - arm, y - radius, x + arm, y + radius), fill=fill)
    else:
        corners = 3 if shape == "triangle" else 10
        points = []
        for k in range(corners):
            r = radius * (0.45 if shape == "star" and k % 2 else 1.1)
            angle = 2 * math.pi * k / corners - math.pi / 2
            points.append((x + r * math.cos(angle), y + r * math.sin(angle)))
        draw.polygon(points, fill=fill)


class SceneStream(IterableDataset[dict[str, Any]]):
    """Endless scenes: ``image`` (3, 64, 64) in [0, 1] and ``caption``."""

    def __init__(self, texts: list[str], seed: int, length: int | None = None) -> None:
        self.texts, self.seed, self.length = texts, seed, length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        part, parts = (worker.id, worker.num_workers) if worker else (0, 1)
        rng = random.Random(self.seed * 1000 + part)
        # One-shape captions are 80 of 6,320: let them be a quarter of what is seen.
        one, two = self.texts[:80], self.texts[80:]
        made = 0
        while self.length is None or made < self.length // parts:
            caption = rng.choice(one if rng.random() < 0.25 or not two else two)
            image = render(caption, rng)
            pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
            pixels = pixels.view(IMAGE_SIZE, IMAGE_SIZE, 3).permute(2, 0, 1).float() / 255
            yield {"image": pixels, "caption": caption}
            made += 1


class Scenes(LightningDataModule):
    """Scenes and phrases for training ``mini_clip``.

    Batches of training hold ``image`` (batch, 3, 64, 64), ``caption`` and ``phrase`` (lists of
    texts) and ``phrase_index`` (positions in ``phrases``, for a teacher's cached embeddings);
    validation batches hold scenes of captions that training leaves out.

    Args:
        phrases_path: A text file, gzipped or not, one phrase a line.
        batch_size: Scenes in a batch.
        phrases_per_batch: Phrases in a batch.
        steps: Batches in an epoch of training.
        num_validation: Scenes in validation.
        seed: Of all streams.

    Raises:
        FileNotFoundError: If there is no file at ``phrases_path``.
    """

    def __init__(
        self,
        phrases_path: str,
        batch_size: int = 64,
        phrases_per_batch: int = 256,
        steps: int = 1000,
        num_validation: int = 640,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.batch_size, self.phrases_per_batch = batch_size, phrases_per_batch
        self.steps, self.num_validation, self.seed = steps, num_validation, seed
        path = Path(phrases_path)
        if not path.is_file():
            raise FileNotFoundError(f"data.phrases_path: there is no file {phrases_path}.")
        opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as lines:
            self.phrases = [line.strip() for line in lines if line.strip()]
        every = captions()
        rng = random.Random(20)
        self.held_out = sorted(rng.sample(every[80:], 240))
        self.training = [c for c in every if c not in set(self.held_out)]

    def train_dataloader(self) -> DataLoader[Any]:
        rank = self.trainer.global_rank if self.trainer else 0
        order = random.Random(self.seed + 1000 * rank)
        by_length = sorted(range(len(self.phrases)), key=lambda k: len(self.phrases[k]))

        def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
            # Phrases of about one length, so that little is padding.
            window = min(len(by_length), 16 * self.phrases_per_batch)
            start = order.randrange(len(by_length) - window + 1)
            index = order.sample(
                by_length[start : start + window], min(window, self.phrases_per_batch)
            )
            return {
                "image": torch.stack([i["image"] for i in items]),
                "caption": [i["caption"] for i in items],
                "phrase": [self.phrases[k] for k in index],
                "phrase_index": torch.tensor(index),
            }

        stream = SceneStream(
            self.training, self.seed + 7 * rank + 1, length=self.steps * self.batch_size
        )
        return DataLoader(stream, self.batch_size, collate_fn=collate, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
            return {
                "image": torch.stack([i["image"] for i in items]),
                "caption": [i["caption"] for i in items],
            }

        stream = SceneStream(self.held_out, 999, length=self.num_validation)
        return DataLoader(stream, 64, collate_fn=collate)
