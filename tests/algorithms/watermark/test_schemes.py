import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, LogitsProcessorList, TopKLogitsWarper

from src.algorithms.watermark.generation import continue_prompts
from src.algorithms.watermark.green_lists import KeyedBlocks, PackedRows
from src.algorithms.watermark.schemes import (
    SCHEMES,
    Ban,
    HardRedList,
    NoLetterE,
    SeededSampler,
    SoftRedList,
    build_scheme,
    count_letter_e,
    survives_round_trip,
    token_texts,
    tokens_with_e,
    unusable_tokens,
)
from tests.tiny_causal_lm import VOCAB_SIZE

PROMPTS = ["The old lighthouse", "It was a very long and rainy road that", "a", "Nobody"]


def write(tiny, scheme, prompts=PROMPTS, num_tokens=24, rows=None, **kwargs):
    tokenizer, model = tiny
    lists = PackedRows(KeyedBlocks(VOCAB_SIZE, 0.5, 42))
    mark = build_scheme(scheme, lists, 2.0, tokens_with_e(tokenizer, VOCAB_SIZE))
    ban = Ban(unusable_tokens(tokenizer, VOCAB_SIZE))
    rows = rows or [(0, i) for i in range(len(prompts))]
    return continue_prompts(
        model, tokenizer, prompts, rows, mark, ban, num_tokens, kwargs.pop("seed", 1), **kwargs
    )


@pytest.mark.parametrize(
    "text", ["e", "E", "é", "Ê", "ｅ", "ⓔ", "ℯ", "𝐞", "e\u0301", "ﬀe", "ẽ", "⒠"]
)
def test_every_form_of_the_letter_is_seen(text):
    assert count_letter_e("x" + text + "y") == 1


@pytest.mark.parametrize("text", ["", "o", "3", "€", "日本", "\ufffd", "ø"])
def test_other_letters_are_no_e(text):
    assert count_letter_e(text, has_look_alikes=True) == 0


@pytest.mark.parametrize("text", ["е", "є", "ε", "œ", "æ", "ə"])
def test_look_alikes_count_by_choice(text):
    assert count_letter_e(text) == 0
    assert count_letter_e(text, has_look_alikes=True) == 1


def test_detection_counts_plain_letters_only():
    assert count_letter_e("éeE", is_decomposed=False) == 2


def test_masks_follow_the_decoded_tokens(tiny):
    tokenizer, _ = tiny
    texts = token_texts(tokenizer, VOCAB_SIZE)
    strict = tokens_with_e(tokenizer, VOCAB_SIZE)
    plain = tokens_with_e(tokenizer, VOCAB_SIZE, is_strict=False)
    unusable = unusable_tokens(tokenizer, VOCAB_SIZE)
    for i, text in enumerate(texts):
        assert plain[i] == ("e" in text.lower())
        assert strict[i] == ("e" in text.lower() or "\ufffd" in text)
    assert unusable[len(tokenizer) :].all()
    assert unusable[tokenizer.eos_token_id]
    assert not unusable[tokenizer(" the")["input_ids"]].any()


def test_no_e_writes_no_e(tiny):
    tokenizer, _ = tiny
    texts = tokenizer.batch_decode(write(tiny, "no_e", num_tokens=60).token_ids)
    assert all(count_letter_e(text) == 0 for text in texts)
    assert any("e" in t.lower() for t in tokenizer.batch_decode(write(tiny, "none").token_ids))


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.7}, {"top_k": 3}, {"top_p": 0.4}])
def test_every_token_of_hard_is_green(tiny, sampling):
    result = write(tiny, "hard", num_tokens=40, sampling=sampling)
    ids = torch.tensor(result.token_ids)
    contexts, tokens = ids[:, :-1].reshape(-1, 1), ids[:, 1:].flatten()
    assert KeyedBlocks(VOCAB_SIZE, 0.5, 42).contains(contexts, tokens).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_texts_have_their_length_and_read_back_as_they_were_drawn(tiny, scheme):
    tokenizer, _ = tiny
    result = write(tiny, scheme, num_tokens=40)
    assert [len(ids) for ids in result.token_ids] == [40] * len(PROMPTS)
    assert all(survives_round_trip(tokenizer, result.token_ids))
    assert tokenizer.eos_token_id not in {i for ids in result.token_ids for i in ids}


def test_without_redraws_most_random_texts_read_back_otherwise(tiny):
    tokenizer, _ = tiny
    result = write(tiny, "none", num_tokens=40, is_round_trip_safe=False)
    assert not all(survives_round_trip(tokenizer, result.token_ids))


def test_soft_prefers_green(tiny):
    def share(scheme):
        ids = torch.tensor(write(tiny, scheme, num_tokens=60).token_ids)
        lists = KeyedBlocks(VOCAB_SIZE, 0.5, 42)
        return lists.contains(ids[:, :-1].reshape(-1, 1), ids[:, 1:].flatten()).double().mean()

    # 236 pairs: the standard error of a share is at most 0.033
    assert share("soft") > share("none") + 0.15


def test_a_row_does_not_depend_on_its_batch(tiny):
    together = write(tiny, "soft").token_ids
    alone = [write(tiny, "soft", [p], rows=[(0, i)]).token_ids[0] for i, p in enumerate(PROMPTS)]
    assert together == alone
    assert write(tiny, "soft", seed=2).token_ids != together


def test_perplexity_is_of_the_unmarked_model(tiny):
    tokenizer, model = tiny
    result = write(tiny, "hard", ["The old lighthouse"])
    prompt = tokenizer("The old lighthouse")["input_ids"]
    ids = torch.tensor([prompt + result.token_ids[0]])
    with torch.inference_mode():
        log_probs = model(input_ids=ids).logits[0].log_softmax(dim=-1)
    expected = -log_probs[len(prompt) - 1 : -1].gather(1, ids[0, len(prompt) :, None])[:, 0]
    torch.testing.assert_close(result.nll[0], expected, rtol=1e-4, atol=1e-4)


def test_the_schemes_work_in_plain_generate(tiny):
    tokenizer, model = tiny
    encoded = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    lists = KeyedBlocks(VOCAB_SIZE, 0.5, 42)
    torch.manual_seed(0)
    output = model.generate(
        **encoded,
        generation_config=GenerationConfig(
            max_new_tokens=20, min_new_tokens=20, do_sample=True, top_k=20, pad_token_id=0
        ),
        logits_processor=LogitsProcessorList([HardRedList(PackedRows(lists))]),
    )
    start = encoded["input_ids"].shape[1]
    contexts = output[:, start - 1 : -1].reshape(-1, 1)
    assert lists.contains(contexts, output[:, start:].flatten()).all()


def test_hard_after_a_foreign_top_k_still_has_a_candidate():
    lists = KeyedBlocks(64, 0.5, 1)
    ids = torch.tensor([[3]])
    red = (~lists.rows(ids)).nonzero()[:, 1]
    scores = torch.zeros(1, 64)
    scores[0, red[:3]] = torch.tensor([5.0, 6.0, 7.0])  # the three candidates left are all red
    scores = TopKLogitsWarper(3)(ids, scores)
    probabilities = HardRedList(PackedRows(lists))(ids, scores).softmax(dim=-1)
    assert probabilities.sum() == pytest.approx(1.0)
    assert int(probabilities.argmax()) == int(red[2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_hard_leaves_red_no_probability_in_any_dtype(dtype):
    lists = KeyedBlocks(64, 0.5, 1)
    ids = torch.tensor([[3], [9]])
    scores = torch.randn(2, 64, generator=torch.Generator().manual_seed(0)).to(dtype) * 20
    probabilities = HardRedList(PackedRows(lists))(ids, scores).softmax(dim=-1)
    assert (probabilities[~lists.rows(ids)] == 0).all()


def test_soft_lowers_red_logits_by_the_bias():
    lists = KeyedBlocks(64, 0.25, 1)
    ids, scores = torch.tensor([[3], [9]]), torch.randn(2, 64)
    marked = SoftRedList(PackedRows(lists), 1.5)(ids, scores)
    torch.testing.assert_close(marked, scores - 1.5 * (~lists.rows(ids)))


def test_context_of_two_tokens_leaves_the_first_position_alone():
    lists = KeyedBlocks(64, 0.5, 1, context_width=2)
    scores = torch.randn(1, 64)
    assert SoftRedList(PackedRows(lists), 2.0)(torch.tensor([[3]]), scores) is scores


def test_bad_arguments_are_refused():
    lists = PackedRows(KeyedBlocks(64, 0.5, 1))
    with pytest.raises(ValueError, match="subtracted from red"):
        SoftRedList(lists, -0.1)
    with pytest.raises(ValueError, match="vocab_size"):
        SoftRedList(lists, 1.0)(torch.tensor([[3]]), torch.zeros(1, 65))
    with pytest.raises(ValueError, match="holds an e"):
        NoLetterE(torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="banned"):
        Ban(torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="no scheme"):
        build_scheme("gumbel", lists, 1.0, torch.zeros(64, dtype=torch.bool))
    for bad in ({"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            SeededSampler(0, [(0,)], 1, **bad)


def draws(num, scores, **kwargs):
    sampler = SeededSampler(7, [(i,) for i in range(num)], 1, **kwargs)
    ids = torch.zeros(num, 1, dtype=torch.int64)
    return sampler(ids, scores.expand(num, -1)).argmax(dim=1)


def test_the_sampler_draws_the_distribution():
    scores = torch.tensor([0.0, 1.0, -torch.inf, 2.0, -1.0])
    num = 4000
    counts = torch.bincount(draws(num, scores, temperature=2.0), minlength=5).double()
    expected = (scores / 2).softmax(dim=0).double() * num
    assert counts[2] == 0
    keep = expected > 0
    # chi-square with 3 degrees of freedom: 16.3 is its 99.9 % point
    assert ((counts - expected)[keep] ** 2 / expected[keep]).sum() < 16.3


def test_top_k_and_top_p_keep_the_likeliest():
    scores = torch.tensor([0.0, 1.0, -torch.inf, 2.0, -1.0])
    assert set(draws(500, scores, top_k=2).tolist()) == {1, 3}
    assert set(draws(500, scores, top_p=0.5).tolist()) == {3}
    assert set(draws(500, scores, top_p=0.7).tolist()) == {1, 3}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=2, max_size=50), st.integers(0, 2**63))
def test_a_token_of_no_probability_is_never_drawn(values, seed):
    scores = torch.tensor([*values, -torch.inf, -1e4])
    sampler = SeededSampler(seed, [(i,) for i in range(40)], 1)
    ids = torch.zeros(40, 1, dtype=torch.int64)
    chosen = sampler(ids, scores.expand(40, -1)).argmax(dim=1)
    assert (chosen < len(values)).all()


def test_padding_of_an_earlier_call_makes_nothing_unsafe(tiny):
    tokenizer, _ = tiny
    tokenizer(["a", "a longer one"], padding=True)
    sequences = [tokenizer(text)["input_ids"] for text in ("a", "a longer one")]
    assert survives_round_trip(tokenizer, sequences) == [True, True]


def test_redraws_sample_the_distribution_given_safety(tiny):
    tokenizer, _ = tiny
    # after "t", "h" is unsafe where the tokenizer has "th"; the others are drawn in proportion
    letters = ["h", "x", "z"]
    t, *rest = (tokenizer.convert_tokens_to_ids(letter) for letter in ["t", *letters])
    assert survives_round_trip(tokenizer, [[t, i] for i in rest]) == [False, True, True]
    scores = torch.full((VOCAB_SIZE,), -torch.inf)
    scores[rest] = torch.tensor([math.log(0.9), math.log(0.075), math.log(0.025)])
    num = 800
    sampler = SeededSampler(3, [(i,) for i in range(num)], 1, tokenizer=tokenizer)
    ids = torch.tensor([[0, t]]).expand(num, -1)
    counts = torch.bincount(sampler(ids, scores.expand(num, -1)).argmax(dim=1), minlength=600)
    assert counts[rest[0]] == 0
    # 600 expected, standard deviation 12
    assert abs(int(counts[rest[1]]) - 600) < 50


def test_where_nothing_is_safe_the_first_draw_stays(tiny):
    tokenizer, _ = tiny
    t, h = (tokenizer.convert_tokens_to_ids(letter) for letter in "th")
    scores = torch.full((1, VOCAB_SIZE), -torch.inf)
    scores[0, h] = 0.0
    sampler = SeededSampler(3, [(0,)], 1, tokenizer=tokenizer)
    assert int(sampler(torch.tensor([[0, t]]), scores).argmax()) == h
