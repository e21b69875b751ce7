import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src.algorithms.inversion.encoder import TextEncoder
from src.algorithms.inversion.filling import Filling, RandomPhrases
from src.algorithms.inversion.hybrid import Hybrid
from src.algorithms.inversion.moves import Vocabulary
from src.algorithms.inversion.search import Board, Gradients, Scored, invert

Make = Callable[..., TextEncoder]
PLANTED = ["red cat", "the old man", "a small house"]


@pytest.fixture
def encoder(make_encoder: Make) -> TextEncoder:
    return make_encoder("causal")


def vocabulary(encoder: TextEncoder, longest: int = 8) -> Vocabulary:
    phrases = RandomPhrases.encode(encoder, encoder.allowed_ids(), longest)
    return Vocabulary(encoder, random_phrases=phrases)


def fill(encoder: TextEncoder, text: str, settings: Filling, budget: int = 5000) -> list[str]:
    """Fill as many blanks as a text has tokens; answer the requests as the search would."""
    board = Board(encoder.encode_text([text])[0], budget)
    length = len(encoder.tokenize(text))
    growth = settings.grow(board, vocabulary(encoder), length, random.Random(0))
    answer: Any = None
    while True:
        try:
            request = growth.send(answer)
        except StopIteration as end:
            return [encoder.decode(ids) for ids in end.value]
        if isinstance(request, Scored):
            board.evaluations += len(request.ids)
            z = encoder.encode_ids(request.ids)
            answer = ((z @ board.target).tolist(), z)
        else:
            board.evaluations += 3 * len(request.rows)
            assert request.aim is not None
            aim = request.aim.expand(len(request.rows), -1)
            answer = list(zip(*encoder.gradients(encoder.rows(request.rows), aim), strict=True))


def test_whitening_is_that_of_the_definition(encoder: TextEncoder) -> None:
    tokens = encoder.allowed_ids()
    phrases = RandomPhrases.encode(encoder, tokens, longest=3, count=40, ridge=0.2, seed=4)
    rng = random.Random(4)
    groups = [
        encoder.encode_ids([tuple(rng.choices(tokens, k=n)) for _ in range(40)]).double().numpy()
        for n in (1, 2, 3)
    ]
    away = np.concatenate([z - z.mean(0) for z in groups])
    covariance = away.T @ away / 120
    covariance += 0.2 * covariance.diagonal().mean() * np.eye(encoder.dim)
    difference = torch.randn(5, encoder.dim, generator=torch.manual_seed(0))
    d = difference.double().numpy()
    expected = np.linalg.solve(covariance, d.T).T
    direction = phrases.direction(difference).numpy()
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(direction, unit, atol=1e-3)
    np.testing.assert_allclose(phrases.distance(difference), (expected * d).sum(1), rtol=1e-3)
    for mean, z in zip(phrases.means, groups, strict=True):
        np.testing.assert_allclose(mean, z.mean(0), atol=1e-5)


def test_the_likeliest_length_is_the_nearest(encoder: TextEncoder) -> None:
    means = F.normalize(torch.randn(4, 6, generator=torch.manual_seed(1)), dim=-1)
    phrases = RandomPhrases(means, 100 * torch.eye(6))
    assert phrases.lengths(means[2] + 0.01)[0] == 3
    assert sorted(phrases.lengths(means[0])) == [1, 2, 3, 4]
    undecided = RandomPhrases(means, 1e-6 * torch.eye(6))
    assert undecided.lengths(means[2]) == [1, 2, 3, 4], "short phrases come first"


@pytest.mark.parametrize("text", PLANTED)
def test_a_planted_phrase_is_filled_in(text: str, encoder: TextEncoder) -> None:
    assert text in fill(encoder, text, Filling(beam=6, num_trials=8))


def test_a_budget_that_ends_gives_nothing(encoder: TextEncoder) -> None:
    assert fill(encoder, "the old man", Filling(), budget=40) == []
    assert fill(encoder, "the old man", Filling(), budget=60) == []


def test_gradients_follow_the_aim(encoder: TextEncoder) -> None:
    """A search that asks for its own direction gets that direction's gradient, row by row."""
    rows = [encoder.tokenize("red cat"), encoder.tokenize("old dog")]
    aim = F.normalize(torch.randn(2, encoder.dim, generator=torch.manual_seed(0)), dim=-1)
    got: list[Any] = []

    def search(board: Board) -> Any:
        for request in (Gradients(rows, aim), Gradients(rows, aim[0]), Gradients(rows)):
            got.append((yield request))

    target = encoder.encode_text(["a small house"])
    invert(encoder, target, search, budget=100)
    for answer, aims in zip(got, (aim, aim[:1].expand(2, -1), target.expand(2, -1)), strict=True):
        expected, _ = encoder.gradients(encoder.rows(rows), aims)
        torch.testing.assert_close(torch.stack([g for g, _ in answer]), expected)


def test_the_search_begins_with_it_on_causal_towers(encoder: TextEncoder) -> None:
    targets = encoder.encode_text(PLANTED)
    method = Hybrid(vocabulary(encoder))
    seen = 0

    def count(module: torch.nn.Module, args: tuple[torch.Tensor, ...], out: object) -> None:
        nonlocal seen
        seen += len(args[0]) * (3 if torch.is_grad_enabled() else 1)

    alone = []
    for target in targets:
        seen = 0
        handle = encoder.embedding.register_forward_hook(count)
        alone += invert(encoder, target[None], method, budget=6000)
        handle.remove()
        assert alone[-1].evaluations == seen
    assert [r.text for r in alone] == PLANTED
    assert "fill" in {r.found_by for r in alone}
    together = invert(encoder, targets.flip(0), method, budget=6000, share=False)
    assert [(r.text, r.evaluations) for r in together[::-1]] == [
        (r.text, r.evaluations) for r in alone
    ]
