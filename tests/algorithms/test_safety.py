import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from src.algorithms.safety import SafetyFilter, error_rates


@given(st.integers(0, 2**31 - 1), st.integers(1, 6), st.integers(1, 5))
def test_decisions_are_the_definition(seed: int, num_images: int, num_concepts: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(num_images, 7, generator=generator) * 5
    concepts = torch.randn(num_concepts, 7, generator=generator)
    thresholds = torch.rand(num_concepts, generator=generator) * 0.8 - 0.4
    for image, decision in zip(images, SafetyFilter(concepts, thresholds)(images), strict=True):
        cosines = [float(F.cosine_similarity(image, c, dim=0)) for c in concepts]
        assert decision.scores == pytest.approx(cosines, abs=1e-5)
        over = {k for k, c in enumerate(cosines) if c > float(thresholds[k])}
        near = {k for k, c in enumerate(cosines) if abs(c - float(thresholds[k])) < 1e-5}
        assert set(decision.concepts) ^ over <= near
        assert decision.blocked == bool(decision.concepts)


def test_special_care_lowers_the_thresholds() -> None:
    concepts, special = torch.eye(3)[:1], torch.eye(3)[1:2]
    image = torch.tensor([[0.2, 0.9, 0.1]])
    score = float(F.normalize(image, dim=-1)[0, 0])
    plain = SafetyFilter(concepts, score + 0.005)
    careful = SafetyFilter(concepts, score + 0.005, special, torch.tensor([0.5]))
    assert not plain(image)[0].blocked
    assert careful(image)[0].blocked


def test_error_rates_count() -> None:
    rates = error_rates(torch.tensor([0.6, 0.7, 0.8, 0.9]), torch.tensor([0.1, 0.2, 0.65, 0.3]))
    assert rates.false_alarm[0] == 1
    assert rates.miss[0] == 0
    assert rates.false_alarm[-1] == 0
    assert rates.miss[-1] == 1
    threshold, miss = rates.at_false_alarm(0.0)
    assert 0.65 <= threshold < 0.66
    assert miss == 0.25
    assert rates.equal_error()[1] == pytest.approx(0.25)


def test_what_cannot_be_a_filter_is_refused() -> None:
    with pytest.raises(ValueError, match="2 embeddings and"):
        SafetyFilter(torch.eye(2), [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        SafetyFilter(torch.eye(2), 1.5)
    with pytest.raises(ValueError, match="together"):
        SafetyFilter(torch.eye(2), 0.5, special=torch.eye(2))
    with pytest.raises(ValueError, match="at least one"):
        error_rates(torch.empty(0), torch.ones(2))
