"""Published discrete searches to compare with; both must be told the number of tokens.

PEZ: Wen et al., "Hard Prompts Made Easy" (2023, arXiv 2302.03668), Algorithm 1: gradient descent
on soft embeddings, the gradient taken at their projection to the nearest tokens.

GCG: Zou et al., "Universal and Transferable Adversarial Attacks on Aligned Language Models"
(2023, arXiv 2307.15043), Algorithm 1: single replacements, sampled from the steepest ones, the
best of a batch kept, with the filter for texts that tokenise differently.

Left out on purpose: everything that would make them a different method.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from src.algorithms.inversion.moves import Vocabulary
from src.algorithms.inversion.search import Board, Gradients, Scored, Searcher


def _length(num_tokens: int | list[int], board: Board) -> int:
    return num_tokens if isinstance(num_tokens, int) else num_tokens[board.index]


@dataclass(frozen=True)
class PEZ:
    """Hard prompts made easy.

    Attributes:
        vocabulary: The tokens.
        num_tokens: Length of every text, or a list with each target's.
        learning_rate: Of AdamW; the paper's 0.1.
        weight_decay: The paper's 0.1.
        seed: Mixed with the target's own seed.
    """

    vocabulary: Vocabulary
    num_tokens: int | list[int] = 8
    learning_rate: float = 0.1
    weight_decay: float = 0.1
    seed: int = 0

    def __call__(self, board: Board) -> Searcher:
        v = self.vocabulary
        length = _length(self.num_tokens, board)
        allowed = v.allowed.nonzero().flatten()
        table = F.normalize(v.weight[allowed], dim=-1)
        rng = random.Random(board.seed ^ self.seed)
        start = [int(allowed[rng.randrange(len(allowed))]) for _ in range(length)]
        soft = v.weight[start].clone().requires_grad_(True)
        optimizer = torch.optim.AdamW([soft], lr=self.learning_rate, weight_decay=self.weight_decay)
        first = len(v.encoder.prefix)
        while board.left >= 3:
            nearest = (F.normalize(soft.detach(), dim=-1) @ table.T).argmax(dim=-1)
            ids = tuple(allowed[nearest].tolist())
            ((gradient, z),) = yield Gradients([ids])
            board.note(ids, float(z @ board.target), "pez")
            soft.grad = -gradient[first : first + length]
            optimizer.step()


@dataclass(frozen=True)
class GCG:
    """Greedy coordinate gradient.

    Attributes:
        vocabulary: The tokens.
        num_tokens: Length of every text, or a list with each target's.
        batch: Replacements evaluated a step.
        top_k: Steepest tokens a position from which they are drawn.
        seed: Mixed with the target's own seed.
    """

    vocabulary: Vocabulary
    num_tokens: int | list[int] = 8
    batch: int = 256
    top_k: int = 256
    seed: int = 0

    def __call__(self, board: Board) -> Searcher:
        v = self.vocabulary
        length = _length(self.num_tokens, board)
        allowed = v.allowed.nonzero().flatten().tolist()
        rng = random.Random(board.seed ^ self.seed)
        ids = tuple(rng.choice(allowed) for _ in range(length))
        first = len(v.encoder.prefix)
        while board.left > 3:
            ((gradient, _),) = yield Gradients([ids])
            slopes = gradient[first : first + length] @ v.weight.T + v.mask
            steepest = slopes.topk(min(self.top_k, len(allowed)), dim=-1).indices.tolist()
            batch = []
            for _ in range(self.batch):
                at = rng.randrange(length)
                new = (*ids[:at], rng.choice(steepest[at]), *ids[at + 1 :])
                if new not in batch and v.encoder.canonical(new) == new:
                    batch.append(new)
            batch = batch[: board.left]
            if not batch:
                ids = tuple(rng.choice(allowed) for _ in range(length))
                continue
            values, _ = yield Scored(batch)
            ids = batch[max(range(len(batch)), key=lambda k: values[k])]
