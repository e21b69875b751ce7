"""Generated worlds: the equation answers the question over the numbers that the text tells."""

import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from src.algorithms.answers import evaluate, operands, to_infix
from src.datamodules import worlds
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


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[set[str], str]]:
    """Draw a story, and return the quantities that it tells and the one that it asks for."""
    told: list[tuple[set[str], str]] = []
    plain = worlds._tell

    def tell(rng: Any, scene: Any, values: Any, target: str, is_generous: bool) -> Any:
        known = plain(rng, scene, values, target, is_generous)
        told.append((set(known or ()), target))
        return known

    def made(rng: random.Random, scene: str) -> tuple[set[str], str]:
        make_story(rng, scene)
        return told[-1]  # of the last trial, which was good

    monkeypatch.setattr(worlds, "_tell", tell)
    return made


@pytest.mark.parametrize(
    ("scene", "state", "change"),
    [
        ("lose", "left", "got"), ("eat", "left", "got"), ("animals", "left", "got"),
        ("spend", "left", "got"), ("crowd", "stay", "on"), ("gain", "now", "got2"),
        ("goal", "rest", "more"), ("goal", "time", "more"), ("goal", "done", "more"),
    ],
)  # fmt: skip
def test_no_later_change_is_told_of_a_state_that_is_asked(draw, scene, state, change) -> None:
    rng = random.Random(3)
    asked = [draw(rng, scene) for _ in range(400)]
    assert any(change in known for known, _ in asked)
    assert any(target == state for _, target in asked)
    assert not any(change in known for known, target in asked if target == state)


def test_another_purchase_is_paid_from_the_same_money(draw) -> None:
    rng = random.Random(4)
    asked = [draw(rng, "shop") for _ in range(300)]
    with_other = [(known, target) for known, target in asked if "other" in known]
    assert with_other
    assert not any({"money", "left"} & {*known, target} for known, target in with_other)


def test_lengths_and_weights_have_one_unit() -> None:
    rng = random.Random(5)
    for _ in range(400):
        text = make_story(rng, "compare").text
        assert len(set(re.findall(r"\b(inches|feet|cm|meters|miles|pounds|kilograms)\b", text))) < 2


def test_hidden_numbers_fit_where_they_stand() -> None:
    rng = random.Random(6)
    texts = [make_story(rng).text for _ in range(3000)]
    assert any("a number of" in text for text in texts)
    for text in texts:
        assert not re.search(r"a number of( of\b| ?[.,?]| got\b)", text), text
        assert not re.search(r"another (some|a few|several|many|a number)\b", text), text


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
