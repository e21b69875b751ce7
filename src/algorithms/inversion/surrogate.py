"""A model of the encoder near what was evaluated: it finds changes that help only together.

Exact evaluation sees one change at a time. But every phrase evaluated so far tells what its tokens,
its neighbouring pairs and the order of its pairs add to the embedding; ridge regression of the
embeddings on these features predicts phrases several changes away, at next to no cost, and the
likeliest of them are worth an evaluation. That is model-based optimisation (Jones, Schonlau and
Welch 1998, J. Global Optimization 13:455) with a linear model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from src.algorithms.inversion import moves
from src.algorithms.inversion.encoder import Ids

#: Features share this many slots; two of one slot are a little noise.
NUM_SLOTS = 1 << 15


def feature_slots(ids: Tensor) -> Tensor:
    """Hash the features of phrases of one length: tokens, neighbours (ends included), orders.

    Args:
        ids: Tokens (m, n).

    Returns:
        Slots (m, features).
    """
    m, n = ids.shape
    end = torch.full((m, 1), -1)
    first = torch.cat([end, ids], dim=1)
    second = torch.cat([ids, end], dim=1)
    before, after = torch.triu_indices(n, n, offset=1)
    parts = [ids * 7919, first * 104_729 + second * 1_299_709 + 1]
    parts.append(ids[:, before] * 15_485_863 + ids[:, after] * 179_424_673 + 2)
    return torch.cat(parts, dim=1) % NUM_SLOTS


class Surrogate:
    """Ridge regression of embeddings on the features of phrases.

    Args:
        phrases: What was evaluated: at least two phrases.
        z: Their embeddings (k, dim).
        ridge: Lambda as a share of the mean squared length of a phrase's features.
    """

    def __init__(self, phrases: Sequence[Ids], z: Tensor, ridge: float = 0.03) -> None:
        used = torch.zeros(len(phrases), NUM_SLOTS)
        for rows, slots in _by_length(phrases):
            used[torch.tensor(rows)[:, None], slots] += 1
        columns = used.any(dim=0)
        self.column = torch.cumsum(columns, 0) * columns  # 0: a feature never seen
        x = used[:, columns]
        self.mean = z.mean(0).cpu()
        gram = x @ x.T
        gram += ridge * gram.diagonal().mean() * torch.eye(len(x))
        weight = x.T @ torch.linalg.solve(gram, z.cpu().float() - self.mean)
        self.weight = torch.cat([torch.zeros(1, weight.shape[1]), weight])

    def predict(self, phrases: Sequence[Ids]) -> Tensor:
        """Predict the unit embeddings of phrases: (k, dim)."""
        out = torch.empty(len(phrases), self.weight.shape[1])
        for rows, slots in _by_length(phrases):
            out[rows] = F.embedding_bag(self.column[slots], self.weight, mode="sum")
        return F.normalize(out + self.mean, dim=-1)

    def suggest(
        self,
        starts: Sequence[Ids],
        tokens: Sequence[int],
        target: Tensor,
        known: Iterable[Ids],
        count: int,
        longest: int,
        steps: int = 3,
        beam: int = 6,
    ) -> list[Ids]:
        """Search under the model, from some phrases, for others that nobody evaluated yet.

        Args:
            starts: Phrases to begin with.
            tokens: Tokens that may come in.
            target: Unit embedding (dim,).
            known: Phrases that are left out of the answer.
            count: Phrases to return.
            longest: Most tokens of a phrase.
            steps: Changes of a phrase.
            beam: Phrases that go on after every change.

        Returns:
            The likeliest, best first.
        """
        known, target = set(known), target.cpu()
        values: dict[Ids, float] = {}
        level = list(starts)
        for _ in range(steps):
            fresh = dict.fromkeys(n for ids in level for n in _neighbours(ids, tokens))
            fresh = [ids for ids in fresh if ids not in values and 0 < len(ids) <= longest]
            if not fresh:
                break
            values |= zip(fresh, (self.predict(fresh) @ target).tolist(), strict=True)
            level = sorted(fresh, key=lambda ids: -values[ids])[:beam]
        unknown = [ids for ids in values if ids not in known]
        return sorted(unknown, key=lambda ids: -values[ids])[:count]


def _neighbours(ids: Ids, tokens: Sequence[int]) -> Iterable[Ids]:
    yield from moves.segment_moves(ids, 3)
    yield from moves.swaps(ids)
    yield from moves.deletions(ids)
    for token in tokens:
        for at in range(len(ids) + 1):
            yield (*ids[:at], token, *ids[at:])
            if at < len(ids):
                yield (*ids[:at], token, *ids[at + 1 :])


def _by_length(phrases: Sequence[Ids]) -> Iterable[tuple[list[int], Tensor]]:
    """Group phrases by length: (their positions, their features' slots)."""
    groups: dict[int, list[int]] = {}
    for k, ids in enumerate(phrases):
        groups.setdefault(len(ids), []).append(k)
    for rows in groups.values():
        yield rows, feature_slots(torch.tensor([phrases[k] for k in rows]))
