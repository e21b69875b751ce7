import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WatermarkLogitsProcessor

from src.algorithms.watermark.green_lists import (
    GREEN_LISTS,
    HashThreshold,
    KeyedBlocks,
    PackedRows,
    SeededPermutation,
    UserGreenList,
    Watermark,
    _mix_high,
    mix64,
    uniforms,
)

keys = st.integers(min_value=-(2**70), max_value=2**70)
sizes = st.integers(min_value=16, max_value=700)
fractions = st.floats(min_value=0.08, max_value=0.92)


@settings(max_examples=60, deadline=None)
@given(sizes, fractions, keys, st.integers(1, 3), st.integers(0, 2**32))
def test_lists_have_the_exact_size_and_membership_equals_the_mask(size, fraction, key, width, seed):
    lists = KeyedBlocks(size, fraction, key, width)
    random = torch.Generator().manual_seed(seed)
    contexts = torch.randint(0, size, (9, width), generator=random)
    rows = lists.rows(contexts)
    assert rows.sum(dim=1).tolist() == [int(size * fraction)] * 9
    tokens = torch.arange(size)
    for i in range(9):
        members = lists.contains(contexts[i].expand(size, -1), tokens)
        assert torch.equal(members, rows[i])


@pytest.mark.parametrize("name", ["keyed", "hash", "hf_lefthash", "kgw_simple_1"])
def test_membership_equals_the_mask_for_every_prf(name):
    lists = GREEN_LISTS[name](101, 0.3, 77, 1)
    contexts = torch.randint(0, 101, (400, 1), generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 101, (400,), generator=torch.Generator().manual_seed(1))
    rows = lists.rows(contexts)
    assert torch.equal(lists.contains(contexts, tokens), rows[torch.arange(400), tokens])


@pytest.mark.parametrize(
    ("size", "fraction"), [(49152, 0.5), (50257, 0.5), (50257, 0.25), (997, 0.3)]
)
def test_every_token_is_green_equally_often(size, fraction):
    lists = KeyedBlocks(size, fraction, 5)
    num = min(size, 1500) // 50 * 50  # distinct contexts
    totals = torch.zeros(size)
    for start in range(0, num, 50):
        totals += lists.rows(torch.arange(start, start + 50)[:, None]).sum(dim=0)
    p = lists.probability
    deviations = (totals - num * p) / (num * p * (1 - p)) ** 0.5
    # a normal score of variance 1 a token; 6 would be a one-in-a-billion token
    assert deviations.abs().max() < 6
    assert deviations.square().mean() == pytest.approx(1.0, abs=0.15)


def test_rows_of_different_contexts_and_keys_are_independent():
    size = 4096
    rows = KeyedBlocks(size, 0.5, 1).rows(torch.arange(60)[:, None])
    others = KeyedBlocks(size, 0.5, 2).rows(torch.arange(60)[:, None])
    # the overlap of two lists is hypergeometric: mean size/4, standard deviation sqrt(size)/4
    signs = rows.double() * 2 - 1
    between_contexts = (signs @ signs.T)[~torch.eye(60, dtype=torch.bool)] / size**0.5
    between_keys = (signs @ (others.double() * 2 - 1).T).flatten() / size**0.5
    for correlations in (between_contexts, between_keys):
        assert correlations.abs().max() < 5.5
        # pairs of opposite sign that two contexts share make it a little more than 1
        assert 0.8 < correlations.square().mean() < 1.6


def test_the_previous_id_0_has_another_list_under_another_key():
    zero = torch.zeros(1, 1, dtype=torch.int64)
    assert not torch.equal(
        KeyedBlocks(1000, 0.5, 1).rows(zero), KeyedBlocks(1000, 0.5, 2).rows(zero)
    )


def test_lists_do_not_change_between_versions():
    # texts that were marked once must be detected for ever
    digest = hashlib.sha256()
    for size, fraction, width in ((49152, 0.5, 1), (50257, 0.25, 2), (997, 0.3, 1)):
        contexts = torch.arange(6).reshape(-1, width) * 131 % size
        digest.update(KeyedBlocks(size, fraction, 42, width).rows(contexts).numpy().tobytes())
        digest.update(HashThreshold(size, fraction, 42, width).rows(contexts).numpy().tobytes())
    assert digest.hexdigest()[:16] == "94c188f623e17068"


def test_rows_do_not_depend_on_the_batch():
    lists = KeyedBlocks(5000, 0.5, 3)
    contexts = torch.randint(0, 5000, (40, 1), generator=torch.Generator().manual_seed(0))
    together = lists.rows(contexts)
    alone = torch.cat([lists.rows(context[None]) for context in contexts])
    assert torch.equal(together, alone)


def test_lookups_do_not_depend_on_the_chunks():
    lists = KeyedBlocks(300, 0.5, 3)
    random = torch.Generator().manual_seed(0)
    contexts = torch.randint(0, 300, (70_000, 1), generator=random)
    tokens = torch.randint(0, 300, (70_000,), generator=random)
    expected = lists.rows(torch.arange(300)[:, None])[contexts[:, 0], tokens]
    assert torch.equal(lists.contains(contexts, tokens), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["keyed", "hash"])
def test_the_gpu_has_the_same_lists(name):
    lists = GREEN_LISTS[name](50257, 0.25, 9, 1)
    contexts = torch.randint(0, 50257, (64, 1))
    tokens = torch.randint(0, 50257, (64,))
    assert torch.equal(lists.rows(contexts.cuda()).cpu(), lists.rows(contexts))
    members = lists.contains(contexts.cuda(), tokens.cuda()).cpu()
    assert torch.equal(members, lists.contains(contexts, tokens))


def test_hf_lefthash_has_the_lists_of_transformers():
    theirs = WatermarkLogitsProcessor(500, "cpu", greenlist_ratio=0.25, bias=3.0)
    ours = SeededPermutation(500, 0.25, 15485863)
    ids = torch.tensor([[7, 13], [4, 0], [9, 499]])
    added = theirs(ids, torch.zeros(3, 500))
    assert torch.equal(added > 0, ours.rows(ids[:, -1:]))


def test_kgw_simple_1_follows_the_reference_formula():
    ours = GREEN_LISTS["kgw_simple_1"](500, 0.25, 15485863, 2)
    generator = torch.Generator().manual_seed(15485863 * (7 + 13))
    green = torch.randperm(500, generator=generator)[:125]
    assert ours.rows(torch.tensor([[7, 13]]))[0].nonzero()[:, 0].tolist() == sorted(green.tolist())


def test_a_function_of_the_user_makes_the_lists(tmp_path):
    file = tmp_path / "course.py"
    file.write_text(
        "import numpy as np\n"
        "def green(previous_id, vocab_size, green_fraction, key):\n"
        "    order = np.random.RandomState(key + previous_id).permutation(vocab_size)\n"
        "    return order < int(green_fraction * vocab_size)\n"
    )
    mark = Watermark(f"{file}:green", 3, 1, 0.25, 2.0, 80, "tiny")
    lists = mark.green_list()
    expected = np.random.RandomState(3 + 11).permutation(80) < 20
    assert lists.rows(torch.tensor([[11]]))[0].tolist() == expected.tolist()
    assert lists.probability == 0.25
    assert bool(lists.contains(torch.tensor([[11]]), torch.tensor([4]))[0]) == bool(expected[4])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def green(a, b, c, d): return [True] * 3", "shape"),
        ("def green(a, b, c, d): return [1.0] * b", "boolean"),
        ("def green(a, b, c, d): return [False] * b", "no token"),
        ("def green(a, b): return [True] * b", "must take"),
        ("def other(a, b, c, d): pass", "no function"),
        ("raise OSError('broken')", "does not run"),
    ],
)
def test_a_function_that_does_not_serve_is_refused(tmp_path, body, message):
    file = tmp_path / "prf.py"
    file.write_text(body)
    with pytest.raises(ValueError, match=message):
        Watermark(f"{file}:green", 3, 1, 0.25, 2.0, 80, "tiny").green_list()


def test_a_function_sees_one_previous_id_only():
    with pytest.raises(ValueError, match="context_width"):
        UserGreenList(lambda *_: [True], 10, 0.5, 1, context_width=2)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("prf", "sha", "must be one of"),
        ("prf", "nowhere.py:f", "no file"),
        ("green_fraction", 0.0, "strictly between"),
        ("green_fraction", 1.0, "strictly between"),
        ("green_fraction", float("nan"), "strictly between"),
        ("green_fraction", 0.001, "no token green"),
        ("bias", -1.0, "0 or more"),
        ("context_width", 0, "at least one"),
        ("temperature", 0.0, "positive"),
    ],
)
def test_bad_parameters_are_refused(field, value, message):
    values = {
        "prf": "keyed",
        "key": 1,
        "context_width": 1,
        "green_fraction": 0.5,
        "bias": 2.0,
        "vocab_size": 100,
        "tokenizer": "tiny",
    }
    with pytest.raises(ValueError, match=message):
        Watermark.from_mapping({**values, field: value}).green_list()


def test_a_watermark_survives_its_json_object():
    mark = Watermark("keyed", 2**65, 2, 0.25, None, 100, "tiny")
    assert Watermark.from_mapping(mark.to_mapping()) == mark
    with pytest.raises(ValueError, match="key, prf"):
        Watermark.from_mapping(
            {
                "context_width": 1,
                "vocab_size": 100,
                "bias": 1.0,
                "green_fraction": 0.5,
                "tokenizer": "tiny",
            }
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_packed_rows_give_the_rows_whatever_was_evicted(dtype):
    lists = KeyedBlocks(203, 0.25, 8)
    packed = PackedRows(lists, capacity=5)
    random = torch.Generator().manual_seed(0)
    for _ in range(30):
        contexts = torch.randint(0, 12, (4, 1), generator=random)
        penalty = packed.penalty(contexts, 1.5, dtype)
        assert penalty.dtype == dtype
        assert torch.equal(penalty == 0, lists.rows(contexts))
        assert set(penalty.unique().tolist()) == {0.0, -1.5}
    many = torch.arange(9)[:, None]
    assert torch.equal(packed.penalty(many, 1.0, dtype) == 0, lists.rows(many))


def test_mix64_is_the_published_finaliser():
    # first output of SplitMix64 seeded with 0 (Vigna's splitmix64.c)
    golden = torch.tensor([0x9E3779B97F4A7C15 - 2**64])
    assert int(mix64(golden)) % 2**64 == 0xE220A8397B1DCDAF


@given(st.integers(-(2**63), 2**63 - 1), fractions)
def test_a_threshold_of_31_bits_needs_no_low_bits(value, fraction):
    lists = HashThreshold(100, fraction, 0)
    assert lists.probability == pytest.approx(fraction, abs=2**-31)
    state = torch.tensor([value])
    whole, high = (f(state) < lists._threshold for f in (mix64, _mix_high))
    assert torch.equal(whole, high)


def test_uniforms_are_uniform_and_depend_on_every_counter():
    draws = torch.cat([uniforms(1, i, j, num=25) for i in range(20) for j in range(20)])
    assert draws.unique().numel() == len(draws)
    counts = torch.histc(draws, bins=20, min=0, max=1)
    expected = len(draws) / 20
    # chi-square with 19 degrees of freedom: 43.8 is its 99.9 % point
    assert ((counts - expected) ** 2 / expected).sum() < 43.8
