"""The problem generator: exact, held out by template, deterministic, as irrelevant as asked."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from fractions import Fraction

import pytest

from src.algorithms.answers import evaluate_expression, parse_infix, skeleton
from src.datamodules import stories
from src.datamodules.procedural import (
    SPLITS,
    Family,
    ProceduralProblems,
    TemplateError,
    canonical,
    compile_template,
    parse_letters,
)

COUNT = 4000


@pytest.fixture(scope="module")
def drawn():
    return {split: ProceduralProblems(split, seed=3).take(COUNT) for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_equation_gives_the_answer(drawn, split):
    for problem in drawn[split]:
        assert evaluate_expression(problem.equation, problem.numbers) == problem.answer, problem
        assert problem.answer.denominator == 1
        assert 0 < problem.answer < 20_000
        assert problem.tolerance == 0


@pytest.mark.parametrize("split", SPLITS)
def test_text_holds_every_number_in_order(drawn, split):
    for problem in drawn[split]:
        assert tuple(re.findall(r"\d+", problem.question)) == problem.numbers
        masks = [f"number{i}" for i in range(len(problem.numbers))]
        assert re.findall(r"\bnumber\d+\b", problem.masked) == masks
        rebuilt = re.sub(r"number(\d+)", lambda m, n=problem.numbers: n[int(m[1])], problem.masked)
        assert rebuilt == problem.question
        assert 1 <= len(problem.numbers) <= 6


@pytest.mark.parametrize("split", SPLITS)
def test_text_is_well_formed(drawn, split):
    for problem in drawn[split]:
        text = problem.question
        assert text.endswith("?"), text
        assert not re.search(r"[{}\[\]<>|\ue000-\uf8ff]|  | [.,?]|\.\.|number\d", text), text
        assert not re.search(r"\ba [aeiou]|\ban (?!hour|[aeiou])", text), text
        for sentence in re.split(r"(?<=[.?!]) ", text):
            assert sentence[0].isdigit() or sentence[0].isupper(), text


def test_splits_share_no_template_and_no_text(drawn):
    ids = {split: ProceduralProblems(split).template_ids for split in SPLITS}
    wordings = {split: {problem.masked for problem in drawn[split]} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not ids[one] & ids[other]
        assert not wordings[one] & wordings[other]
        assert {p.meta["template"] for p in drawn[one]} <= ids[one]
    assert len(ids["train"]) > 2 * len(ids["test"])
    assert len(ids["test"]) >= 40


def test_held_out_operations_occur_in_training(drawn):
    seen = {
        split: Counter(skeleton(parse_infix(problem.equation)) for problem in drawn[split])
        for split in SPLITS
    }
    assert set(seen["test"]) <= set(seen["train"])
    assert set(seen["val"]) <= set(seen["train"])
    assert len(seen["test"]) >= 15


def test_same_seed_same_problems_and_any_order():
    first = ProceduralProblems("train", seed=7)
    again = ProceduralProblems("train", seed=7)
    assert [first.problem(i) for i in range(50)] == [again.problem(i) for i in reversed(range(50))][
        ::-1
    ]
    other = ProceduralProblems("train", seed=8)
    assert first.problem(0).question != other.problem(0).question
    assert ProceduralProblems("val", seed=7).problem(0) != first.problem(0)


def test_taken_texts_differ(drawn):
    for problems in drawn.values():
        assert len({problem.question for problem in problems}) == COUNT


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_irrelevant_numbers_come_at_the_stated_rate(rate):
    generator = ProceduralProblems("train", seed=1, irrelevant_rate=rate)
    problems = [generator.problem(i) for i in range(3000)]
    unused = 0
    for problem in problems:
        used = {int(i) for i in re.findall(r"number(\d+)", problem.equation)}
        has_unused = used != set(range(len(problem.numbers)))
        assert has_unused == (problem.meta["variation"] == "irrelevant")
        unused += has_unused
    # Five standard deviations of a binomial share.
    assert abs(unused / 3000 - rate) <= 5 * (rate * (1 - rate) / 3000) ** 0.5


def test_all_variations_and_steps_occur(drawn):
    for split in SPLITS:
        variations = Counter(problem.meta["variation"] for problem in drawn[split])
        assert set(variations) >= {"plain", "question", "irrelevant", "inverted"}
        assert all(
            p.meta["steps"] == len(re.findall(r" [-+*/] ", p.equation)) for p in drawn[split]
        )
    generator = ProceduralProblems("train", seed=2)
    steps = Counter(generator.problem(i).meta["steps"] for i in range(3000))
    for count, share in ((1, 0.5), (2, 0.35), (3, 0.15)):
        assert abs(steps[count] / 3000 - share) <= 5 * (share * (1 - share) / 3000) ** 0.5
    assert any(problem.meta["variation"] == "reordered" for problem in drawn["train"])


def test_every_template_can_be_told():
    """Each family's numbers suit each of its questions, in whatever alternative is told."""
    for split in SPLITS:
        told = Counter(
            problem.meta["template"]
            for problem in itertools.islice(ProceduralProblems(split, seed=9), 60000)
        )
        assert set(told) == ProceduralProblems(split).template_ids


def test_numbers_suit_every_question_of_a_family():
    rng = random.Random(0)
    for family in stories.FAMILIES:
        for texts in family.templates:
            assert len(texts) % 2 == 1, family.name
            for equation in texts[1::2]:
                infix = re.sub(r"number(\d)", lambda m: "abcdefgh"[int(m[1])], equation)
                for _ in range(15):
                    values = family.numbers(rng)
                    numbers = [str(values.get(letter, 0)) for letter in "abcd"]
                    masked = re.sub("[a-d]", lambda m: f"number{'abcd'.index(m[0])}", infix)
                    value = evaluate_expression(masked, numbers)
                    assert value > 0, (family.name, equation, values)
                    assert value.denominator == 1, (family.name, equation, values)


def test_families_have_unique_names_and_five_templates():
    names = [family.name for family in stories.FAMILIES]
    assert len(set(names)) == len(names)
    assert all(len(family.templates) >= 5 for family in stories.FAMILIES)
    texts = [texts for family in stories.FAMILIES for texts in family.templates]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("b + a", "number0 + number1"),
        ("b + a * c", "number0 * number2 + number1"),
        ("c - b + a", "number2 - number1 + number0"),
        ("c * (b + a)", "( number0 + number1 ) * number2"),
        ("b - a", "number1 - number0"),
        ("2 * b", "number1 * 2"),
    ],
)
def test_one_structure_has_one_surface(equation, expected):
    from src.algorithms.answers import to_infix

    tree = canonical(parse_letters(equation))
    assert to_infix(tree) == expected
    numbers = ("5", "7", "11")
    assert evaluate_expression(expected, numbers) == Fraction(
        evaluate_expression(re.sub("[abc]", lambda m: f"n{'abc'.index(m[0])}", equation), numbers)
    )


@pytest.mark.parametrize("text", ["[a|b", "a]", "a|b", "<a|b]"])
def test_unpaired_brackets_are_refused(text):
    with pytest.raises(TemplateError):
        compile_template(text)


def test_unknown_slot_and_missing_number_are_refused():
    def numbers(rng):
        return {"a": 3, "b": 2}

    def family(*texts):
        return [Family("new", numbers, [texts])]

    with pytest.raises(TemplateError, match="unknown slot"):
        ProceduralProblems("train", families=family("{N} has {a} {unicorns}.", "a", "How many?"))
    with pytest.raises(TemplateError, match="never gives"):
        ProceduralProblems("train", families=family("{N} has {a} {toys}.", "a - b", "How many?"))


def test_a_new_structure_needs_no_other_change():
    families = [
        Family(
            "double",
            lambda rng: {"a": rng.randint(2, 9)},
            [("{N} has {a} {toys}.", "a * 2", "What is twice that?")],
        )
    ]
    problem = ProceduralProblems("train", families=families, irrelevant_rate=0.0).problem(0)
    assert problem.equation == "number0 * 2"
    assert problem.answer == 2 * int(problem.numbers[0])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"split": "dev"}, "train, val, test"),
        ({"irrelevant_rate": 1.5}, "between 0 and 1"),
        ({"steps": [1, 1]}, "three weights"),
        ({"steps": [0, 0, 0]}, "three weights"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ProceduralProblems(**kwargs)
