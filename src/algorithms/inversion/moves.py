"""Candidates for the next evaluation: insertions, replacements, deletions, and changes of order.

Where a token is wanted, four sources propose it: the trained proposer (if there is one); the
gradient of the cosine by the embedding of a blank put there (HotFlip: Ebrahimi et al. 2018, arXiv
1712.06751), or, on towers that know no blank, its mean over random tokens (SmoothGrad: Smilkov et
al. 2017, arXiv 1706.03825); the regression of tokens on the embeddings that random tokens give
there (inverse regression: Li 1991, JASA 86:316); and the table of one-token embeddings against the
part of the target that is not explained yet. Exact evaluation decides among them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from src.algorithms.inversion.encoder import Ids, TextEncoder
from src.algorithms.inversion.filling import RandomPhrases
from src.algorithms.inversion.proposer import GapProposer, neighbours_of


@dataclass(frozen=True)
class State:
    """A candidate phrase with its cosine and its unit embedding (dim,).

    ``belief`` sums the proposer's log-probabilities of the insertions that made it.
    """

    ids: Ids
    cosine: float
    z: Tensor
    belief: float = 0.0


class Vocabulary:
    """What the moves know about the tokens.

    Args:
        encoder: The text tower.
        table: One-token embeddings (vocab, dim), zero rows for tokens that are not allowed; None
            to do without.
        proposer: The trained proposer of this encoder, if there is one.
        prior: Added log-preference of each token (vocab,), for word lists and known fragments.
        random_phrases: Where random phrases lie: gradients are then whitened, and causal towers
            searched by filling blanks.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        table: Tensor | None = None,
        proposer: GapProposer | None = None,
        prior: Tensor | None = None,
        random_phrases: RandomPhrases | None = None,
    ) -> None:
        size = encoder.embedding.weight.shape[0]
        self.encoder = encoder
        self.table = table
        self.proposer = proposer
        self.frequencies: list[float] = []
        self.random_phrases = random_phrases
        self.allowed = torch.zeros(size, dtype=torch.bool, device=encoder.device)
        self.tokens = encoder.allowed_ids()
        self.allowed[self.tokens] = True
        self.mask = torch.zeros(size, device=encoder.device)
        self.mask[~self.allowed] = -torch.inf
        if prior is not None:
            self.mask = self.mask + prior.to(encoder.device)
        weight = encoder.embedding.weight.detach().float()
        self.weight = weight
        self.mean = weight[self.allowed].mean(0)
        if table is not None:
            known = (table.abs().sum(1) > 0) & self.allowed
            centre = table[known].mean(0)
            self.centred = F.normalize(table - centre, dim=-1)
            self.centred[~known] = 0.0
            self.centre = centre
        if proposer is not None:
            self.features = proposer.token_features()
            self.frequencies = proposer.bias.detach().tolist()
        else:
            direction = F.normalize(weight - self.mean, dim=-1)
            parts = [direction] if table is None else [self.centred, direction]
            self.features = torch.cat(parts, dim=-1)
        self.blank = encoder.blank

    def log_frequency(self, ids: Ids) -> float:
        """Add up the tokens' log-frequencies as the proposer learned them; zero without one."""
        return sum(self.frequencies[t] for t in ids) if self.frequencies else 0.0

    # --------------------------------------------------------------- proposals

    def propose(
        self,
        target: Tensor,
        states: Sequence[State],
        count: int,
        temperature: float = 0.0,
        rng: random.Random | None = None,
    ) -> list[list[tuple[float, Ids]]]:
        """Let the proposer fill the gaps of states: the best ``count`` insertions of each.

        Args:
            target: Unit embedding (dim,).
            states: Partial phrases; an empty one has a zero embedding.
            count: Insertions a state.
            temperature: Scale of Gumbel noise on the log-probabilities, for restarts.
            rng: Its source.

        Returns:
            For every state (log-probability, new ids), best first.
        """
        proposer, features = self.proposer, self.features
        assert proposer is not None
        device = target.device
        which = [k for k, s in enumerate(states) for _ in range(len(s.ids) + 1)]
        place = [g for s in states for g in range(len(s.ids) + 1)]
        beside = [neighbours_of(s.ids, g) for s in states for g in range(len(s.ids) + 1)]
        index = torch.tensor(which, device=device)
        z = torch.stack([s.z for s in states])[index]
        lengths = torch.tensor([len(s.ids) for s in states], device=device)[index]
        with torch.no_grad():
            query, nothing = proposer.queries(
                target.expand(len(which), -1),
                z,
                lengths,
                torch.tensor(beside, device=device),
                torch.tensor(place, device=device),
            )
            logits = query @ features.T + proposer.bias + self.mask
            logits = torch.cat([logits, nothing[:, None]], dim=-1).log_softmax(-1)[:, :-1]
            if temperature and rng is not None:
                noise = torch.Generator(device="cpu").manual_seed(rng.getrandbits(31))
                uniform = torch.rand(logits.shape, generator=noise).clamp(1e-9, 1 - 1e-9)
                logits = logits - temperature * (-uniform.log()).log().to(device)
        out: list[list[tuple[float, Ids]]] = []
        start = 0
        for state in states:
            gaps = len(state.ids) + 1
            block = logits[start : start + gaps]
            start += gaps
            value, flat = block.flatten().topk(min(count, block.numel()))
            rows = []
            for v, at in zip(value.tolist(), flat.tolist(), strict=True):
                gap, token = divmod(at, block.shape[1])
                if v > -1e30:
                    rows.append((v, (*state.ids[:gap], token, *state.ids[gap:])))
            out.append(rows)
        return out

    def gradient_insertions(
        self, state: State, gradients: Sequence[tuple[int, Tensor]], count: int
    ) -> list[tuple[float, Ids]]:
        """Rank insertions by the cosine's slope at a blank in each gap.

        Args:
            state: The phrase without the blank.
            gradients: (gap, gradient (width,) at the blank put there).
            count: Insertions to return.
        """
        grads = torch.stack([g for _, g in gradients])  # (gaps, width)
        origin = self.mean if self.blank is None else self.weight[self.blank]
        scores = grads @ self.weight.T - (grads @ origin)[:, None] + self.mask
        value, flat = scores.flatten().topk(min(count, scores.numel()))
        out = []
        for v, at in zip(value.tolist(), flat.tolist(), strict=True):
            row, token = divmod(at, scores.shape[1])
            gap = gradients[row][0]
            if v > -torch.inf:
                out.append((v, (*state.ids[:gap], token, *state.ids[gap:])))
        return out

    def gradient_replacements(
        self, ids: Ids, gradient: Tensor, count: int
    ) -> list[tuple[float, Ids]]:
        """Rank replacements of one token by the slope (HotFlip).

        Args:
            ids: The phrase.
            gradient: By its token embeddings (len(ids), width).
            count: Replacements to return.
        """
        own = (gradient * self.weight[list(ids)]).sum(-1)
        scores = gradient @ self.weight.T - own[:, None] + self.mask
        value, flat = scores.flatten().topk(min(count, scores.numel()))
        out = []
        for v, at in zip(value.tolist(), flat.tolist(), strict=True):
            place, token = divmod(at, scores.shape[1])
            if token != ids[place] and v > -torch.inf:
                out.append((v, (*ids[:place], token, *ids[place + 1 :])))
        return out

    def steepest_tokens(self, gradient: Tensor, count: int) -> list[int]:
        """List the tokens that a gradient (width,) by the token embedding favours most."""
        return self._best(gradient @ self.weight.T, count)

    def regressed_tokens(
        self, tokens: Sequence[int], z: Tensor, target: Tensor, count: int, ridge: float = 0.3
    ) -> list[int]:
        """List the tokens that belong into a place, judged by random tokens put there.

        Ridge regression of the tokens' features on the embeddings that they give is read at the
        target: ``q = (A - mean A)^T (Y Y^T + lambda I)^-1 Y (target - mean z)`` with
        ``Y = z - mean z``. It needs neither training nor gradients, and holds for this place only.

        Args:
            tokens: The k tokens that were put there.
            z: The phrases' unit embeddings (k, dim).
            target: Unit embedding (dim,).
            count: Tokens to return.
            ridge: Lambda as a share of the mean squared length of ``Y``'s rows.
        """
        features = self.features[list(tokens)]
        y = z - z.mean(0)
        gram = y @ y.T
        gram += ridge * gram.diagonal().mean() * torch.eye(len(y), device=y.device)
        weights = torch.linalg.solve(gram, y @ (target - z.mean(0)))
        return self._best(self.features @ ((features - features.mean(0)).T @ weights), count)

    def relatives(self, token: int, count: int) -> list[int]:
        """List the tokens most like a token: other forms of the word, and words used alike."""
        near = self._best(self.features @ self.features[token], count + 1)
        return [t for t in near if t != token][:count]

    def _best(self, scores: Tensor, count: int) -> list[int]:
        """List the allowed tokens of the highest scores (vocab,)."""
        value, token = (scores + self.mask).topk(min(count, len(scores)))
        return token[value > -torch.inf].tolist()

    def table_tokens(self, target: Tensor, state: State | None, count: int) -> list[int]:
        """List the tokens whose one-token embedding explains most of what is missing."""
        if self.table is None:
            return []
        missing = target - (state.z if state is not None and state.ids else self.centre)
        return self._best(self.centred @ missing, count)


# ------------------------------------------------------------------ changes of order and length


def deletions(ids: Ids) -> list[Ids]:
    """Leave out each token."""
    return [(*ids[:i], *ids[i + 1 :]) for i in range(len(ids))]


def swaps(ids: Ids) -> Iterator[Ids]:
    """Exchange every two tokens, near ones first."""
    n = len(ids)
    for distance in range(1, n):
        for i in range(n - distance):
            x = list(ids)
            x[i], x[i + distance] = x[i + distance], x[i]
            yield tuple(x)


def segment_moves(ids: Ids, longest: int) -> Iterator[Ids]:
    """Put every run of up to ``longest`` tokens at every other place, short runs first."""
    n = len(ids)
    for span in range(1, min(longest, n - 1) + 1):
        for i in range(n - span + 1):
            segment, rest = ids[i : i + span], (*ids[:i], *ids[i + span :])
            for at in range(len(rest) + 1):
                if at != i:
                    yield (*rest[:at], *segment, *rest[at:])


def segment_swaps(ids: Ids, longest: int) -> Iterator[Ids]:
    """Exchange every two runs of up to ``longest`` tokens, of three tokens or more together."""
    n = len(ids)
    for total in range(3, 2 * longest + 1):
        for first in range(max(1, total - longest), min(longest, total - 1) + 1):
            second = total - first
            for i in range(n - total + 1):
                for j in range(i + first, n - second + 1):
                    a, between, b = ids[i : i + first], ids[i + first : j], ids[j : j + second]
                    if between:  # neighbours that change places are a move
                        yield (*ids[:i], *b, *between, *a, *ids[j + second :])
