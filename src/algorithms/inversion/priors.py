"""What one may know about a hidden text beforehand: words, fragments, and that it is language.

The dictionary attack is that of Rando et al., "Red-Teaming the Stable Diffusion Safety Filter"
(2022, arXiv 2210.04610): encode every entry of a list and look which one is the target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from src.algorithms.inversion.encoder import Ids, TextEncoder


@dataclass(frozen=True)
class Dictionary:
    """A list of texts, encoded once, for all targets.

    Attributes:
        ids: Tokens of each entry.
        z: Unit embeddings (n, dim).
    """

    ids: list[Ids]
    z: Tensor

    @classmethod
    def encode(cls, encoder: TextEncoder, texts: Sequence[str]) -> Dictionary:
        """Encode the entries; empty and doubled ones are dropped, too long ones too."""
        unique = dict.fromkeys(encoder.tokenize(t) for t in texts)
        ids = [i for i in unique if 0 < len(i) <= encoder.max_tokens]
        return cls(ids, encoder.encode_ids(ids))

    def nearest(self, target: Tensor, count: int) -> list[tuple[Ids, float, Tensor]]:
        """Give the entries nearest to a target, with cosines and embeddings."""
        value, at = (self.z @ target).topk(min(count, len(self.ids)))
        return [
            (self.ids[k], v, self.z[k]) for v, k in zip(value.tolist(), at.tolist(), strict=True)
        ]


def word_prior(encoder: TextEncoder, texts: Sequence[str], bonus: float) -> Tensor:
    """Favour the tokens of a word list.

    Args:
        encoder: The text tower.
        texts: Words or phrases.
        bonus: What is added to the log-score of each of their tokens.

    Returns:
        Shape (vocab,).
    """
    prior = torch.zeros(encoder.embedding.weight.shape[0])
    for text in texts:
        prior[list(encoder.tokenize(text))] = bonus
    return prior


def rank_near_ties(
    options: Sequence[tuple[str, float]],
    fluency: Callable[[Sequence[str]], Sequence[float]],
    window: float = 2e-3,
) -> list[tuple[str, float]]:
    """Order texts whose cosines are nearly equal by how fluent they are.

    Args:
        options: Texts and cosines, best first.
        fluency: Gives the mean log-probability of a token of each text, in nats.
        window: Cosine below the best within which two texts count as tied.

    Returns:
        The same pairs; those within the window by fluency, the others behind them as they were.
    """
    if not options:
        return []
    tied = [o for o in options if o[1] >= options[0][1] - window]
    if len(tied) < 2:
        return list(options)
    scores = dict(zip((t for t, _ in tied), fluency([t for t, _ in tied]), strict=True))
    tied.sort(key=lambda o: -scores[o[0]])
    return [*tied, *options[len(tied) :]]
