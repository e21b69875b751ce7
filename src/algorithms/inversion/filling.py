"""Growth by filling blanks: for towers that nothing was trained for.

A phrase of a given length begins as blanks, and a blank holds random tokens: some random fillings
show where the phrase lies on average, and the mean gradient at every blank (SmoothGrad: Smilkov et
al. 2017, arXiv 1706.03825). The direction followed is not the target's but the whitened residual
``Sigma^-1 (target - mean)``, Sigma being the covariance of random phrases' embeddings: Fisher's
linear discriminant (1936), which discounts the directions into which the tokens not known yet move
the phrase at random. The places need not be filled from left to right: the surest comes first.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.algorithms.inversion.encoder import Ids, TextEncoder
from src.algorithms.inversion.search import Answer, Board, Gradients, Request, Scored

if TYPE_CHECKING:
    from src.algorithms.inversion.moves import Vocabulary

#: A phrase with blanks: the tokens known so far by place, in order of place.
Partial = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class RandomPhrases:
    """Where phrases of random tokens lie, by their length.

    Attributes:
        means: Mean embedding of the phrases of 1, 2, ... tokens (lengths, dim).
        precision: Inverse of their covariance about their length's mean (dim, dim), ridged.
    """

    means: Tensor
    precision: Tensor

    @classmethod
    def encode(
        cls,
        encoder: TextEncoder,
        tokens: Sequence[int],
        longest: int,
        count: int = 128,
        ridge: float = 0.1,
        seed: int = 0,
    ) -> RandomPhrases:
        """Encode ``count`` random phrases of every length up to ``longest``.

        Args:
            encoder: The text tower.
            tokens: The tokens drawn from.
            longest: Longest phrases, in tokens.
            count: Phrases of each length.
            ridge: Added to the covariance's diagonal, as a share of its mean.
            seed: Of the draws.
        """
        rng = random.Random(seed)
        groups = [
            encoder.encode_ids([tuple(rng.choices(tokens, k=n)) for _ in range(count)])
            for n in range(1, longest + 1)
        ]
        means = torch.stack([z.mean(0) for z in groups])
        away = torch.cat([z - z.mean(0) for z in groups])
        covariance = away.T @ away / len(away)
        covariance += ridge * covariance.diagonal().mean() * torch.eye(len(covariance)).to(away)
        return cls(means, torch.linalg.inv(covariance))

    def direction(self, difference: Tensor) -> Tensor:
        """Whiten differences of embeddings (..., dim), and bring them to unit length."""
        return torch.nn.functional.normalize(difference @ self.precision, dim=-1)

    def distance(self, difference: Tensor) -> Tensor:
        """Give the squared Mahalanobis length of differences of embeddings: (..., dim) to (...)."""
        return (difference @ self.precision * difference).sum(-1)

    def lengths(self, target: Tensor) -> list[int]:
        """List the lengths, the likeliest first: that whose mean lies nearest to the target.

        A token more counts as half a nat: where the distances say little, short phrases come first.
        """
        distances = self.distance(target - self.means)
        return [
            n + 1
            for n in (distances + torch.arange(len(distances)).to(distances)).argsort().tolist()
        ]


@dataclass(frozen=True)
class Filling:
    """Settings of the growth.

    Attributes:
        beam: Partial phrases kept.
        width: Tokens tried for each of them, at whatever blanks.
        num_fillings: Random fillings that show a partial phrase's mean and gradients.
        num_trials: Random fillings in which every token is tried.
    """

    beam: int = 4
    width: int = 24
    num_fillings: int = 12
    num_trials: int = 2

    def grow(
        self, board: Board, vocabulary: Vocabulary, length: int, rng: random.Random
    ) -> Generator[Request, Answer, list[Ids]]:
        """Fill ``length`` blanks, one a level.

        Args:
            board: The target's.
            vocabulary: The tokens, and where random phrases of them lie.
            length: Tokens of the phrase.
            rng: The source of randomness.

        Returns:
            The phrases without a blank, not evaluated yet; none where the budget ended before.
        """
        phrases, tokens = vocabulary.random_phrases, vocabulary.tokens
        assert phrases is not None
        weight, first = vocabulary.weight, len(vocabulary.encoder.prefix)

        def put(partial: Partial, filling: Ids) -> Ids:
            known = dict(partial)
            return tuple(known.get(place, token) for place, token in enumerate(filling))

        beam: list[Partial] = [()]
        for level in range(length):
            tried: dict[Partial, list[Ids]] = {}
            for partial in beam:
                fillings = [tuple(rng.choices(tokens, k=length)) for _ in range(self.num_fillings)]
                rows = [put(partial, filling) for filling in fillings]
                if board.left < 4 * len(rows):
                    return []
                board.label(rows, "fill")
                _, z = yield Scored(rows)
                aim = phrases.direction(board.target - z.mean(0))
                answers = yield Gradients(rows, aim)
                slope = torch.stack([g for g, _ in answers]).mean(0)[first : first + length]
                known = dict(partial)
                blanks = [place for place in range(length) if place not in known]
                gains = slope[blanks] @ (weight - vocabulary.mean).T + vocabulary.mask
                # gains: (blanks, vocab)
                best = gains.flatten().topk(min(self.width, gains.numel())).indices.tolist()
                for at in best:
                    place, token = blanks[at // len(weight)], at % len(weight)
                    new = tuple(sorted({**known, place: token}.items()))
                    trials = fillings[: self.num_trials] if level < length - 1 else fillings[:1]
                    tried.setdefault(new, [put(new, filling) for filling in trials])
            if level == length - 1:
                # Nothing is left to chance: the caller's own evaluation orders these.
                return [rows[0] for rows in tried.values()]
            rows = [row for trials in tried.values() for row in trials]
            if board.left < len(rows):
                return []
            board.label(rows, "fill")
            _, z = yield Scored(rows)
            means = z.reshape(len(tried), -1, z.shape[-1]).mean(1)
            nearest = phrases.distance(board.target - means).argsort()[: self.beam].tolist()
            partials = list(tried)
            beam = [partials[k] for k in nearest]
        return []
