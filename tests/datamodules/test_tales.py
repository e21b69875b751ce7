"""Tales: the file is well-formed, and what is told is what the equation needs."""

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from src.algorithms.answers import evaluate, operands, to_infix
from src.datamodules.readers import read_file
from src.datamodules.tales import TaleError, load_tales, make_tale, parse_tales
from src.datamodules.worlds import Story

ROOT = Path(__file__).parents[2]
EGGS = """# a comment
{N} bought {a} dozen {x=eggs|rolls} and [then |]{b} more.
a * 12 + b: How many {x} does {he} have?
a * 12 - b: How many more {x} were in the dozens?

{a} birds sat on [a wire|the fence]. {b} flew off after {c} minutes.
a - b: How many birds stayed?
"""


def check(story: Story) -> None:
    told = [int(i) for i in re.findall(r"\bnumber(\d+)\b", story.text)]
    assert set(told) == set(range(len(story.numbers)))
    assert list(dict.fromkeys(told)) == sorted(set(told)), "numbered in order of appearance"
    used = {leaf for leaf in operands(story.tree) if leaf.startswith("number")}
    assert {int(leaf[6:]) for leaf in used} <= set(told)
    value = evaluate(story.tree, story.numbers)
    assert value > 0
    assert value.denominator == 1
    assert story.text.endswith(story.question)
    assert not re.search(r"[\[\]{}|]|\s\s|(\ba|^A) (?!one|eu|ew)[aeio]", story.text), story.text
    first = story.text.lstrip('"$')
    assert first[0].isupper() or first.startswith("number")


def test_every_question_of_every_tale_can_be_told() -> None:
    rng = random.Random(0)
    for tale in load_tales():
        for question in tale.questions:
            check(make_tale(rng, [replace(tale, questions=(question,))]))
        asked = set()
        for _ in range(8 * len(tale.questions)):
            story = make_tale(rng, [tale])
            check(story)
            asked.add(story.question)
            if len(asked) > 1:
                break
        assert len(asked) > 1 or len(tale.questions) == 1, tale.body


def test_there_are_many_and_no_two_begin_alike() -> None:
    tales = load_tales()
    assert len(tales) > 1000
    bodies = [re.sub(r"\W+", " ", tale.body).strip().lower() for tale in tales]
    bodies = [body for body in bodies if body]  # a question may tell it all
    assert len(set(bodies)) == len(bodies)


def test_one_body_is_asked_in_many_ways() -> None:
    spare = 0
    rng = random.Random(0)
    for _ in range(1000):
        story = make_tale(rng)
        spare += len({x for x in operands(story.tree) if x[0] == "n"}) < len(story.numbers)
    assert 300 < spare < 900, "irrelevant quantities are common, and not the rule"
    assert sum(len(tale.questions) for tale in load_tales()) > 2 * len(load_tales())


def test_words_and_constants_are_those_of_the_file() -> None:
    eggs, birds = parse_tales(EGGS)
    rng = random.Random(0)
    equations = set()
    for _ in range(60):
        story = make_tale(rng, [eggs])
        check(story)
        equations.add(to_infix(story.tree))
        kinds = set(re.findall(r"eggs|rolls", story.text))
        assert len(kinds) == 1, "a word that is bound stays the same"
    assert equations == {"number0 * 12 + number1", "number0 * 12 - number1"}
    assert {"a wire", "the fence"} == {
        re.findall(r"a wire|the fence", make_tale(rng, [birds]).text)[0] for _ in range(20)
    }


def test_articles_fit_what_they_stand_before() -> None:
    words = "egg|hour glass|umbrella|used car|unicycle|one-way ticket|ukulele"
    text = f"A {{x={words}}} of {{a}} is in group A and a {{x}} of {{b}}.\na + b: How many?"
    rng, told = random.Random(0), set()
    for _ in range(60):
        told.update(
            re.findall(
                r"\b[Aa]n? (?=egg|hour|umb|use|uni|one|uk|and)\w+",
                make_tale(rng, parse_tales(text)).text,
            )
        )
    assert told == {"An egg", "an egg", "An hour", "an hour", "An umbrella", "an umbrella"} | {
        f"{article} {word}" for article in "Aa" for word in ("used", "unicycle", "one", "ukulele")
    } | {"A and"}


def test_equal_states_give_equal_tales() -> None:
    first, second = random.Random(5), random.Random(5)
    assert [make_tale(first) for _ in range(30)] == [make_tale(second) for _ in range(30)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a} birds and {b} cats.", "no question"),
        ("{a} birds.\nHow many?", "expected 'equation: question'"),
        ("{a} birds.\na +: How many?", "no equation"),
        ("{a} birds.\na: How many?", "nothing is calculated"),
        ("{a} birds.\na + b: How many?", "does not give"),
        ("{a} birds and {b} {x}.\na + b: How many?", "unknown slots"),
        ("{a} [birds and {b}.\na + b: How many?", "brackets"),
    ],
)
def test_a_tale_that_is_wrong_is_quoted(text: str, message: str) -> None:
    with pytest.raises(TaleError, match=message):
        parse_tales(text)


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]{3,}", re.sub(r"\{[^{}]*\}|number\d+", " ", text.lower())))


def test_no_tale_resembles_those_that_measure_unseen_wordings() -> None:
    problems, _ = read_file(ROOT / "benchmarks" / "unseen_tales.json")
    assert len(problems) == 369
    told = {words(problem.question) for problem in problems}
    bodies = [words(tale.body) for tale in load_tales()]
    for body in bodies:
        for text in told:
            common = len(body & text)
            assert common < 8 or 3 * common < 2 * len(body), (sorted(body), sorted(text))
