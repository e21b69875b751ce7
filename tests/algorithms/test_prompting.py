"""Prompts, the choice of examples, and text that neither batch nor order can change."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.algorithms.prompting import (
    PromptTemplate,
    SeededSampling,
    clean_rationale,
    cut_at,
    fit_prompt,
    lexical_embedding,
    majority_vote,
    messages,
    normalize_question,
    read_answer,
    render,
    select_examples,
)

EXAMPLES = [
    {"question": "1 plus 1?", "answer": "2", "rationale": "1 + 1 = 2.", "equation": "1 + 1"},
    {"question": "2 plus 3?", "answer": "5", "rationale": "2 + 3 = 5.", "equation": "2 + 3"},
]


def template(**settings) -> PromptTemplate:
    return PromptTemplate.from_mapping(
        "mine", {"question": "Q: {question}\nA:", "demonstration": " {answer}", **settings}
    )


# ------------------------------------------------------------------- templates


def test_a_plain_prompt_is_instruction_examples_question_and_cue() -> None:
    text = render(template(instruction="Solve.", cue=" So"), "4 plus 4?", EXAMPLES)
    assert text == ("Solve.\n\nQ: 1 plus 1?\nA: 2\n\nQ: 2 plus 3?\nA: 5\n\nQ: 4 plus 4?\nA: So")


def test_a_chat_takes_turns_and_the_cue_opens_the_last() -> None:
    mine = template(instruction="Solve.", cue=" So")
    turns = messages(mine, "4 plus 4?", EXAMPLES[:1])
    assert turns == [
        {"role": "user", "content": "Solve.\n\nQ: 1 plus 1?\nA:"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "Q: 4 plus 4?\nA:"},
    ]
    text = render(
        mine, "4 plus 4?", EXAMPLES[:1], lambda t: "|".join(x["content"] for x in t) + "|"
    )
    assert text.endswith("|Q: 4 plus 4?\nA:|So")


def test_braces_in_a_question_stay_as_they_are() -> None:
    assert "a {set}" in render(template(), "How many in a {set}?", EXAMPLES)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"question": "Q: what?"}, "key 'question' lacks its placeholder {question}"),
        ({"question": "Q: {question} {hint}"}, "unknown placeholder {hint}"),
        ({"question": "Q: {question"}, "cannot be read as a template"),
        ({"demonstration": " yes", "num_shots": [2]}, "key 'demonstration' lacks a placeholder"),
        ({"demonstration": " {solution}"}, "unknown placeholder {solution}"),
        ({"num_shots": [-1]}, "num_shots"),
        ({"selection": "best"}, "expected one of fixed, random, nearest"),
        ({"answer_from": "code"}, "expected one of text, expression"),
        ({"num_samples": 5}, "at temperature 0"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"tempo": 1}, "unknown key 'tempo'"),
    ],
)
def test_a_bad_template_is_refused_by_strategy_and_key(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("{", r"\{")) as caught:
        template(**settings)
    assert "'mine'" in str(caught.value)


def test_a_template_without_a_question_is_refused() -> None:
    with pytest.raises(ValueError, match="no key 'question'"):
        PromptTemplate.from_mapping("mine", {"instruction": "Solve."})


def test_a_long_prompt_loses_whole_examples_from_the_front_and_counts_them() -> None:
    whole = render(template(), "4 plus 4?", EXAMPLES)
    fits = fit_prompt(template(), "4 plus 4?", EXAMPLES, list, len(whole))
    assert (fits.text, fits.num_examples, fits.num_dropped) == (whole, 2, 0)
    short = fit_prompt(template(), "4 plus 4?", EXAMPLES, list, len(whole) - 1)
    assert short.text == render(template(), "4 plus 4?", EXAMPLES[1:])
    assert (short.num_examples, short.num_dropped) == (1, 1)
    none = fit_prompt(template(), "4 plus 4?", EXAMPLES, list, 3)
    assert none.text == render(template(), "4 plus 4?")
    assert (none.num_examples, none.num_dropped) == (0, 2)
    assert none.token_ids == list(none.text)


# -------------------------------------------------------------------- examples


def test_fixed_examples_are_the_first_and_random_ones_depend_on_seed_and_problem() -> None:
    assert select_examples("fixed", 3, 10, position=7) == [0, 1, 2]
    first = select_examples("random", 4, 50, position=7, seed=1)
    assert first == select_examples("random", 4, 50, position=7, seed=1)
    assert first != select_examples("random", 4, 50, position=8, seed=1)
    assert first != select_examples("random", 4, 50, position=7, seed=2)
    assert len(set(first)) == 4


def test_the_nearest_example_comes_last() -> None:
    similarity = np.array([0.1, 0.9, 0.3, 0.5])
    assert select_examples("nearest", 2, 4, 0, similarity=similarity) == [3, 1]


def test_more_examples_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"9 examples are asked for.*only 4"):
        select_examples("fixed", 9, 4, 0)


def test_lexical_embedding_finds_the_problem_of_the_same_kind() -> None:
    pool = [
        "Tom has 3 apples and buys 4 more apples. How many apples does he have?",
        "A train travels 60 miles in 2 hours. How fast does it go?",
        "Each box holds 12 pens. How many pens are in 5 boxes?",
    ]
    test = ["A car travels 150 miles in 3 hours. How fast does it go?"]
    similarity = lexical_embedding(test, pool) @ lexical_embedding(pool, pool).T
    assert similarity.argmax() == 1
    rows = lexical_embedding(pool, pool)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)
    # Only the numbers differ: the same kind of problem.
    twin = lexical_embedding([pool[0].replace("3", "77")], pool)
    assert np.allclose(twin, rows[0])
    assert not lexical_embedding(["zzz"], pool).any()


def test_a_rationale_becomes_one_line_of_prose() -> None:
    text = "He eats 2 + 3 = <<2+3=5>>5 pies\n\nThat leaves 4.\n#### 4"
    assert clean_rationale(text) == "He eats 2 + 3 = 5 pies. That leaves 4."


def test_questions_are_the_same_whatever_their_spacing_and_case() -> None:
    assert normalize_question("How  many\npies?") == normalize_question("how many pies")
    assert normalize_question("3 pies") != normalize_question("4 pies")


# ------------------------------------------------------------------ generation


def test_seeded_sampling_draws_from_the_softmax() -> None:
    """Frequencies of 4,000 draws lie within 4 standard errors of the probabilities.

    Under the null a bin exceeds that with probability 6e-5.
    """
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    num = 4000
    sampling = SeededSampling([f"row {i}" for i in range(num)], temperature=0.8)
    drawn = sampling(torch.zeros(num, 1), logits.repeat(num, 1)).argmax(-1)
    counts = Counter(drawn.tolist())
    for token, p in enumerate(torch.softmax(logits[0] / 0.8, -1).tolist()):
        assert abs(counts[token] / num - p) < 4 * (p * (1 - p) / num) ** 0.5


def test_a_rows_draw_does_not_depend_on_its_neighbours() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    together = SeededSampling(["a", "b", "c"], 1.0)(logits, logits)
    alone = SeededSampling(["b"], 1.0)(logits, logits[1:2])
    assert torch.equal(together[1:2], alone)


@given(st.lists(st.sampled_from("ab\n#"), max_size=20).map("".join))
def test_cut_text_never_holds_a_stop_string(text: str) -> None:
    cut = cut_at(text, ["\n", "##"])
    assert "\n" not in cut
    assert "##" not in cut
    assert text.startswith(cut)


# --------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("12 * (3 + 4)", 84),
        (" (20 - 5) / 2\nQuestion:", Fraction(15, 2)),
        ("x = 3 * 4", 12),
        ("3 * 4 = 13", 12),
        ("The expression is 5 + 6.", 11),
        ("82 dollars - 87 dollars", None),
        ("42", 42),
        ("7 / 0", None),
        ("no idea", None),
        ("", None),
        ("$12.50 x 2", 25),
    ],
)
def test_expressions_are_worked_out(text: str, answer: object) -> None:
    assert read_answer(text, "expression") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 1,234.50 dollars.", Fraction("1234.5")),
        ("48 / 2 = 24\n#### 72", 72),
        ("So it is = 3/4", Fraction(3, 4)),
        ("He has 5 apples and 3 pears, 8 in all.", 8),
        ("The answer is 25%.", 25),
        ("The temperature is -7 degrees", -7),
        ("The answer is 1.2e3", 1200),
        ("I cannot tell.", None),
    ],
)
def test_stated_answers_are_read(text: str, answer: object) -> None:
    assert read_answer(text, "text") == answer


def test_the_commonest_answer_wins_and_none_never_does() -> None:
    a, b = Fraction(1), Fraction(2)
    assert majority_vote([None, None, a]).winner == a
    assert majority_vote([a, b, b, None]) == majority_vote([b, a, b, None])
    assert majority_vote([a, b, b, None]).agreement == 0.5
    assert majority_vote([b, a]).winner == b  # a tie goes to the first
    assert majority_vote([None]).winner is None
    assert majority_vote([]).winner is None
