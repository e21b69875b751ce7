"""The surrogate: it learns an additive encoder from examples, and looks several changes ahead."""

import random

import pytest
import torch
import torch.nn.functional as F

from src.algorithms.inversion.surrogate import NUM_SLOTS, Surrogate, feature_slots

DIM, VOCAB = 48, 40


def encode(ids: tuple[int, ...]) -> torch.Tensor:
    """Add up a vector for every token and one for every pair in order; unit length."""
    table = torch.randn(VOCAB, DIM, generator=torch.manual_seed(0))
    pairs = torch.randn(VOCAB, VOCAB, DIM, generator=torch.manual_seed(1))
    z = table[list(ids)].sum(0)
    for i, a in enumerate(ids):
        for b in ids[i + 1 :]:
            z = z + 0.3 * pairs[a, b]
    return F.normalize(z, dim=0)


def near(phrase: tuple[int, ...], tokens: list[int], count: int) -> list[tuple[int, ...]]:
    """Draw phrases that differ from one in a few places."""
    rng = random.Random(0)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        ids = list(phrase)
        for _ in range(rng.randint(2, 4)):
            if rng.random() < 0.5:
                ids[rng.randrange(len(ids))] = rng.choice(tokens)
            else:
                rng.shuffle(ids)
        if tuple(ids) != phrase:
            found[tuple(ids)] = None
    return list(found)


def test_features_tell_order_neighbours_and_tokens_apart() -> None:
    slots = feature_slots(torch.tensor([[3, 5, 7], [5, 3, 7], [3, 5, 8]]))
    assert slots.shape == (3, 3 + 4 + 3)
    assert int(slots.min()) >= 0
    assert int(slots.max()) < NUM_SLOTS
    first, swapped, other = (set(row.tolist()) for row in slots)
    assert first != swapped
    assert first - swapped, "order is a feature"
    assert len(first & other) > len(first & swapped) - 3
    assert first - other


def test_it_predicts_phrases_that_were_not_evaluated() -> None:
    tokens = [1, 2, 3, 4, 5, 6]
    phrases = near((1, 2, 3, 4, 5), tokens, 400)
    z = torch.stack([encode(ids) for ids in phrases])
    surrogate = Surrogate(phrases[:300], z[:300])
    predicted = surrogate.predict(phrases[300:])
    torch.testing.assert_close(predicted.norm(dim=1), torch.ones(100))
    right = (predicted * z[300:]).sum(1)
    constant = (F.normalize(z[:300].mean(0), dim=0) * z[300:]).sum(1)
    assert right.mean() > 0.9
    assert right.mean() > constant.mean() + 0.1


@pytest.mark.parametrize("longest", [5, 7])
def test_it_suggests_a_phrase_several_changes_away(longest: int) -> None:
    goal, tokens = (1, 2, 3, 4, 5), [1, 2, 3, 4, 5, 6]
    phrases = near(goal, tokens, 400)
    z = torch.stack([encode(ids) for ids in phrases])
    start = (2, 1, 4, 3, 6)  # two exchanges and another token
    found = Surrogate(phrases, z).suggest([start], tokens, encode(goal), phrases, 48, longest)
    assert goal in found
    assert len(found) <= 48
    assert not set(found) & set(phrases), "what is known is not suggested again"
    assert all(0 < len(ids) <= longest for ids in found)
