"""Bindings: the answer is what a reader computes from the sentences, whichever scene tells them."""

import random
import re
from collections.abc import Iterator
from fractions import Fraction

import pytest

from src.algorithms.answers import evaluate, operands
from src.datamodules import bindings
from src.datamodules.bindings import make_binding, make_lookup
from src.datamodules.worlds import Story, sentences

LOST = re.compile(r"\b(lost|sold|gave|ate|threw|used|took)\b")


def told(scene: str, monkeypatch: pytest.MonkeyPatch, count: int) -> Iterator[tuple[Story, str]]:
    """Problems of one scene, and their questions."""
    monkeypatch.setattr(bindings, "_SCENES", [getattr(bindings, scene)])
    rng = random.Random(0)
    for _ in range(count):
        story = make_binding(rng)
        [question] = re.findall(r"How many [^?]*\?", story.text)
        yield story, question


def value(story: Story, name: str) -> int:
    return int(story.numbers[int(name[6:])])


def counted(text: str, thing: str) -> list[str]:
    return re.findall(rf"(number\d+) (?:more |of the )?{thing}\b", text)


def facts(story: Story) -> list[str]:
    return [s for s in sentences(story.text) if not s.endswith("?")]


def amount(story: Story, thing: str) -> int:
    """What a reader adds up for a thing, sentence by sentence."""
    return sum(
        (-1 if LOST.search(sentence) else 1) * value(story, number)
        for sentence in facts(story)
        for number in counted(sentence, thing)
    )


def is_right(story: Story, expected: int) -> bool:
    return evaluate(story.tree, story.numbers) == expected


def test_what_is_left_of_a_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = {True: 0, False: 0}
    for story, question in told("_changes", monkeypatch, 400):
        asked = re.fullmatch(
            r"How many (.+?) (?:does|did|are|were) [^?]*\b(now|left|end)\?", question
        )
        if asked is None or re.search(r"\b(and|than)\b", asked[1]):
            continue
        assert is_right(story, amount(story, asked[1])), story
        checked[any(map(LOST.search, facts(story)))] += 1
    assert min(checked.values()) > 30


def test_what_two_things_come_to(monkeypatch: pytest.MonkeyPatch) -> None:
    signs = set()
    for story, question in told("_changes", monkeypatch, 400):
        asked = re.match(r"How many (more |fewer |)(.+?) (and|than) (.+?) (?:does|are)\b", question)
        if asked is None:
            continue
        first, second = amount(story, asked[2]), amount(story, asked[4])
        expected = {"": first + second, "more ": first - second, "fewer ": second - first}[asked[1]]
        assert is_right(story, expected), story
        signs.add(asked[1])
    assert signs == {"", "more ", "fewer "}


def test_what_a_person_has_or_did(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = set()
    person = r"((?:Mr|Mrs)\. \w+|[A-Z]\w+)"
    for story, question in told("_owners", monkeypatch, 400):
        amounts: dict[str, int] = {}
        for clause in (c for sentence in facts(story) for c in re.split(r", | and ", sentence)):
            match = re.match(person, clause)
            number = re.search(r"number\d+", clause)
            assert match, clause
            assert number, clause
            sign = -1 if LOST.search(clause) and match[1] in amounts else 1
            amounts[match[1]] = amounts.get(match[1], 0) + sign * value(story, number[0])
        asked = re.findall(person, question.removeprefix("How many"))
        first, second = (amounts[name] for name in (*asked, asked[0])[:2])
        kind = re.match(r"How many (more|fewer)?", question)
        assert kind
        expected = {"more": first - second, "fewer": second - first}.get(kind[1], first + second)
        if len(asked) == 1:
            expected = first
        assert is_right(story, expected), (story, amounts)
        kinds.add((kind[1], len(asked)))
    assert kinds == {("more", 2), ("fewer", 2), (None, 2), (None, 1)}


def test_what_was_done_when(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = set()
    for story, question in told("_times", monkeypatch, 400):
        asked = re.fullmatch(
            r"How many (?:more )?(.+?)(?: (and|than) (.+?))? did ((?:Mrs?\. )?\w+) \w+ (.+)\?",
            question,
        )
        assert asked, question
        when = asked[5]
        if re.search(r"in all|in total|altogether", when):
            expected = sum(value(story, n) for s in facts(story) for n in counted(s, asked[1]))
        else:
            cells = []
            for time in when.split(" than "):
                [sentence] = [
                    s for s in facts(story) if re.search(rf"\b{time}\b", s, re.IGNORECASE)
                ]
                for thing in filter(None, (asked[1], asked[3])):
                    [number] = counted(sentence, thing)
                    cells.append(value(story, number))
            first, second = cells
            expected = first + second if asked[2] == "and" else first - second
        assert is_right(story, expected), story
        kinds.add(asked[2] or " than " in when)
    assert kinds == {"and", "than", True, False}


def test_how_many_are_in_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    operators = set()
    for story, question in told("_groups", monkeypatch, 300):
        asked = re.match(r"How many (\w+)(?: and (\w+))?", question)
        assert asked
        text = " ".join(facts(story))
        groups = {
            thing: int(value(story, number))
            for number, thing in re.findall(r"(number\d+) \w+ of (\w+)", text)
        }
        if groups:
            holds = re.findall(r"[Ee]ach \w+ of (\w+) holds (number\d+)", text)
            sizes = {thing: value(story, number) for thing, number in holds}
        else:
            each = re.findall(r"(number\d+) \w+ with (number\d+) (\w+) each", text)
            groups = {thing: value(story, number) for number, _, thing in each}
            sizes = {thing: value(story, number) for _, number, thing in each}
        if "equally" in text:
            [total] = counted(text, asked[1])
            put = re.search(rf"\bthe {asked[1]} equally among (number\d+)", text)
            assert put
            expected = Fraction(value(story, total), value(story, put[1]))
        elif asked[1] in bindings.CONTAINERS:
            expected = sum(groups.values())
        else:
            expected = groups[asked[1]] * sizes[asked[1]]
        assert is_right(story, expected), story
        operators.add(story.tree[0])
    assert operators == {"*", "/", "+"}


def test_numbers_are_named_in_order_and_answers_are_positive_and_whole() -> None:
    rng = random.Random(0)
    for _ in range(500):
        story = make_binding(rng)
        answer = evaluate(story.tree, story.numbers)
        assert answer > 0
        assert answer.denominator == 1
        named = [int(i) for i in re.findall(r"\bnumber(\d+)\b", story.text)]
        assert list(dict.fromkeys(named)) == list(range(len(story.numbers)))
        assert min(int(number) for number in story.numbers) >= 2


def test_the_first_two_numbers_do_not_do() -> None:
    rng = random.Random(2)
    stories = [make_binding(rng) for _ in range(300)]
    needed = [set(operands(story.tree)) for story in stories]
    assert sum(len(s.numbers) > len(n) for s, n in zip(stories, needed, strict=True)) > 150
    assert sum(names == {"number0", "number1"} for names in needed) < 100


def test_a_lookup_asks_for_the_number_before_its_noun() -> None:
    rng, numbers = random.Random(3), set()
    for _ in range(200):
        text, noun, number = make_lookup(rng)
        assert re.search(rf"\b{number} {noun}\b", text)
        assert text.count(f" {noun}") == 1
        numbers.add(number)
    assert numbers == {f"number{k}" for k in range(5)}


def test_equal_states_give_equal_problems() -> None:
    for make in (make_binding, make_lookup):
        assert make(random.Random(4)) == make(random.Random(4))
        assert make(random.Random(4)) != make(random.Random(5))
