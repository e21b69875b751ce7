"""Retelling: the wording changes, the solution does not."""

import random
import re

import pytest

from src.algorithms.answers import evaluate, operands, to_infix
from src.datamodules import retelling
from src.datamodules.retelling import (
    beside,
    beside_same,
    double,
    interrupt,
    question_first,
    question_joined,
    rename,
    retell_tale,
    swap_sentences,
)
from src.datamodules.worlds import Story


def story(text: str, tree: object, *numbers: str) -> Story:
    return Story(text, numbers, tree, re.split(r"(?<=\.) ", text)[-1], "tale")  # type: ignore[arg-type]


KITES = story(
    "Ann has number0 kites in a box. Ben has number1 drums on a shelf. "
    "Ann lost number2 of the kites. How many kites does Ann have?",
    ("-", "number0", "number2"), "9", "4", "2",
)  # fmt: skip


def test_what_is_counted_becomes_something_else_everywhere() -> None:
    told = rename(KITES, random.Random(0))
    assert told is not None
    assert not re.search(r"\b(kites|drums|kite|drum)\b", told.text + told.question)
    first, other = re.findall(r"number[01] (\w+)", told.text)
    assert first != other
    assert told.text == KITES.text.replace("kites", first).replace("drums", other)
    assert told.question.count(first) == 1
    assert (told.tree, told.numbers) == (KITES.tree, KITES.numbers)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("Ann ran number0 minutes and number1 hours. How long?", ("+", "number0", "number1")),
        ("A dozen eggs cost $number0. Ann has number1 eggs.", ("*", "number0", "12")),
    ],
    ids=["units", "a number that a word implies"],
)  # fmt: skip
def test_a_noun_that_matters_stays(text: str, tree: object) -> None:
    assert rename(story(text, tree, "3", "5"), random.Random(0)) is None


def test_the_article_follows_the_noun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retelling, "counted_nouns", lambda: ("owls",))
    text = "number0 kites flew. A boy held a kite. How many kites were there?"
    told = rename(story(text, ("+", "number0", "number0"), "3"), random.Random(0))
    assert told is not None
    assert told.text == "number0 owls flew. A boy held an owl. How many owls were there?"


def test_an_article_keeps_its_capital(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retelling, "counted_nouns", lambda: ("owls",))
    text = "number0 kites flew. A kite fell. How many kites were there?"
    told = rename(story(text, ("+", "number0", "number0"), "3"), random.Random(0))
    assert told is not None
    assert "An owl fell." in told.text


def test_a_sentence_of_another_tale_brings_its_numbers() -> None:
    other = story(
        "A tray holds number0 cups. It is red. A map costs $number1. How much is it?",
        ("+", "number0", "number1"), "70", "80",
    )  # fmt: skip
    texts = set()
    for seed in range(40):
        told = interrupt(KITES, other, random.Random(seed))
        assert told is not None
        assert "It is red" not in told.text
        assert told.text.endswith(KITES.question)
        assert evaluate(told.tree, told.numbers) == 7
        assert sorted(set(told.numbers) - set(KITES.numbers)) in (["70"], ["80"])
        named = [int(k) for k in re.findall(r"number(\d)", told.text)]
        assert named == list(range(4))
        texts.add(told.text)
    assert len(texts) == 8, "two sentences in four places"


def tellings(rule, *args: object, count: int = 60) -> list[Story]:
    made = (rule(*args, random.Random(seed)) for seed in range(count))
    return [told for told in made if told is not None]


def test_two_things_are_told_and_one_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retelling, "counted_nouns", lambda: ("owls", "owls", "owls"))
    text = (
        "Ann had number0 kites. She lost number1 of them on number2 days. How many kites were left?"
    )
    given = story(text, ("-", "number0", "number1"), "9", "4", "3")
    asked = {}
    for told in tellings(double, given):
        assert set(operands(told.tree)) <= {f"number{k}" for k in range(5)}
        pairs = re.findall(r"number(\d) (?:of the )?(kites|owls)", told.text)
        thing = "owls" if told.text.endswith("How many owls were left?") else "kites"
        had, lost = (told.numbers[int(k)] for k, noun in pairs if noun == thing)
        assert evaluate(told.tree, told.numbers) == int(had) - int(lost) > 0
        other = {noun: int(told.numbers[int(k)]) for k, noun in reversed(pairs) if noun != thing}
        lost_of_other = [int(told.numbers[int(k)]) for k, noun in pairs if noun != thing][1]
        assert all(count > lost_of_other for count in other.values()), (
            "no more is lost than was had"
        )
        assert "on number4 days" in told.text
        asked[thing] = told
    assert asked.keys() == {"owls", "kites"}
    assert {asked["kites"].numbers[k] for k in range(2)} >= {"9"}


def test_a_number_told_twice_has_one_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retelling, "counted_nouns", lambda: ("owls", "owls", "owls"))
    text = (
        "Ann lost number0 kites of her number1 kites. She cried for number0 kites. How many kites?"
    )
    for told in tellings(double, story(text, ("-", "number1", "number0"), "4", "9")):
        assert len(told.numbers) == 4
        lost, _, cried_for = (
            set(re.findall(r"number\d", part)) for part in re.split("her|cried", told.text)
        )
        assert lost == cried_for
        assert len(lost) == 2


@pytest.mark.parametrize(
    "text",
    [
        "Ann had number0 kites and number1 drums. How many things had she in all?",
        "Ann had number0 kites and lost number1. A kite costs number2 cents. How many kites now?",
        "Ann had number0 kites. She lost number1 and has number2 hats. How many kites has she?",
        "Ann had number0 kites, number1 more than Bo. How many kites had Bo?",
    ],
    ids=["a sum", "a single one is told of", "a bare number may count either", "compared"],
)  # fmt: skip
def test_what_cannot_be_told_of_two_things_is_left(text: str) -> None:
    tree = ("-", "number0", "number1")
    assert not tellings(double, story(text, tree, "9", "4", "3"))


def test_another_tale_of_the_same_persons_stands_beside() -> None:
    other = story(
        "Ann read number0 pages on Monday. She read number1 on Tuesday. How many pages was that?",
        ("+", "number0", "number1"), "70", "80",
    )  # fmt: skip
    texts = set()
    for told in tellings(beside, KITES, other):
        assert evaluate(told.tree, told.numbers) == 7
        assert told.text.count("pages") == 1, "its question is not asked"
        assert set(told.numbers) == {"9", "4", "2", "70", "80"}
        texts.add(told.text)
    assert len(texts) == 2
    alike = story("Ann sold number0 kites. How many kites are there?", "number0", "70")
    assert not tellings(beside, KITES, alike), "which kites?"


def test_the_same_is_told_of_another_person() -> None:
    text = "{} had number0 kites in March. {} gave away number1. How many kites did {} have?"
    tree = ("-", "number0", "number1")
    ann, bob = (
        dict(zip(("N", "M", "P"), names, strict=True))
        for names in (("Ann", "Mia", "Zoe"), ("Bob", "Tom", "Leo"))
    )
    first = story(text.format("Ann", "She", "Ann"), tree, "9", "4")
    second = story(text.format("Bob", "He", "Bob"), tree, "80", "50")
    for told in tellings(lambda rng: beside_same(first, second, ann, bob, rng)):
        assert evaluate(told.tree, told.numbers) == 5
        assert told.text.endswith("How many kites did Ann have?")
        assert "Bob had" in told.text
        assert set(told.numbers) == {"9", "4", "80", "50"}
    unnamed = story(text.format("Ann", "She", "she"), tree, "9", "4")
    assert not tellings(lambda rng: beside_same(unnamed, second, ann, bob, rng))
    assert tellings(lambda rng: beside_same(first, second, ann, bob, rng))


def test_sentences_that_do_not_lean_change_places() -> None:
    told = swap_sentences(KITES, random.Random(0))
    assert told is not None
    assert told.text.startswith("Ben has number0 drums on a shelf. Ann has number1 kites in a box.")
    assert told.numbers == ("4", "9", "2")
    assert to_infix(told.tree) == "number1 - number2"
    leaning = "Ann has number0 kites. She finds number1 more kites. How many kites are there?"
    assert (
        swap_sentences(story(leaning, ("+", "number0", "number1"), "1", "2"), random.Random(0))
        is None
    )


def test_the_question_comes_first_unless_it_points_back() -> None:
    told = question_first(KITES)
    assert told is not None
    assert told.text.startswith("How many kites does Ann have? Ann has number0 kites")
    pointing = "Ann has number0 kites and number1 drums. How many things does she have?"
    assert question_first(story(pointing, ("+", "number0", "number1"), "1", "2")) is None


def test_the_last_fact_and_the_question_become_one_sentence() -> None:
    text = "Ann had number0 kites. {} How many kites were left?"
    tree = ("-", "number0", "number1")

    def joined(last: str) -> set[str]:
        given = story(text.format(last), tree, "9", "4")
        made = (question_joined(given, random.Random(seed)) for seed in range(20))
        return {told.text.removeprefix("Ann had number0 kites. ") for told in made if told}

    assert joined("Mr. Bell took number1.") == {
        "If Mr. Bell took number1, how many kites were left?",
        "Mr. Bell took number1, so how many kites were left?",
        "Mr. Bell took number1 - how many kites were left?",
    }
    assert "If she gave number1 away, how many kites were left?" in joined(
        "Then she gave number1 away."
    )
    assert not joined("If she gives number1 away, she cries.")
    assert not joined("How sad! number1 broke!")


def test_whatever_is_told_is_well_formed() -> None:
    rng = random.Random(1)
    for _ in range(3000):
        told = retell_tale(rng)
        named = list(dict.fromkeys(int(k) for k in re.findall(r"\bnumber(\d+)\b", told.text)))
        assert named == list(range(len(told.numbers))), told.text
        used = {leaf for leaf in operands(told.tree) if leaf.startswith("number")}
        assert {int(leaf[6:]) for leaf in used} <= set(named)
        value = evaluate(told.tree, told.numbers)
        assert value > 0
        assert value.denominator == 1
        assert not re.search(r"\s\s| [.,?]", told.text.replace(" - ", ""))
