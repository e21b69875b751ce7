"""Problems that tell of several things side by side, and the finding of the number of one.

Decides how ``t5_mini`` learns which number belongs to what. Numbers stand in a table of persons or
times by things; all are told and the question needs a few, so that words have to be matched: *"Ann
had 3 kites and 5 drums. She lost 2 kites and 4 drums. How many drums does she have now?"*. What is
told matters little and may be absurd; who, what and when are drawn anew each time, so that no
wording gives the answer away. Matching is learned within some hundred steps from
:func:`make_lookup`, which asks for one number by its noun and nothing else, and was not learned in
as many from problems alone (a plateau that in-context matching is known for: Olsson et al. 2022,
arXiv 2209.11895).

Left out on purpose: anything in which the numbers that matter depend on more than equal words.
That is what tales and worlds are for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

from src.algorithms.answers import Expression, operands
from src.datamodules.retelling import counted_nouns, told_in_order
from src.datamodules.tales import draw_persons
from src.datamodules.worlds import DAYS, TIMES, Story, capitals

ADJECTIVES = """
red blue green yellow white black big small new old wooden round long short striped spotted plain
gold silver
""".split()
CONTAINERS = {
    "boxes": "box", "bags": "bag", "packs": "pack", "baskets": "basket", "jars": "jar",
    "bundles": "bundle", "crates": "crate", "packets": "packet", "cartons": "carton",
}  # fmt: skip
PLACES = """
box basket drawer kitchen garden park shop garage classroom library room barn yard bag bucket truck
cupboard forest market
""".split()
ACTS = {
    "bought": "buy", "found": "find", "picked": "pick", "collected": "collect", "made": "make",
    "saw": "see", "sold": "sell", "ate": "eat", "used": "use", "counted": "count", "won": "win",
    "painted": "paint", "carried": "carry", "packed": "pack", "ordered": "order",
    "washed": "wash", "read": "read", "brought": "bring", "needed": "need",
}  # fmt: skip
HOLDING = "bought found picked collected made won".split()  # after which one has the things
GAINS = "bought|found|got|picked|collected|made|won|received|was given|brought".split("|")
LOSSES = "lost|sold|gave away|ate|threw away|used|used up|gave a friend".split("|")
MOST = 60  # of a thing
# Words on s that the tales count but that are no things, or that measure one.
_NO_THINGS = set(
    """
    comes goes gets holds costs needs heats upstairs tens minus
    kilos litres millilitres metres kilometres milligrams
    """.split()
)

_Told = tuple[list[str], str, Expression]
_Item = TypeVar("_Item")


class _Numbers:
    """The numbers of a problem, in the order in which they are drawn."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.values = rng, list[int]()

    def name(self, value: int) -> str:
        self.values.append(value)
        return f"number{len(self.values) - 1}"

    def draw(self, low: int = 2, high: int = MOST) -> tuple[str, int]:
        value = self.rng.randint(low, high)
        return self.name(value), value


@dataclass
class _Quantity:
    """How many there are by now, and how that is calculated."""

    tree: Expression
    value: int
    num_changes: int = 0

    def change(self, numbers: _Numbers, is_gain: bool) -> str | None:
        """Gain or lose some; returns the name of how many, or None if there are too few."""
        if not is_gain and self.value < 3:
            return None
        name, value = numbers.draw(2, MOST if is_gain else self.value - 1)
        self.tree = ("+" if is_gain else "-", self.tree, name)
        self.value += value if is_gain else -value
        self.num_changes += 1
        return name


def make_binding(rng: random.Random) -> Story:
    """Draw a problem that tells of several things, persons or times side by side.

    Args:
        rng: The source of all choices: equal states give equal problems.

    Returns:
        The problem. Its answer is a positive whole number.
    """
    while True:
        numbers = _Numbers(rng)
        told = rng.choice(_SCENES)(rng, numbers)
        if told is not None:
            return _story(rng, *told, numbers.values)


def make_lookup(rng: random.Random) -> tuple[str, str, str]:
    """Draw a list of counted things, and one of them.

    Args:
        rng: The source of all choices.

    Returns:
        What is told, with masked numbers; the noun; the name of its number.
    """
    nouns = rng.sample(_nouns(), rng.randint(2, 5))
    parts = [f"number{k} {noun}" for k, noun in enumerate(nouns)]
    person, act = draw_persons(rng)["N"], rng.choice([*ACTS, "had", "has"])
    told = rng.choice(
        [
            f"{person} {act} {_listed(parts, rng)}.",
            f"There are {' and '.join(parts)}.",
            " ".join(f"{person} {act} {part}." for part in parts),
        ]
    )
    k = rng.randrange(len(nouns))
    return told, nouns[k], f"number{k}"


def _changes(rng: random.Random, numbers: _Numbers) -> _Told | None:
    """Someone has things, or they are somewhere; some come and go."""
    persons, things = draw_persons(rng), _things(rng)
    name, he = persons["N"], persons["he"]
    place = rng.choice(PLACES) if rng.random() < 0.3 else None
    counts = [_Quantity(*numbers.draw()) for _ in things]
    parts = [f"{count.tree} {thing}" for count, thing in zip(counts, things, strict=True)]
    parts = _shuffled(parts, rng)
    if place:
        told = [f"There {rng.choice(['are', 'were'])} {_listed(parts, rng)} in the {place}."]
    elif rng.random() < 0.25:
        told = [f"{name if k == 0 else he} had {part}." for k, part in enumerate(parts)]
    else:
        has = rng.choice(["has", "had", "owns", "started with", "bought", "collected"])
        told = [f"{name} {has} {_listed(parts, rng)}."]
    num_changes, is_gain = rng.choice([0, 1, 1, 1, 2]), True
    for _ in range(num_changes):
        is_gain = rng.random() < 0.5
        some = [k for k in range(len(things)) if rng.random() < 0.8]
        parts = []
        for k in _shuffled(some or [rng.randrange(len(things))], rng):
            number = counts[k].change(numbers, is_gain)
            if number is None:
                return None
            # What was lost at a place must have been there.
            of_the = "of the " if place else rng.choice(["of the ", "", ""])
            parts.append(f"{number} {rng.choice(['more ', '']) if is_gain else of_the}{things[k]}")
        told.append(_changing(rng, persons, is_gain, _listed(parts, rng), place is not None))
    now = " now" if num_changes else ""
    k = rng.randrange(len(things))
    if counts[k].num_changes and rng.random() < 0.6:
        forms = [f"does {he} have now", f"did {he} have in the end", f"does {name} have now"]
        if place:
            forms = ["are there now", f"are in the {place} now", "were there in the end"]
        elif not is_gain:
            forms.append(f"did {name} have left")
        return told, f"How many {things[k]} {rng.choice(forms)}?", counts[k].tree
    j = rng.choice([j for j in range(len(things)) if j != k])
    if counts[j].num_changes + counts[k].num_changes > 2:
        return None
    has = "are there" if place else rng.choice([f"does {he} have", f"does {name} have"])
    if rng.random() < 0.4:
        together = rng.choice([" in all", " in total", " altogether", ""])
        question = f"How many {things[k]} and {things[j]} {has}{now}{together}?"
        return told, question, ("+", counts[k].tree, counts[j].tree)
    if counts[k].value == counts[j].value:
        return None
    more, less = (k, j) if counts[k].value > counts[j].value else (j, k)
    compared = rng.choice(
        [f"more {things[more]} than {things[less]}", f"fewer {things[less]} than {things[more]}"]
    )
    tree = ("-", counts[more].tree, counts[less].tree)
    return told, f"How many {compared} {has}{now}?", tree


def _changing(
    rng: random.Random, persons: dict[str, str], is_gain: bool, what: str, is_place: bool
) -> str:
    name, he = persons["N"], persons["he"]
    if is_place:
        gains = [f"put {what} there", f"added {what}"]
        losses = [f"took {what} out", f"took away {what}", f"ate {what}", f"used up {what}"]
        return f"{name} {rng.choice(gains if is_gain else losses)}."
    verb = rng.choice(GAINS if is_gain else LOSSES)
    if not is_gain and persons["he2"] != he and rng.random() < 0.15:
        verb = f"gave {persons['M']}"
    who = rng.choice([he, he, name, f"then {he}", f"later {he}", f"then {name}"])
    return f"{who} {verb} {what}."


def _owners(rng: random.Random, numbers: _Numbers) -> _Told | None:
    """Several persons have or do the same; each may gain or lose some."""
    people = list(dict.fromkeys(draw_persons(rng)["N"] for _ in range(rng.choice([2, 3]))))
    if len(people) < 2:
        return None
    thing, act = rng.choice(_things(rng)), rng.choice([*ACTS, *["has"] * len(ACTS)])
    counts = [_Quantity(*numbers.draw()) for _ in people]
    clauses = [
        (f"{person} {act} {count.tree} {thing}", f"{person} {count.tree}")
        for person, count in zip(people, counts, strict=True)
    ]
    told, now = _each_told(rng, clauses), ""
    if act in ("has", *HOLDING) and rng.random() < 0.7:
        is_gain = rng.random() < 0.5
        verb, now = rng.choice(GAINS if is_gain else LOSSES), " now"
        clauses = []
        for person, count in zip(people, counts, strict=True):
            number = count.change(numbers, is_gain)
            if number is None:
                return None
            which = rng.choice([" more", ""] if is_gain else [" of them", ""])
            clauses.append((f"{person} {verb} {number}{which}",) * 2)
        told += _each_told(rng, clauses)
        if act != "has" or rng.random() < 0.6:
            k = rng.randrange(len(people))
            has = rng.choice([f"does {people[k]} have now", f"did {people[k]} have in the end"])
            return told, f"How many {thing} {has}?", counts[k].tree
    k, j = rng.sample(range(len(people)), 2)
    do, does, stem = ("do", "does", "have") if act == "has" else ("did", "did", ACTS[act])
    if rng.random() < 0.5:
        together = rng.choice(["together", "in all", "altogether"])
        question = f"How many {thing} {do} {people[k]} and {people[j]} {stem}{now} {together}?"
        return told, question, ("+", counts[k].tree, counts[j].tree)
    if counts[k].value == counts[j].value:
        return None
    more, less = (k, j) if counts[k].value > counts[j].value else (j, k)
    question = rng.choice(
        [
            f"How many more {thing} {does} {people[more]} {stem}{now} than {people[less]}?",
            f"How many fewer {thing} {does} {people[less]} {stem}{now} than {people[more]}?",
        ]
    )
    return told, question, ("-", counts[more].tree, counts[less].tree)


def _times(rng: random.Random, numbers: _Numbers) -> _Told | None:
    """Someone does something with two things at several times."""
    persons, things, act = draw_persons(rng), _things(rng)[:2], rng.choice(list(ACTS))
    name, he, stem = persons["N"], persons["he"], ACTS[act]
    days = [f"on {day.capitalize()}" for day in rng.sample(DAYS, rng.choice([2, 3]))]
    times = days if rng.random() < 0.6 else list(rng.choice(TIMES))
    cells = [[numbers.draw() for _ in things] for _ in times]
    told = []
    for k, (time, row) in enumerate(zip(times, cells, strict=True)):
        parts = [f"{number} {thing}" for (number, _), thing in zip(row, things, strict=True)]
        what = _listed(_shuffled(parts, rng) if rng.random() < 0.3 else parts, rng)
        who = he if k else name
        told.append(
            rng.choice([f"{who} {act} {what} {time}.", f"{time} {who} {act} {what}."])
            if rng.random() < 0.7
            else f"{time}, {who} {act} {what}."
        )
    kind, t, i = rng.random(), rng.randrange(len(times)), rng.randrange(2)
    if kind < 0.2:
        tree: Expression = cells[0][i][0]
        for row in cells[1:]:
            tree = ("+", tree, row[i][0])
        together = rng.choice(["in all", "in total", "altogether"])
        return told, f"How many {things[i]} did {he} {stem} {together}?", tree
    if kind < 0.35:
        question = f"How many {things[0]} and {things[1]} did {name} {stem} {times[t]}?"
        return told, question, ("+", cells[t][0][0], cells[t][1][0])
    if kind < 0.65:
        if cells[t][i][1] <= cells[t][1 - i][1]:
            return None
        question = f"How many more {things[i]} than {things[1 - i]} did {he} {stem} {times[t]}?"
        return told, question, ("-", cells[t][i][0], cells[t][1 - i][0])
    s = rng.choice([s for s in range(len(times)) if s != t])
    if cells[t][i][1] <= cells[s][i][1]:
        return None
    question = f"How many more {things[i]} did {name} {stem} {times[t]} than {times[s]}?"
    return told, question, ("-", cells[t][i][0], cells[s][i][0])


def _groups(rng: random.Random, numbers: _Numbers) -> _Told | None:
    """Two things are in containers of two kinds, as many in each, or are divided among them."""
    persons, things = draw_persons(rng), rng.sample(_nouns(), 2)
    name, he = persons["N"], persons["he"]
    boxes = rng.sample(list(CONTAINERS), 2)
    if rng.random() < 0.5:
        boxes[1] = boxes[0]
    is_same = boxes[0] == boxes[1]
    both = _shuffled([0, 1], rng)
    i = rng.randrange(2)
    counts, sizes = ([numbers.draw(2, 20) for _ in things] for _ in range(2))
    if rng.random() < 0.35:
        totals = [numbers.name(counts[k][1] * sizes[k][1]) for k in both]
        parts = [f"{total} {things[k]}" for total, k in zip(totals, both, strict=True)]
        told = [
            f"{name} has {_listed(parts, rng)}.",
            f"{he} divides the {things[0]} equally among {counts[0][0]} {boxes[0]} and the "
            f"{things[1]} equally among {counts[1][0]} {boxes[1]}.",
        ]
        where = rng.choice(["are in", f"did {he} put into"])
        question = f"How many {things[i]} {where} each {CONTAINERS[boxes[i]]}?"
        return told, question, ("/", totals[both.index(i)], counts[i][0])
    has = rng.choice(["has", "bought", "filled", "packed"])
    if rng.random() < 0.5:
        told = [
            f"{name} {has} "
            + _listed([f"{counts[k][0]} {boxes[k]} of {things[k]}" for k in both], rng)
            + ".",
            " and ".join(
                f"each {CONTAINERS[boxes[k]]} of {things[k]} holds {sizes[k][0]}"
                for k in _shuffled(both, rng)
            )
            + ".",
        ]
    else:
        told = [
            f"{name} {has} {counts[k][0]} {boxes[k]} with {sizes[k][0]} {things[k]} each."
            for k in both
        ]
    if rng.random() < 0.25:
        what = boxes[0] if is_same else f"{boxes[0]} and {boxes[1]}"
        return told, f"How many {what} does {name} have in all?", ("+", counts[0][0], counts[1][0])
    there = rng.choice([f"does {name} have", "are there", "are there in all"])
    return told, f"How many {things[i]} {there}?", ("*", counts[i][0], sizes[i][0])


_SCENES: list[Callable[[random.Random, _Numbers], _Told | None]] = [
    _changes, _changes, _changes, _owners, _owners, _times, _times, _groups,
]  # fmt: skip


@cache
def _nouns() -> tuple[str, ...]:
    kept = (noun for noun in counted_nouns() if noun not in _NO_THINGS | CONTAINERS.keys())
    return tuple(kept)


def _things(rng: random.Random) -> list[str]:
    """Draw two or three things that are told apart by a noun, an adjective or both."""
    num = rng.choice([2, 2, 2, 3])
    nouns, adjectives = rng.sample(_nouns(), num), rng.sample(ADJECTIVES, num)
    kind = rng.random()
    if kind < 0.2:
        return [f"{adjective} {nouns[0]}" for adjective in adjectives]
    if kind < 0.3:
        return [f"{adjective} {noun}" for adjective, noun in zip(adjectives, nouns, strict=True)]
    if kind < 0.4:
        container = rng.choice(list(CONTAINERS))
        return [f"{container} of {noun}" for noun in nouns]
    return nouns


def _each_told(rng: random.Random, clauses: Sequence[tuple[str, str]]) -> list[str]:
    """Tell clauses in any order, in one sentence or in one each; the second form may omit words."""
    clauses = _shuffled(clauses, rng)
    if rng.random() < 0.6:
        return [f"{full}." for full, _ in clauses]
    first, *rest = clauses
    parts = [first[0], *(full if rng.random() < 0.7 else short for full, short in rest)]
    return [" and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]])) + "."]


def _listed(parts: Sequence[str], rng: random.Random) -> str:
    if rng.random() < 0.1:
        return (" and " if rng.random() < 0.5 else " as well as ").join(parts)
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _shuffled(items: Sequence[_Item], rng: random.Random) -> list[_Item]:
    return rng.sample(items, len(items))


def _story(
    rng: random.Random, told: list[str], question: str, tree: Expression, values: Sequence[int]
) -> Story:
    # A question that says when ("now"), as all do after a change, must come after it.
    is_first = rng.random() < 0.08 and not re.search(r"\b(s?he|now|left|end)\b", question)
    parts = [question, *told] if is_first else [*told, question]
    assert set(operands(tree)) <= set(re.findall(r"\bnumber\d+\b", " ".join(parts)))
    story = Story("", (), tree, capitals(question), "binding")
    story = told_in_order(story, parts, [str(value) for value in values])
    return replace(story, text=capitals(story.text))
