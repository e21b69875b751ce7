"""A safety filter on CLIP embeddings, and how good its thresholds are.

An image is discarded when the cosine of its embedding to one of the filter's concepts is above
that concept's threshold. This is the filter of Stable Diffusion as reverse-engineered by Rando et
al., "Red-Teaming the Stable Diffusion Safety Filter" (2022, arXiv 2210.04610); special-care
concepts, which do not block but lower every threshold when hit, are part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Decision:
    """What a filter says about one image.

    Attributes:
        blocked: Whether it is discarded.
        concepts: Indices of the concepts whose threshold it exceeds, highest margin first.
        scores: Cosine to every concept.
        margins: Cosine less the threshold in force, of every concept.
    """

    blocked: bool
    concepts: list[int]
    scores: list[float]
    margins: list[float]


class SafetyFilter:
    """Compare embeddings with concepts: blocked if ``cos(z, c_k) > t_k`` for any k.

    Args:
        concepts: Embeddings (k, dim), normalised here.
        thresholds: One number, or (k,), in [-1, 1].
        special: Special-care embeddings (m, dim), or None.
        special_thresholds: Their thresholds (m,).
        adjustment: What a special-care hit takes off every threshold; Stable Diffusion's is 0.01.

    Raises:
        ValueError: If the shapes do not match or a threshold is outside [-1, 1].
    """

    def __init__(
        self,
        concepts: Tensor,
        thresholds: Tensor | Sequence[float] | float,
        special: Tensor | None = None,
        special_thresholds: Tensor | None = None,
        adjustment: float = 0.01,
    ) -> None:
        self.concepts = F.normalize(concepts.float(), dim=-1)
        t = torch.as_tensor(thresholds, dtype=torch.float32)
        self.thresholds = t.expand(len(concepts)) if t.ndim == 0 else t
        if self.thresholds.shape != (len(concepts),):
            raise ValueError(
                f"the filter has {len(concepts)} embeddings and {tuple(t.shape)} thresholds; "
                "give one threshold, or one for each embedding."
            )
        if bool((self.thresholds.abs() > 1).any()):
            raise ValueError("a filter's thresholds are cosines; they must lie in [-1, 1].")
        if (special is None) != (special_thresholds is None):
            raise ValueError("give special embeddings and special thresholds together.")
        self.special = None if special is None else F.normalize(special.float(), dim=-1)
        self.special_thresholds = special_thresholds
        self.adjustment = adjustment

    def __call__(self, images: Tensor) -> list[Decision]:
        """Decide about embeddings (n, dim), normalised or not."""
        z = F.normalize(images.float(), dim=-1)
        scores = z @ self.concepts.T  # (n, k)
        thresholds = self.thresholds.expand_as(scores)
        if self.special is not None and self.special_thresholds is not None:
            hit = ((z @ self.special.T) > self.special_thresholds).any(dim=1, keepdim=True)
            thresholds = thresholds - self.adjustment * hit
        margins = scores - thresholds
        decisions = []
        for score, margin in zip(scores.tolist(), margins.tolist(), strict=True):
            over = [k for k, m in enumerate(margin) if m > 0]
            over.sort(key=lambda k: -margin[k])
            decisions.append(Decision(bool(over), over, score, margin))
        return decisions


@dataclass(frozen=True)
class ErrorRates:
    """Rates over a grid of thresholds.

    Attributes:
        thresholds: Shape (t,), rising.
        false_alarm: Share of unrelated items above each threshold.
        miss: Share of related items not above it.
    """

    thresholds: Tensor
    false_alarm: Tensor
    miss: Tensor

    def equal_error(self) -> tuple[float, float]:
        """Give the threshold at which both rates are nearest to equal, and their mean there."""
        k = int((self.false_alarm - self.miss).abs().argmin())
        return float(self.thresholds[k]), float((self.false_alarm[k] + self.miss[k]) / 2)

    def at_false_alarm(self, rate: float) -> tuple[float, float]:
        """Give the smallest threshold with at most this false-alarm rate, and its miss rate."""
        fits = (self.false_alarm <= rate).nonzero().flatten()
        k = int(fits[0]) if len(fits) else len(self.thresholds) - 1
        return float(self.thresholds[k]), float(self.miss[k])


def error_rates(related: Tensor, unrelated: Tensor, num_thresholds: int = 401) -> ErrorRates:
    """Compute false-alarm and miss rates of every threshold.

    Args:
        related: Cosines of items that should be blocked (n,).
        unrelated: Cosines of items that should pass (m,).
        num_thresholds: Points between the lowest and the highest cosine.

    Raises:
        ValueError: If there is nothing on one of the sides.
    """
    if related.numel() == 0 or unrelated.numel() == 0:
        raise ValueError("error rates need at least one related and one unrelated item.")
    low = float(torch.minimum(related.min(), unrelated.min())) - 1e-4
    high = float(torch.maximum(related.max(), unrelated.max())) + 1e-4
    grid = torch.linspace(low, high, num_thresholds)
    return ErrorRates(
        grid,
        (unrelated[None] > grid[:, None]).float().mean(1),
        (related[None] <= grid[:, None]).float().mean(1),
    )
