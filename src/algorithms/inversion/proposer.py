"""A trained guess at what is missing: which token belongs into which gap of a partial phrase.

The search grows a phrase token by token. At every gap of a partial phrase the proposer reads the
target z, the partial phrase's own embedding e and the tokens beside the gap, and scores the whole
vocabulary, "nothing is missing here" included. A token is scored through two frozen descriptions
of it (its one-token phrase's embedding, its row of the encoder's embedding table), so tokens that
no training phrase holds are scored sensibly as well.

The idea of correcting a hypothesis from the difference of embeddings is that of Morris et al.,
"Text Embeddings Reveal (Almost) As Much As Text" (2023, arXiv 2310.06816); scoring insertions at
all gaps is that of Stern et al., "Insertion Transformer" (2019, arXiv 1902.03249). Left out: a
decoder that writes the phrase by itself. Exact evaluation does the rest.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Ids = tuple[int, ...]

#: Neighbours of a gap that are read: two to its left, two to its right.
NUM_NEIGHBOURS = 4


class GapProposer(nn.Module):
    """Score every (gap, token) insertion: ``logit = q_T . T_t + q_E . E_t + b_t``.

    Args:
        table: One-token embeddings (vocab, dim); rows of tokens that are not allowed are zero.
        token_embeddings: The encoder's input embeddings (vocab, width).
        hidden_dim: Width of the two hidden layers.
        neighbour_dim: Width to which each neighbour's embedding is projected.

    Note:
        ``table`` and ``token_embeddings`` come from the encoder and are not saved.
    """

    table: Tensor
    embeddings: Tensor

    def __init__(
        self,
        table: Tensor,
        token_embeddings: Tensor,
        hidden_dim: int = 896,
        neighbour_dim: int = 128,
    ) -> None:
        super().__init__()
        dim, width = table.shape[1], token_embeddings.shape[1]
        vocab = table.shape[0]
        known = table.abs().sum(1, keepdim=True) > 0
        mean = table.sum(0) / known.sum()
        self.register_buffer("table", F.normalize(table - mean, dim=-1) * known, persistent=False)
        centred = token_embeddings - token_embeddings.mean(0)
        self.register_buffer("embeddings", F.normalize(centred, dim=-1), persistent=False)
        self.read_state = nn.Linear(3 * dim + 3, hidden_dim)
        self.read_neighbour = nn.Linear(width, neighbour_dim, bias=False)
        self.read_gap = nn.Linear(NUM_NEIGHBOURS * (neighbour_dim + 1) + 1, hidden_dim, bias=False)
        self.hidden = nn.Linear(hidden_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.query = nn.Linear(hidden_dim, dim + width)
        self.skip = nn.Linear(2 * dim, dim + width, bias=False)
        self.nothing = nn.Linear(hidden_dim, 1)
        self.bias = nn.Parameter(torch.zeros(vocab))
        self.scale = nn.Parameter(torch.tensor(8.0))

    def queries(
        self, target: Tensor, partial: Tensor, length: Tensor, neighbours: Tensor, place: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute one query a gap.

        Args:
            target: Unit target embeddings (n, dim).
            partial: Unit embeddings of the partial phrases (n, dim); zero for an empty phrase.
            length: Tokens in the partial phrase (n,).
            neighbours: Ids beside the gap (n, 4): two left, two right; -1 beyond the ends.
            place: Index of the gap (n,), 0 is before the first token.

        Returns:
            Queries (n, dim + width) and the logit of "nothing is missing here" (n,).
        """
        count = length.to(target.dtype)[:, None]
        difference = target - partial
        state = torch.cat(
            [
                target,
                partial,
                difference,
                (count == 0).to(target.dtype),
                count / 16,
                difference.norm(dim=-1, keepdim=True),
            ],
            dim=-1,
        )
        inside = (neighbours >= 0).to(target.dtype)  # (n, 4)
        beside = self.read_neighbour(self.embeddings[neighbours.clamp(min=0)])
        beside = beside * inside[..., None]
        gap = torch.cat([beside.flatten(1), inside, place.to(target.dtype)[:, None] / 16], dim=-1)
        h = F.gelu(self.read_state(state) + self.read_gap(gap))
        h = self.norm(h + F.gelu(self.hidden(h)))
        query = self.query(h) + self.skip(torch.cat([target, difference], dim=-1))
        return query * self.scale, self.nothing(h).squeeze(-1)

    def token_features(self, ids: Tensor | None = None) -> Tensor:
        """Give what queries are multiplied with: (k, dim + width), of all tokens if None."""
        if ids is None:
            return torch.cat([self.table, self.embeddings], dim=-1)
        return torch.cat([self.table[ids], self.embeddings[ids]], dim=-1)


def neighbours_of(ids: Sequence[int], gap: int) -> tuple[int, int, int, int]:
    """Give the two ids left and the two right of a gap, -1 where there is none."""
    n = len(ids)
    return (
        ids[gap - 2] if gap >= 2 else -1,
        ids[gap - 1] if gap >= 1 else -1,
        ids[gap] if gap < n else -1,
        ids[gap + 1] if gap + 1 < n else -1,
    )


def draw_partial(ids: Ids, rng: random.Random, noise: Sequence[int]) -> tuple[Ids, Ids]:
    """Draw a partial phrase: a random subset of the tokens in order, sometimes with a wrong one.

    Half of the time any number of tokens is missing, else at most four are.

    Args:
        ids: The whole phrase, two tokens or more.
        rng: The source of randomness.
        noise: Tokens from which a wrong one is drawn; a fifth of the partial phrases gets one.

    Returns:
        The partial phrase, and for each of its tokens the position it has in the whole phrase, -1
        for the wrong one.
    """
    n = len(ids)
    low = 1 if rng.random() < 0.5 else max(1, n - 4)
    kept = sorted(rng.sample(range(n), rng.randint(low, n - 1)))
    part = [ids[i] for i in kept]
    if rng.random() < 0.2:
        at = rng.randrange(len(kept))
        part[at], kept[at] = rng.choice(noise), -1
    return tuple(part), tuple(kept)


def missing_by_gap(ids: Ids, kept: Sequence[int]) -> list[list[int]]:
    """List, for every gap of a partial phrase, the tokens that are missing there.

    Args:
        ids: The whole phrase.
        kept: Position of each kept token in it, -1 for a wrong token. What a wrong token stands
            for is missing on both sides of it.

    Returns:
        ``len(kept) + 1`` lists of ids.
    """
    ends = [-1, *kept, len(ids)]
    gaps: list[list[int]] = []
    for left in range(len(ends) - 1):
        low = max(ends[: left + 1])
        high = next(e for e in ends[left + 1 :] if e >= 0)
        gaps.append(list(ids[low + 1 : high]))
    return gaps


def training_gaps(
    ids: Ids, part: Ids, kept: Sequence[int], rng: random.Random, most: int = 4
) -> list[tuple[tuple[int, int, int, int], int, int]]:
    """Turn one partial phrase into training examples, at most ``most`` of its gaps.

    Returns:
        Triples (neighbours, gap, missing id); the id is -1 where nothing is missing, and else
        one of the missing tokens, drawn uniformly.
    """
    gaps = list(enumerate(missing_by_gap(ids, kept)))
    open_gaps = [g for g in gaps if g[1]]
    shut_gaps = [g for g in gaps if not g[1]]
    rng.shuffle(open_gaps)
    chosen = open_gaps[: most - 1] + rng.sample(shut_gaps, min(1, len(shut_gaps)))
    return [
        (neighbours_of(part, at), at, rng.choice(missing) if missing else -1)
        for at, missing in chosen
    ]


def proposal_loss(
    proposer: GapProposer,
    queries: Tensor,
    nothing: Tensor,
    answers: Tensor,
    negatives: Tensor,
    log_rate: Tensor,
) -> Tensor:
    """Compute the cross-entropy of the missing token under a sampled softmax.

    The logits of sampled tokens are corrected by the log of their expected count, so the model
    learns the full softmax (Bengio & Senecal 2008; as in word2vec's successors).

    Args:
        proposer: The model.
        queries: Shape (n, dim + width).
        nothing: Logit of "nothing is missing" (n,).
        answers: Missing ids (n,), -1 for "nothing".
        negatives: Sampled ids (m,).
        log_rate: Log of each token's expected count among the sampled (vocab,).

    Returns:
        The mean loss, a scalar.
    """
    is_token = answers >= 0
    safe = answers.clamp(min=0)
    features = proposer.token_features(negatives)
    sampled = queries @ features.T + proposer.bias[negatives] - log_rate[negatives]  # (n, m)
    sampled = sampled.masked_fill(negatives[None] == safe[:, None], -torch.inf)
    own = (queries * proposer.token_features(safe)).sum(-1) + proposer.bias[safe]
    own = torch.where(is_token, own, torch.full_like(own, -torch.inf))
    logits = torch.cat([own[:, None], nothing[:, None], sampled], dim=-1)
    return F.cross_entropy(logits, (~is_token).long())
