import random

import torch
from hypothesis import given
from hypothesis import strategies as st

from src.algorithms.inversion.proposer import (
    GapProposer,
    draw_partial,
    missing_by_gap,
    neighbours_of,
    proposal_loss,
    training_gaps,
)

PHRASES = st.lists(st.integers(0, 40), min_size=2, max_size=12).map(tuple)


@given(PHRASES, st.integers(0, 10**6))
def test_a_part_and_what_is_missing_make_the_whole(ids: tuple[int, ...], seed: int) -> None:
    part, kept = draw_partial(ids, random.Random(seed), [99])
    gaps = missing_by_gap(ids, kept)
    assert len(gaps) == len(part) + 1
    assert sum(t == 99 for t in part) == sum(k == -1 for k in kept) <= 1
    if -1 not in kept:
        rebuilt = list(gaps[0])
        for token, gap in zip(part, gaps[1:], strict=True):
            rebuilt += [token, *gap]
        assert tuple(rebuilt) == ids
    else:  # what the wrong token stands for is missing on both sides of it
        at = kept.index(-1)
        assert gaps[at] == gaps[at + 1] != []


@given(PHRASES, st.integers(0, 10**6))
def test_training_examples_are_true(ids: tuple[int, ...], seed: int) -> None:
    rng = random.Random(seed)
    part, kept = draw_partial(ids, rng, [99])
    gaps = missing_by_gap(ids, kept)
    for beside, gap, answer in training_gaps(ids, part, kept, rng):
        assert beside == neighbours_of(part, gap)
        assert answer in gaps[gap] if answer >= 0 else not gaps[gap]


def test_neighbours_end_with_minus_one() -> None:
    assert neighbours_of((5, 6, 7), 0) == (-1, -1, 5, 6)
    assert neighbours_of((5, 6, 7), 2) == (5, 6, 7, -1)
    assert neighbours_of((), 0) == (-1, -1, -1, -1)


def test_it_learns_which_token_is_missing() -> None:
    """On a toy encoder (the mean of one-hot rows) the missing token is what is left over."""
    torch.manual_seed(0)
    vocab = 12
    table = torch.nn.functional.normalize(torch.randn(vocab, 16), dim=-1)
    proposer = GapProposer(table, torch.randn(vocab, 8), hidden_dim=32, neighbour_dim=4)
    optimizer = torch.optim.Adam(proposer.parameters(), lr=1e-2)
    answers = torch.randint(0, vocab, (256,))
    known = torch.randint(0, vocab, (256,))
    target = torch.nn.functional.normalize(table[answers] + table[known], dim=-1)
    beside = torch.stack([torch.full_like(known, -1), known, *[torch.full_like(known, -1)] * 2], 1)
    ones = torch.ones(256)
    every, rate = torch.arange(vocab), torch.zeros(vocab)
    losses = []
    for _ in range(150):
        queries, nothing = proposer.queries(target, table[known], ones, beside, ones)
        loss = proposal_loss(proposer, queries, nothing, answers, every, rate)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    guesses = (queries @ proposer.token_features().T + proposer.bias).argmax(-1)
    assert (guesses == answers).float().mean() > 0.9


def test_frozen_parts_are_not_saved() -> None:
    proposer = GapProposer(torch.ones(5, 4), torch.randn(5, 3), 8, 2)
    assert not {"table", "embeddings"} & set(proposer.state_dict())
