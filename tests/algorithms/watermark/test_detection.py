import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, false_discovery_control, kstest
from transformers import LlamaConfig, WatermarkDetector, WatermarkingConfig

from src.algorithms.watermark.detection import (
    GREEN,
    RED,
    REPEATED,
    UNSCORED,
    adjust_p_values,
    assign_with_totals,
    check_totals,
    count_log_likelihoods,
    count_pairs,
    evaluate_counts,
    expected_green,
    flatten,
    letter_counts,
    pair_states,
    posterior,
    strongest_passage,
)
from src.algorithms.watermark.green_lists import KeyedBlocks, SeededPermutation
from src.algorithms.watermark.schemes import SCHEMES

texts_of_ids = st.lists(st.lists(st.integers(0, 39), max_size=30), min_size=1, max_size=8)


@settings(max_examples=80, deadline=None)
@given(texts_of_ids, st.integers(1, 3))
def test_fast_counts_equal_those_of_single_texts(token_ids, width):
    lists = KeyedBlocks(40, 0.25, 9, width)
    counts = count_pairs(*flatten(token_ids), lists)
    for i, ids in enumerate(token_ids):
        pairs = {tuple(ids[j - width : j + 1]) for j in range(width, len(ids))}
        green = {pair for pair in pairs if lists.rows(torch.tensor([pair[:-1]]))[0, pair[-1]]}
        assert (counts.num_scored[i], counts.num_green[i]) == (len(pairs), len(green))
        states = pair_states(ids, lists)
        assert (states == GREEN).sum() == len(green)
        assert ((states == GREEN) | (states == RED)).sum() == len(pairs)
        assert (states == UNSCORED).sum() == min(width, len(ids))


def test_counts_do_not_depend_on_neighbours_or_chunks(monkeypatch):
    random = np.random.default_rng(0)
    token_ids = [random.integers(0, 5000, n).tolist() for n in random.integers(0, 400, 60)]
    lists = KeyedBlocks(5000, 0.5, 1)
    together = count_pairs(*flatten(token_ids), lists)
    alone = [count_pairs(*flatten([ids]), lists) for ids in token_ids]
    assert together.num_green.tolist() == [int(c.num_green[0]) for c in alone]
    np.testing.assert_array_equal(together.z_score, [c.z_score[0] for c in alone])
    monkeypatch.setattr("src.algorithms.watermark.detection._SORT_CHUNK", 500)
    np.testing.assert_array_equal(count_pairs(*flatten(token_ids), lists).p_value, together.p_value)


def test_many_short_texts_with_a_wide_context_count_as_each_alone():
    random = np.random.default_rng(0)
    token_ids = random.integers(0, 50_257, (1500, 8)).tolist()
    lists = KeyedBlocks(50_257, 0.5, 1, 2)
    counts = count_pairs(*flatten(token_ids), lists)
    assert set(counts.num_scored.tolist()) == {6}
    alone = count_pairs(*flatten(token_ids[-5:]), lists)
    np.testing.assert_array_equal(counts.num_green[-5:], alone.num_green)


def test_repeated_pairs_count_once():
    lists = KeyedBlocks(40, 0.5, 9)
    states = pair_states([1, 2, 1, 2, 1, 2], lists)
    assert states.tolist()[0] == UNSCORED
    assert states.tolist()[3:] == [REPEATED] * 3


def test_ids_of_another_tokenizer_are_refused():
    lists = KeyedBlocks(40, 0.5, 9)
    for bad in ([1, 40], [-1, 3]):
        with pytest.raises(ValueError, match="another tokenizer"):
            count_pairs(*flatten([bad]), lists)
        with pytest.raises(ValueError, match="another tokenizer"):
            pair_states(bad, lists)


def test_empty_texts_have_no_evidence():
    counts = count_pairs(*flatten([[], [3], [1, 2]]), KeyedBlocks(40, 0.5, 9))
    assert counts.num_scored.tolist() == [0, 0, 1]
    assert np.isnan(counts.z_score[:2]).all()
    assert counts.p_value[:2].tolist() == [1.0, 1.0]
    likelihoods = count_log_likelihoods(counts, [0, 0, 0], [0, 0, 0], 0.5, 2.0)
    np.testing.assert_allclose(posterior(likelihoods)[0], 0.25)


def test_p_values_are_uniform_under_random_keys():
    # discrete p-values, spread by a uniform between P(X > g) and P(X >= g), are exactly uniform
    random = np.random.default_rng(1)
    token_ids = [random.integers(0, 3000, 120).tolist() for _ in range(40)]
    spread, exact = [], []
    for key in range(25):
        counts = count_pairs(*flatten(token_ids), KeyedBlocks(3000, 0.5, key))
        mass = binom.pmf(counts.num_green, counts.num_scored, 0.5)
        spread += (counts.p_value - random.uniform(size=40) * mass).tolist()
        exact += counts.p_value.tolist()
    # 1,000 values: the 99.9 % point of the Kolmogorov-Smirnov distance is 0.0617
    assert kstest(spread, "uniform").statistic < 0.0617
    # at most 1 % false alarms, plus three standard errors
    assert np.mean(np.array(exact) <= 0.01) <= 0.01 + 3 * (0.01 * 0.99 / 1000) ** 0.5


def test_z_and_p_are_the_textbooks():
    counts = evaluate_counts(np.array([100]), np.array([70]), 0.5)
    assert counts.z_score[0] == pytest.approx(4.0)
    assert counts.p_value[0] == pytest.approx(sum(binom.pmf(range(70, 101), 100, 0.5)))


def test_transformers_detector_agrees_on_lefthash():
    config = LlamaConfig(vocab_size=300, bos_token_id=0)
    theirs = WatermarkDetector(
        model_config=config,
        device="cpu",
        watermarking_config=WatermarkingConfig(greenlist_ratio=0.25, context_width=1),
        ignore_repeated_ngrams=True,
    )
    random = np.random.default_rng(3)
    lists = SeededPermutation(300, 0.25, 15485863)
    ids = random.integers(1, 300, (6, 60))
    ids[:3, 30:] = ids[:3, :30]  # repeats
    for row in ids[3:]:  # marked: the next token is green
        for t in range(1, 60):
            green = lists.rows(torch.tensor([[row[t - 1]]]))[0].nonzero()[:, 0].numpy()
            row[t] = random.choice(green)
    expected = theirs(torch.from_numpy(ids), return_dict=True)
    counts = count_pairs(*flatten(ids.tolist()), lists)
    np.testing.assert_allclose(counts.z_score, expected.z_score, rtol=1e-6)
    assert expected.prediction.tolist() == [False] * 3 + [True] * 3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_benjamini_and_hochbergs(p_values):
    np.testing.assert_allclose(
        adjust_p_values(p_values), false_discovery_control(p_values), atol=1e-12
    )


def test_totals_change_the_labels_that_break_them():
    probabilities = np.array(
        [[0.7, 0.1, 0.1, 0.1], [0.6, 0.1, 0.0, 0.3], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.4, 0.6]]
    )
    with np.errstate(divide="ignore"):
        scores = np.log(probabilities)
    assert assign_with_totals(scores, [2, 1, 0, 1]).tolist() == [0, 0, 1, 3]
    assert assign_with_totals(scores, [1, 1, 1, 1]).tolist() == [0, 3, 1, 2]


@pytest.mark.parametrize("totals", [[1, 1, 1], [2, 1, 1, 1], [5, -1, 0, 0], [0.5, 1.5, 1, 1]])
def test_wrong_totals_are_refused(totals):
    with pytest.raises(ValueError, match="counts"):
        check_totals(totals, 4)


def test_a_marked_passage_is_found_and_an_unmarked_text_has_none():
    random = np.random.default_rng(0)
    states = random.integers(0, 2, 600).astype(np.int8)
    assert strongest_passage(states, 0.5).p_value > 0.01
    states[300:364] = GREEN
    passage = strongest_passage(states, 0.5)
    assert passage.p_value < 1e-6
    assert passage.start < 320
    assert passage.stop > 345
    assert strongest_passage(states[:10], 0.5) is None


def test_the_corrected_p_value_keeps_its_level():
    random = np.random.default_rng(5)
    alarms = [
        strongest_passage(random.integers(0, 2, 150).astype(np.int8), 0.5).p_value <= 0.05
        for _ in range(300)
    ]
    assert np.mean(alarms) <= 0.05  # Bonferroni: well below; 300 texts


@pytest.mark.parametrize(
    ("scheme", "green", "num_e"),
    [("none", 50, 40), ("no_e", 52, 0), ("hard", 99, 41), ("soft", 80, 38)],
)
@pytest.mark.parametrize("bias", [2.0, None])
def test_clear_texts_are_attributed_by_counts(scheme, green, num_e, bias):
    counts = evaluate_counts(np.array([99]), np.array([green]), 0.5)
    probabilities = posterior(count_log_likelihoods(counts, [num_e], [340], 0.5, bias))
    assert SCHEMES[int(probabilities[0].argmax())] == scheme
    # a bias that may be as small as 0.5 leaves room beside none
    assert probabilities[0].max() > (0.95 if bias is not None else 0.5)


def test_expected_green_rises_from_chance_towards_one():
    values = [expected_green(0.25, bias) for bias in (0.0, 1.0, 2.0, 4.0)]
    assert values[0] == pytest.approx(0.25, abs=0.01)
    assert values == sorted(values)
    assert values[-1] < 1


def test_letters_are_counted_plainly():
    assert letter_counts(["Eve é 12", ""]) == ([2, 0], [4, 0])
