"""Short tales with several questions each: the wordings that ``t5_mini`` learns language from.

Decides how a tale of ``tales.txt`` becomes a problem. ``worlds.py`` has few sentences and combines
them freely; here every story is whole, with a wording of its own, and what varies is what is asked,
who and what it is about, and the numbers. As one body is told with many questions, of which each
uses only some of its numbers, the question must be read (question sensitivity and irrelevant
quantities: Patel et al. 2021, arXiv 2103.07191, Sec. 4). No tale was written after a problem of a
test set.

The file: tales are separated by blank lines; lines that begin with ``#`` are comments. The first
line of a tale is its body, every other line ``equation: question`` over the letters of its numbers.
In both:

- ``{a}`` ... ``{h}`` numbers; ``{N} {M} {P}`` names, ``{he} {him} {his}`` the pronouns of N,
  ``{he2} {him2} {his2}`` of M;
- ``{x=apples|pears}`` one of the words, which ``{x}`` then repeats, in the questions too;
- ``[x|y|z]`` one of the alternatives, which may nest and may be empty.

An equation has ``+ - * /``, brackets, and whole numbers that the wording implies (a dozen).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from src.algorithms.answers import Expression, ExpressionError, operands, parse_infix
from src.datamodules.worlds import HER, HIM, Story, capitals, expand, in_order, sentences

FILE = Path(__file__).with_name("tales.txt")
LETTERS = "abcdefgh"
_SLOT = re.compile(r"\{(\w+)(?:=([^{}]*))?\}")
_PERSONS = {"N", "M", "P", "he", "him", "his", "he2", "him2", "his2"}


class TaleError(ValueError):
    """A tale that is not well-formed."""


@dataclass(frozen=True)
class Tale:
    """One body with its questions.

    Attributes:
        body: In the language of this module; may be empty.
        questions: (equation over ``number0`` for ``a`` and so on, question).
        factors: Letters that are multiplied or divided by, and so are small.
    """

    body: str
    questions: tuple[tuple[Expression, str], ...]
    factors: frozenset[str]


def parse_tales(text: str) -> list[Tale]:
    """Read tales.

    Args:
        text: In the form of this module's docstring.

    Returns:
        The tales in order.

    Raises:
        TaleError: If one has no question, an equation cannot be read or uses a number that its text
            does not give, or a slot or bracket is wrong; the message quotes the tale.
    """
    lines = [line.rstrip() for line in text.splitlines() if not line.startswith("#")]
    blocks = re.split(r"\n{2,}", "\n".join(lines).strip())
    return [_parse_tale(block.split("\n")) for block in blocks if block]


def _parse_tale(lines: Sequence[str]) -> Tale:
    body, *rest = lines
    quote = f"in the tale {body[:60]!r}"
    if not rest:
        raise TaleError(f"no question {quote}")
    questions: list[tuple[Expression, str]] = []
    factors: set[str] = set()
    for line in rest:
        equation, colon, question = line.partition(": ")
        if not colon:
            raise TaleError(f"expected 'equation: question', got {line!r} {quote}")
        try:
            tree = _parse_equation(equation)
        except ExpressionError as error:
            raise TaleError(f"{equation!r} is no equation {quote} ({error})") from error
        if isinstance(tree, str):
            raise TaleError(f"nothing is calculated by {equation!r} {quote}")
        told = set(_SLOT.findall(body)) | set(_SLOT.findall(question))
        missing = {leaf for leaf in operands(tree) if leaf.startswith("number")} - {
            _name(name) for name, _ in told if name in LETTERS
        }
        if missing:
            raise TaleError(f"{equation!r} uses a number that the text does not give {quote}")
        bound = _PERSONS | set(LETTERS) | {name for name, words in told if words}
        if unknown := {name for name, words in told if not words} - bound:
            raise TaleError(f"unknown slots {sorted(unknown)} {quote}")
        if (body + question).count("[") != (body + question).count("]"):
            raise TaleError(f"unpaired brackets {quote}")
        questions.append((tree, question))
        factors |= _factors(tree)
    return Tale(body, tuple(questions), frozenset(factors))


@cache  # a few equations are those of most questions
def _parse_equation(equation: str) -> Expression:
    return parse_infix(re.sub(r"\b[a-h]\b", lambda m: _name(m[0]), equation))


def _name(letter: str) -> str:
    return f"number{LETTERS.index(letter)}"


def _factors(tree: Expression) -> set[str]:
    if isinstance(tree, str):
        return set()
    op, left, right = tree
    found = _factors(left) | _factors(right)
    if op == "*":
        found |= {LETTERS[int(x[6:])] for x in operands(tree) if x.startswith("number")}
    if op == "/":
        found |= {LETTERS[int(x[6:])] for x in operands(right) if x.startswith("number")}
    return found


@cache
def load_tales() -> tuple[Tale, ...]:
    """Read the tales that come with the project."""
    return tuple(parse_tales(FILE.read_text(encoding="utf-8")))


def make_tale(
    rng: random.Random,
    tales: Sequence[Tale] | None = None,
    persons: Mapping[str, str] | None = None,
) -> Story:
    """Tell a tale.

    Args:
        rng: The source of all choices.
        tales: What to draw from; by default those that come with the project.
        persons: Whom it is about (see :func:`draw_persons`); by default they are drawn.

    Returns:
        The problem. Its answer is a positive whole number, as are those of the tale's other
        questions wherever a few hundred draws allow.
    """
    tales = load_tales() if tales is None else tales
    while True:
        tale = rng.choice(tales)
        tree, question = rng.choice(tale.questions)
        values = _draw_numbers(rng, tale, tree)
        if values is None:
            continue
        told_of = draw_persons(rng) if persons is None else persons
        story = _tell(rng, tale, tree, question, values, told_of)
        if story is not None:
            return story


def _draw_numbers(rng: random.Random, tale: Tale, asked: Expression) -> dict[str, int] | None:
    for attempt in range(400):
        values: dict[str, int] = {}
        high = rng.choice((12, 20, 50, 100, 100, 900))
        for letter in LETTERS:
            small = rng.choice((6, 10, 12, 20)) if letter in tale.factors else high
            values[_name(letter)] = rng.randint(2, small)
        trees = [tree for tree, _ in tale.questions] if attempt < 300 else [asked]
        if all(_count(tree, values) is not None for tree in trees):
            return values
    return None


def _count(tree: Expression, values: Mapping[str, int]) -> int | None:
    """Evaluate a solution; None unless every step on the way is a positive whole number."""
    if isinstance(tree, str):
        return values[tree] if tree in values else int(tree)
    left, right = _count(tree[1], values), _count(tree[2], values)
    if left is None or right is None:
        return None
    if tree[0] == "/":
        return left // right if left % right == 0 else None
    result = {"+": left + right, "-": left - right, "*": left * right}[tree[0]]
    return result if result > 0 else None


def _tell(
    rng: random.Random,
    tale: Tale,
    tree: Expression,
    question: str,
    values: Mapping[str, int],
    persons: Mapping[str, str],
) -> Story | None:
    """Put a tale into words; None where the words drawn leave out a number that is needed."""
    words = dict(persons)
    numbers: list[str] = []
    slots: dict[str, int] = {}

    def fill(match: re.Match[str]) -> str:
        name, options = match.groups()
        if options is not None:
            words[name] = rng.choice(options.split("|"))
        if name not in LETTERS:
            return words[name]
        if _name(name) not in slots:
            slots[_name(name)] = len(numbers)
            numbers.append(str(values[_name(name)]))
        return f"number{slots[_name(name)]}"

    # Bars of {x=a|b} are no alternatives of [..|..]: slots are filled first, but for numbers, which
    # are named by their order in what is told.
    def bind(match: re.Match[str]) -> str:
        return match[0] if match[1] in LETTERS else fill(match)

    body = expand(rng, _SLOT.sub(bind, tale.body))
    question = expand(rng, _SLOT.sub(bind, question))
    body, question = (_tidy(_SLOT.sub(fill, part)) for part in (body, question))
    if not {leaf for leaf in operands(tree) if leaf.startswith("number")} <= slots.keys():
        return None
    text = f"{body} {question}".strip()
    return Story(text, tuple(numbers), in_order(tree, slots), sentences(question)[-1], "tale")


def draw_persons(rng: random.Random) -> dict[str, str]:
    """Draw three names and what stands for them: the words of ``{N} {M} {P} {he} ... {his3}``."""
    words: dict[str, str] = {}
    her, him = rng.sample(HER, 3), rng.sample(HIM, 3)
    for i, (name, number) in enumerate((("N", ""), ("M", "2"), ("P", "3"))):
        is_female = rng.random() < 0.5
        words[name] = (her if is_female else him)[i].replace(".", ". ").capitalize()
        pronouns = ("she", "her", "her") if is_female else ("he", "him", "his")
        for pronoun, word in zip(("he", "him", "his"), pronouns, strict=True):
            words[pronoun + number] = word
    return words


def _tidy(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    # "group A and" and "a used" stay
    article = r"(\ba|^A|(?<=[.!?] )A) (?=[aeiou]|hour)(?!uni(?!m|n)|us[aeiu]|uk|ut[ei]|one\b|eu|ew)"
    text = re.sub(article, r"\1n ", text)
    return capitals(re.sub(r" (?=[.,?!])", "", text))
