"""Bindings: every number has its owner, and the question needs some of them."""

import random
import re

from src.algorithms.answers import evaluate, operands, to_infix
from src.datamodules.bindings import make_binding, make_lookup


def test_answers_are_positive_whole_numbers_and_numbers_are_in_order() -> None:
    rng = random.Random(0)
    for _ in range(500):
        story = make_binding(rng)
        value = evaluate(story.tree, story.numbers)
        assert value > 0
        assert value.denominator == 1
        named = [int(i) for i in re.findall(r"\bnumber(\d+)\b", story.text)]
        assert list(dict.fromkeys(named)) == list(range(len(story.numbers)))
        assert set(operands(story.tree)) <= {f"number{i}" for i in named}
        assert story.text.count("?") == 1


def test_the_equation_takes_the_numbers_of_what_is_asked() -> None:
    """Told "A n x and m y" and "lost": the difference is that of the thing in the question."""
    rng, checked = random.Random(1), set()
    while len(checked) < 60:
        story = make_binding(rng)
        *_, question = re.split(r"(?<=[.?]) ", story.text)
        asked = re.fullmatch(r"How many (?:[a-z]+ )?(\w+) does s?he have now\?", question)
        counted = dict(re.findall(r"(number\d+) (?:more |of the )?(\w+)", story.text))
        nouns = set(counted.values())
        if asked is None or asked[1] not in nouns or re.search(r"\b(each|of them)\b", story.text):
            continue
        if len(counted) < len(story.numbers) or len(nouns) < 2:
            continue
        wanted = {name for name, noun in counted.items() if noun == asked[1]}
        assert set(operands(story.tree)) == wanted, (story.text, to_infix(story.tree))
        checked.add(story.text)


def test_most_numbers_told_are_needed_by_some_other_question() -> None:
    rng = random.Random(2)
    stories = [make_binding(rng) for _ in range(300)]
    spare = [len(s.numbers) - len(set(operands(s.tree))) for s in stories]
    assert sum(k > 0 for k in spare) > 150
    first = [set(operands(s.tree)) == {"number0", "number1"} for s in stories]
    assert sum(first) < 100, "the first two numbers must not do"


def test_a_lookup_asks_for_the_number_before_its_noun() -> None:
    rng, numbers = random.Random(3), set()
    for _ in range(200):
        told, noun, number = make_lookup(rng)
        assert re.search(rf"\b{number} {noun}\b", told)
        assert told.count(f" {noun}") == 1
        numbers.add(number)
    assert numbers == {f"number{k}" for k in range(5)}


def test_equal_states_give_equal_problems() -> None:
    for make in (make_binding, make_lookup):
        assert make(random.Random(4)) == make(random.Random(4))
        assert make(random.Random(4)) != make(random.Random(5))
