import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.algorithms.watermark import likelihood
from src.algorithms.watermark.green_lists import KeyedBlocks
from src.algorithms.watermark.likelihood import (
    BROKEN_RATES,
    EDIT_RATES,
    EDIT_WEIGHTS,
    TokenStatistics,
    model_logits,
    scheme_log_likelihoods,
    tilted_log_probs,
    token_statistics,
)
from src.algorithms.watermark.schemes import FORBIDDEN, SCHEMES

V = 48


def example(num=12, seed=0, temperature=1.0, ids=None, width=1):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, V, generator=random) * 2
    everything = torch.randint(0, V, (num + width,), generator=random)
    if ids is not None:
        everything[width:] = ids
    contexts = everything.unfold(0, width, 1)[:num]
    lists = KeyedBlocks(V, 0.5, 3, width)
    with_e = torch.zeros(V, dtype=torch.bool)
    with_e[: V // 3] = True
    unusable = torch.zeros(V, dtype=torch.bool)
    unusable[-4:] = True
    everything.clamp_(max=V - 5)
    contexts = everything.unfold(0, width, 1)[:num]
    args = (logits, everything[width:], contexts, lists, with_e, unusable, temperature)
    return args, token_statistics(*args)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 8))
def test_the_four_likelihoods_sum_over_the_vocabulary_to_one(seed, bias):
    logits = torch.randn(3, V, generator=torch.Generator().manual_seed(seed)) * 3
    green = KeyedBlocks(V, 0.5, seed).rows(torch.arange(3)[:, None])
    no_e = torch.zeros(V, dtype=torch.bool)
    no_e[::3] = True
    for favoured, penalty in ((green, 0.0), (no_e, FORBIDDEN), (green, FORBIDDEN), (green, bias)):
        total = tilted_log_probs(logits.log_softmax(-1), favoured, penalty).exp().sum(dim=-1)
        torch.testing.assert_close(total, torch.ones(3))


@pytest.mark.parametrize("edit_rate", [None, 0.0, 0.2])
def test_likelihoods_of_every_next_token_sum_to_one(edit_rate):
    # the model of a whole text of one token, edits included, is a distribution over tokens
    totals = np.zeros(len(SCHEMES))
    for token in range(V - 4):
        _, statistics = example(1, ids=torch.tensor([token]))
        totals += np.exp(scheme_log_likelihoods(statistics, 2.0, V - 4, edit_rate))
    np.testing.assert_allclose(totals, 1.0, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_without_edits_they_are_the_tilted_distributions(temperature):
    (logits, ids, contexts, lists, with_e, unusable, _), statistics = example(
        temperature=temperature
    )
    logits = logits.masked_fill(unusable, -torch.inf)
    green = lists.rows(contexts)
    rows = torch.arange(len(ids))
    expected = []
    for favoured, penalty in (
        (green, 0.0),
        ((~with_e).expand(len(ids), -1), FORBIDDEN),
        (green, FORBIDDEN),
        (green, 2.0),
    ):
        marked = (logits.double() - penalty * ~favoured) / temperature
        expected.append(float(marked.log_softmax(-1)[rows, ids].sum()))
    found = scheme_log_likelihoods(statistics, 2.0, V, 0.0, temperature)
    np.testing.assert_allclose(found[[0, 3]], np.array(expected)[[0, 3]], rtol=1e-4)
    # a forbidden token costs a fixed price here, not the exact one: a thousand pairs break
    assert (found[[1, 2]] < found[0]).all()
    assert (np.array(expected)[[1, 2]] < -1e3).all()


def synthetic(scheme, num=100, seed=0, edits=0.0, bias=2.0):
    """Statistics of a text that is drawn from its scheme."""
    random = np.random.default_rng(seed)
    green_mass = random.beta(1.5, 1.5, num)
    no_e_mass = random.beta(3, 3, num)
    share = {
        "none": green_mass,
        "no_e": green_mass,
        "hard": np.ones(num),
        "soft": green_mass / (green_mass + np.exp(-bias) * (1 - green_mass)),
    }[scheme]
    is_green = random.uniform(size=num) < share
    has_e = (random.uniform(size=num) > no_e_mass) & (scheme != "no_e")
    log_prob = np.log(random.beta(1, 4, num) + 1e-4)
    edited = random.uniform(size=num) < edits
    broken = edited | np.roll(edited, 1)
    is_green = np.where(broken, random.uniform(size=num) < 0.5, is_green)
    has_e = np.where(edited, random.uniform(size=num) < 0.5, has_e)
    log_prob = np.where(edited, -14.0, log_prob)
    return TokenStatistics(
        log_prob, np.log(green_mass), np.log1p(-green_mass), np.log(no_e_mass), is_green, has_e
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("edits", [0.0, 0.2])
@pytest.mark.parametrize("bias", [2.0, None])
def test_texts_of_each_scheme_are_attributed_to_it(scheme, edits, bias):
    labels = [
        int(scheme_log_likelihoods(synthetic(scheme, seed=s, edits=edits), bias, 49152).argmax())
        for s in range(12)
    ]
    # edits, and a bias that may be as small as 0.5, may each take one of twelve
    allowed = (edits > 0) + (bias is None)
    assert sum(SCHEMES[label] == scheme for label in labels) >= 12 - allowed


def test_a_few_red_tokens_do_not_clear_a_hard_text():
    statistics = synthetic("hard")
    statistics.is_green[[10, 50]] = False
    assert SCHEMES[int(scheme_log_likelihoods(statistics, 2.0, 49152).argmax())] == "hard"


def test_an_empty_text_favours_nothing():
    empty = TokenStatistics(*[np.empty(0)] * 4, *[np.empty(0, bool)] * 2)
    assert scheme_log_likelihoods(empty, 2.0, 100).tolist() == [0.0] * 4


def test_bad_edit_rates_are_refused():
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="edit_rate"):
            scheme_log_likelihoods(synthetic("none"), 2.0, 100, rate)


def test_the_prior_over_edits_is_a_distribution():
    assert sum(EDIT_WEIGHTS) == pytest.approx(1.0)
    assert len(EDIT_RATES) == len(EDIT_WEIGHTS) == len(BROKEN_RATES)


def test_a_wider_context_is_broken_longer():
    statistics = synthetic("hard", edits=0.15, seed=4)
    one = scheme_log_likelihoods(statistics, 2.0, 49152, 0.15, context_width=1)
    three = scheme_log_likelihoods(statistics, 2.0, 49152, 0.15, context_width=3)
    assert three[2] - three[0] < one[2] - one[0]


def test_logits_are_those_of_one_forward_pass(tiny):
    _, model = tiny
    ids = torch.randint(1, 400, (90,), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(input_ids=ids[None]).logits[0]
    ((number, found),) = model_logits(model, [ids.tolist()], [60])
    assert number == 0
    torch.testing.assert_close(found, expected[29:-1], rtol=1e-4, atol=1e-4)


def test_logits_do_not_depend_on_the_batch(tiny, monkeypatch):
    _, model = tiny
    random = torch.Generator().manual_seed(0)
    lengths = [30, 7, 300, 2, 90, 31, 256, 257, 258]  # the context is 256 tokens
    texts = [torch.randint(1, 400, (n,), generator=random).tolist() for n in lengths]
    nums_scored = [29, 3, 299, 1, 40, 30, 255, 256, 257]
    alone = [
        next(model_logits(model, [t], [n]))[1] for t, n in zip(texts, nums_scored, strict=True)
    ]
    for positions in (1, 100, 10_000):
        monkeypatch.setattr(likelihood, "_BATCH_POSITIONS", positions)
        found = dict(model_logits(model, texts, nums_scored))
        assert sorted(found) == list(range(len(texts)))
        for number, logits in found.items():
            torch.testing.assert_close(logits, alone[number], rtol=1e-4, atol=1e-4)
    assert not list(model_logits(model, [], []))


def test_a_text_longer_than_the_context_is_read_in_windows(tiny):
    _, model = tiny  # 256 positions
    ids = torch.randint(1, 400, (700,), generator=torch.Generator().manual_seed(0)).tolist()
    ((_, found),) = model_logits(model, [ids], [699])
    assert found.shape == (699, 512)
    with torch.inference_mode():
        first = model(input_ids=torch.tensor([ids[:256]])).logits[0]
    torch.testing.assert_close(found[:256], first, rtol=1e-4, atol=1e-4)
    ((_, after_prompt),) = model_logits(model, [ids], [10])
    assert after_prompt.shape == (10, 512)
    assert bool(found.isfinite().all())
