"""Generated worlds: the equation answers the question over the numbers that the text tells."""

import random
import re

import pytest

from src.algorithms.answers import evaluate, operands, to_infix
from src.datamodules.worlds import SCENES, make_story


@pytest.mark.parametrize("scene", sorted(SCENES))
def test_every_world_tells_what_its_equation_needs(scene: str) -> None:
    rng = random.Random(scene)
    for _ in range(40):
        story = make_story(rng, scene)
        told = [int(i) for i in re.findall(r"\bnumber(\d+)\b", story.text)]
        assert set(told) == set(range(len(story.numbers)))
        assert list(dict.fromkeys(told)) == sorted(set(told)), "numbered in order of appearance"
        assert {int(leaf[6:]) for leaf in operands(story.tree)} <= set(told)
        value = evaluate(story.tree, story.numbers)
        assert value > 0
        assert value.denominator == 1
        assert story.text.endswith(story.question)
        assert not re.search(r"[\[\]{}@#|]", story.text), story.text


def test_equal_states_give_equal_stories() -> None:
    first, second = random.Random(5), random.Random(5)
    assert [make_story(first) for _ in range(30)] == [make_story(second) for _ in range(30)]


def test_one_world_is_asked_in_many_ways() -> None:
    rng = random.Random(0)
    equations = {to_infix(make_story(rng, "lose").tree) for _ in range(300)}
    assert {"number0 - number1", "number0 + number1", "number1 - number0"} <= equations


def test_some_quantities_are_told_and_not_needed() -> None:
    rng = random.Random(0)
    stories = [make_story(rng) for _ in range(400)]
    spare = sum(len(set(operands(s.tree))) < len(s.numbers) for s in stories)
    assert 0.15 < spare / len(stories) < 0.7


def test_raw_text_has_the_numbers_written_out() -> None:
    story = make_story(random.Random(1), "shop")
    assert "number" not in re.sub(r"(the|a) number", "", story.raw)
    assert all(number in story.raw for number in story.numbers)
