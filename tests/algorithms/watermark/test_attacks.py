import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.algorithms.watermark.attacks import ATTACKS, attack_ids, check_attack, replacement_ids
from src.algorithms.watermark.schemes import token_texts, unusable_tokens
from tests.tiny_causal_lm import VOCAB_SIZE

LETTERS = range(1000, 1010)
HUMAN = list(range(2000, 3000))


def run(ids, attack, rate, seed=0):
    return attack_ids(ids, attack, rate, np.random.default_rng(seed), LETTERS, HUMAN)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 120), st.floats(0, 0.89), st.integers(0, 9))
def test_each_attack_edits_the_stated_share(num, rate, seed):
    ids = list(range(num))
    edits = round(rate * num)
    changed = run(ids, "substitution", rate, seed)
    assert len(changed) == num
    assert sum(a != b for a, b in zip(changed, ids, strict=True)) == edits
    deleted = run(ids, "deletion", rate, seed)
    assert len(deleted) == num - edits
    assert deleted == sorted(deleted)
    inserted = run(ids, "insertion", rate, seed)
    assert [i for i in inserted if i < 1000] == ids
    assert len(inserted) == num + edits
    assert run(ids, "truncation", rate, seed) == ids[: num - edits]
    mixed = run(ids, "concatenation", rate, seed)
    assert mixed[:num] == ids
    assert len(mixed) - num == round(rate / (1 - rate) * num)
    assert np.all(np.diff(mixed[num:]) == 1)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_seeded(attack):
    ids = list(range(100))
    assert run(ids, attack, 0.2, 1) == run(ids, attack, 0.2, 1)


def test_bad_studies_are_refused():
    for attack, rates in (("paraphrase", [0.1]), ("deletion", []), ("deletion", [1.0])):
        with pytest.raises(ValueError, match="attack"):
            check_attack(attack, rates)
    with pytest.raises(ValueError, match="human"):
        attack_ids([1] * 100, "concatenation", 0.5, np.random.default_rng(0), LETTERS, [1, 2])


def test_replacements_are_whole_characters(tiny):
    tokenizer, _ = tiny
    texts = token_texts(tokenizer, VOCAB_SIZE)
    ids = replacement_ids(tokenizer, unusable_tokens(tokenizer, VOCAB_SIZE), texts)
    assert tokenizer.eos_token_id not in ids
    assert all("\ufffd" not in texts[i] and texts[i] for i in ids)
    assert len(ids) > 100
