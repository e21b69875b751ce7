"""Word problems without end: one- to three-step stories drawn from templates.

Decides how a story is told and which templates belong to which split. What is told (the structures
and their wordings) is data, in ``stories.py``; this file draws from it.

A *template* is one body of text with the questions that can be asked about it; its slots are filled
with names, things and numbers, and its alternatives chosen, at random. Templates are dealt to
train, val and test by their place in their family (of every five, the fourth goes to val and the
fifth to test), so a test problem never has the wording of a training problem, while its operations
occur in training under other wordings. The variations are those of SVAMP (Patel et al. 2021, arXiv
2103.07191, Sec. 4): the question's target changes, a number is irrelevant, the structure is
inverted (start or change unknown), phrases change places. No template is written after a problem of
that set.

Template language:

- ``{a}`` ... ``{h}`` numbers; ``{N} {M} {P}`` names, ``{he} {him} {his}`` the pronouns of N,
  ``{he2} {him2} {his2}`` of M; ``{toy}`` and ``{toys}`` a word of the class ``toy`` of
  ``stories.WORDS`` in singular and plural, ``{toy2} {toys2}`` another word of that class;
- ``[x|y|z]`` one of the alternatives, which may nest and may be empty;
- ``<x|y>`` all of the parts, in any order, joined by spaces;
- write ``a {toy}``: the article is made to fit, and sentences are capitalised, afterwards.

Left out on purpose: problems that need knowledge beyond arithmetic, such as units, calendars or
geometry.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from src.algorithms.answers import Expression, parse_infix, skeleton, substitute, to_infix
from src.datamodules.readers import Problem

SPLITS = ("train", "val", "test")
LETTERS = "abcdefgh"
# Of every five templates in a family, in the order in which they are written.
_DEAL = ("train", "train", "train", "val", "test")

Numbers: TypeAlias = Callable[[random.Random], Mapping[str, int]]
_Part: TypeAlias = "str | tuple[str, Any]"


class TemplateError(ValueError):
    """A template that is not well-formed."""


@dataclass(frozen=True)
class Family:
    """Templates of one structure, which share how their numbers are drawn.

    Args:
        name: Unique; with the place of the template it makes the template id.
        numbers: Draws the values of all letters, such that every question has a positive integer
            answer.
        templates: One tuple each: the body, then ``equation, question`` pairs over the letters. The
            first pair is the plain question, the others change its target. An empty body is fine
            where the question tells the story.
        inverted: Whether the stories ask for what usually is given (start, change or factor).
        owned: Whether ``{N}`` has things ``{xs}``, so that another person's may distract.
    """

    name: str
    numbers: Numbers
    templates: Sequence[tuple[str, ...]]
    inverted: bool = False
    owned: bool = False


@dataclass(frozen=True)
class Distractor:
    """A sentence with one irrelevant number.

    Args:
        text: With ``{z}`` for the number.
        low: Smallest value.
        high: Largest value.
        place: ``start`` (before the body; may speak of N) or ``end`` (before the question).
        unit: A word that must not occur in the story, lest the number be relevant.
        owned: Whether it gives another person the things asked for, ``{xs}``: only for families in
            which things are owned, and questions that name their owner.
    """

    text: str
    low: int
    high: int
    place: str
    unit: str
    owned: bool = False


# --- the template language --------------------------------------------------------------------

_PIECES = re.compile(r"\{([^{}]+)\}|([\[\]<>|])")


def compile_template(text: str) -> list[_Part]:
    """Read a template into parts.

    Args:
        text: In the template language of this module.

    Returns:
        Strings, ``("slot", name)``, ``("one", options)`` and ``("all", options)``.

    Raises:
        TemplateError: If brackets do not pair up.
    """
    stack: list[tuple[str, list[list[_Part]]]] = [("", [[]])]
    position = 0
    for match in _PIECES.finditer(text):
        if match.start() > position:
            stack[-1][1][-1].append(text[position : match.start()])
        position = match.end()
        slot, sign = match.groups()
        if slot:
            stack[-1][1][-1].append(("slot", slot))
        elif sign in "[<":
            stack.append((sign, [[]]))
        elif sign == "|":
            if len(stack) == 1:
                raise TemplateError(f"a bar outside brackets in {text!r}")
            stack[-1][1].append([])
        else:
            opening, options = stack.pop()
            if opening + sign not in ("[]", "<>"):
                raise TemplateError(f"unpaired {sign!r} in {text!r}")
            stack[-1][1][-1].append(("one" if sign == "]" else "all", options))
    if len(stack) != 1:
        raise TemplateError(f"unclosed {stack[-1][0]!r} in {text!r}")
    if position < len(text):
        stack[0][1][0].append(text[position:])
    return stack[0][1][0]


def _slots(parts: Sequence[_Part]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, tuple):
            if part[0] == "slot":
                yield part[1]
            else:
                for option in part[1]:
                    yield from _slots(option)


def _render(
    parts: Sequence[_Part], words: Mapping[str, str], rng: random.Random
) -> tuple[str, bool]:
    """Fill a template; returns the text, and whether parts changed places."""
    text: list[str] = []
    moved = False
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        elif part[0] == "slot":
            text.append(words[part[1]])
        elif part[0] == "one":
            options = part[1]
            filled, inner = _render(options[int(rng.random() * len(options))], words, rng)
            text.append(filled)
            moved |= inner
        else:
            order = list(range(len(part[1])))
            rng.shuffle(order)
            moved |= order != sorted(order)
            text.append(" ".join(_render(part[1][i], words, rng)[0] for i in order))
    return "".join(text), moved


_OWNABLE = {"toys", "foods"}
_PERSONS = {"N", "M", "P", "he", "him", "his"}
# Numbers travel through rendering as private-use characters, one a letter (z: a distractor's).
_MARKS = {letter: chr(0xE000 + i) for i, letter in enumerate(LETTERS + "z")}
_MARK = re.compile("[\ue000-\ue008]")
_SENTENCE = re.compile(r"(^|[.?!] )([a-z])")
_ARTICLE = re.compile(r"\b([aA]) (?=[aeiou])")
_SPACES = re.compile(r"\s{2,}| (?=[.,?!])")


def _tidy(text: str) -> str:
    text = _ARTICLE.sub(r"\1n ", text)
    text = _SPACES.sub(lambda m: " " if len(m[0]) > 1 else "", text.strip())
    return _SENTENCE.sub(lambda m: m[1] + m[2].upper(), text)


# --- templates at work ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Question:
    tree: Expression
    skeleton: str
    parts: list[_Part]
    steps: int
    irrelevant: bool  # whether the body has a number that the equation does not use
    thing: str  # slot of the things asked for, or ""
    distractors: tuple[int, ...]  # indices into the split's distractors


@dataclass(frozen=True)
class _Template:
    template_id: str
    family: Family
    body: list[_Part]
    questions: tuple[_Question, ...]
    classes: tuple[tuple[str, int], ...]  # word classes and how many words of each


_Asked: TypeAlias = tuple[_Template, int]  # a template and which of its questions


def _letters(tree: Expression) -> set[str]:
    if isinstance(tree, str):
        return {LETTERS[int(tree[6:])]} if tree.startswith("number") else set()
    return _letters(tree[1]) | _letters(tree[2])


def parse_letters(equation: str) -> Expression:
    """Read an equation over the letters ``a`` ... ``h``; ``a`` becomes ``number0``."""
    return parse_infix(re.sub(r"[a-h]", lambda m: f"number{LETTERS.index(m[0])}", equation))


def canonical(tree: Expression) -> Expression:
    """Order what + and * join: compound terms first, then numbers as the text has them.

    One operation structure so has one surface, whatever the order of the text.
    """
    if isinstance(tree, str):
        return tree
    if tree[0] not in "+*":
        return (tree[0], canonical(tree[1]), canonical(tree[2]))
    terms: list[Expression] = []

    def collect(node: Expression) -> None:
        if not isinstance(node, str) and node[0] == tree[0]:
            collect(node[1])
            collect(node[2])
        else:
            terms.append(canonical(node))

    collect(tree)
    terms.sort(key=lambda term: (isinstance(term, str), _first_place(term)))
    result = terms[0]
    for term in terms[1:]:
        result = (tree[0], result, term)
    return result


def _first_place(tree: Expression) -> int:
    if isinstance(tree, str):
        return int(tree[6:]) if tree.startswith("number") else 1000
    return min(_first_place(tree[1]), _first_place(tree[2]))


def _value(tree: Expression, values: Mapping[str, int]) -> Fraction | int:
    if isinstance(tree, str):
        return values[LETTERS[int(tree[6:])]] if tree.startswith("number") else int(tree)
    left, right = _value(tree[1], values), _value(tree[2], values)
    if tree[0] == "+":
        return left + right
    if tree[0] == "-":
        return left - right
    if tree[0] == "*":
        return left * right
    return left // right if left % right == 0 else Fraction(left) / right


class ProceduralProblems:
    """Draw word problems from the templates of one split.

    Problem i depends on (seed, split, i) alone, so that any part of a stream of millions can be
    made anywhere.

    Args:
        split: ``train``, ``val`` or ``test``: whose templates to use.
        seed: Seed of all choices.
        irrelevant_rate: Share of problems with a number that the equation does not use, in [0, 1].
        steps: Relative frequency of problems with one, two and three operations.
        families: Structures to draw from; by default all of ``stories.FAMILIES``.
        distractors: Sentences with irrelevant numbers; by default ``stories.DISTRACTORS``.

    Raises:
        ValueError: If the split is unknown or a rate is outside its range.
    """

    def __init__(
        self,
        split: str = "train",
        seed: int = 0,
        irrelevant_rate: float = 0.3,
        steps: Sequence[float] = (0.5, 0.35, 0.15),
        families: Sequence[Family] | None = None,
        distractors: Sequence[Distractor] | None = None,
    ) -> None:
        from src.datamodules import stories  # here: stories are written in terms of this module

        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, expected one of {', '.join(SPLITS)}")
        if not 0 <= irrelevant_rate <= 1:
            raise ValueError(f"irrelevant_rate is {irrelevant_rate}, expected between 0 and 1")
        if len(steps) != 3 or min(steps) < 0 or sum(steps) <= 0:
            raise ValueError(
                f"steps is {list(steps)}, expected three weights for one, two and three operations"
            )
        self.split, self.seed, self.irrelevant_rate = split, seed, irrelevant_rate
        self.names, self.words = stories.NAMES, stories.WORDS
        distractors = stories.DISTRACTORS if distractors is None else distractors
        self.distractors = [
            (distractor, compile_template(distractor.text))
            for place, distractor in enumerate(distractors)
            if _DEAL[place % 5] == split
        ]
        self._distractor_classes = [
            self._classes(set(_slots(parts))) for _, parts in self.distractors
        ]
        families = stories.FAMILIES if families is None else families
        known = _train_structures(families)
        asked = [
            (template, index)
            for family in families
            for place, texts in enumerate(family.templates)
            if _DEAL[place % 5] == split
            for template in [self._compile(family, place, texts, known)]
            for index in range(len(template.questions))
        ]
        # What can be drawn with and without an irrelevant number: (bound, structures) a step count.
        self._choices = {kind: self._levels(asked, kind, steps) for kind in (False, True)}
        for kind, rate in ((False, 1 - irrelevant_rate), (True, irrelevant_rate)):
            if rate > 0 and not self._choices[kind]:
                raise ValueError(
                    f"no template of the split {split} has the wanted number of steps "
                    f"{'with' if kind else 'without'} an irrelevant number"
                )
        self._asked = asked

    def _levels(
        self, asked: Sequence[_Asked], irrelevant: bool, steps: Sequence[float]
    ) -> list[tuple[float, list[list[_Asked]]]]:
        levels: list[tuple[float, list[list[_Asked]]]] = []
        total = 0.0
        for count, weight in zip((1, 2, 3), steps, strict=True):
            structures: dict[str, list[_Asked]] = {}
            for template, index in asked:
                question = template.questions[index]
                fits = (
                    question.irrelevant or question.distractors
                    if irrelevant
                    else not question.irrelevant
                )
                if fits and question.steps == count:
                    structures.setdefault(question.skeleton, []).append((template, index))
            if structures and weight > 0:
                total += weight
                levels.append((total, list(structures.values())))
        return levels

    def _compile(
        self, family: Family, place: int, texts: tuple[str, ...], known: set[str]
    ) -> _Template:
        body = compile_template(texts[0])
        story = texts[0].lower()
        questions: list[_Question] = []
        for equation, text in zip(texts[1::2], texts[2::2], strict=True):
            tree = parse_letters(equation)
            structure = skeleton(canonical(tree))
            if self.split != "train" and structure not in known:
                continue  # held out means unseen wording, not unseen operations
            parts = compile_template(text)
            told = {slot for slot in (*_slots(body), *_slots(parts)) if slot in LETTERS}
            if missing := _letters(tree) - told:
                raise TemplateError(
                    f"{family.name}/{place}: the text never gives {sorted(missing)}"
                )
            owner = family.owned and "{N}" in text and "{M}" not in texts[0] + text
            owner = owner and "altogether" not in text and " in all" not in text
            thing = next((s for s in _slots(parts) if s.rstrip("23") in _OWNABLE), "")
            whole = story + " " + text.lower()
            allowed = tuple(
                i
                for i, (distractor, _) in enumerate(self.distractors)
                if distractor.unit not in whole
                and ((owner and thing != "") or not distractor.owned)
                and ("{M}" not in distractor.text or "{M}" in texts[0] + text)
                and not ("{P}" in distractor.text and "{P}" in texts[0] + text)
                and ("{N}" not in distractor.text or "{N}" in texts[0] + text)
            )
            questions.append(
                _Question(
                    tree,
                    structure,
                    parts,
                    len(structure.split()) // 2,
                    bool(told - _letters(tree)),
                    thing,
                    allowed,
                )
            )
        slots = set(_slots(body)).union(*(_slots(question.parts) for question in questions))
        return _Template(
            template_id=f"{family.name}/{place}",
            family=family,
            body=body,
            questions=tuple(questions),
            classes=self._classes(slots),
        )

    def _classes(self, slots: set[str]) -> tuple[tuple[str, int], ...]:
        counts: dict[str, int] = {}
        for slot in slots:
            name = slot.rstrip("23")
            if name in _PERSONS or slot in LETTERS or slot in ("xs", "z"):
                continue
            group = name if name in self.words else name.removesuffix("s")
            if group not in self.words:
                raise TemplateError(f"unknown slot {slot!r}: no such word class in stories.WORDS")
            counts[group] = max(counts.get(group, 0), int(slot[len(name) :] or 1))
        return tuple(sorted(counts.items()))

    def _draw_words(
        self, classes: tuple[tuple[str, int], ...], words: dict[str, str], rng: random.Random
    ) -> None:
        for group, count in classes:
            entries = self.words[group]
            taken = {words.get(group), words.get(group + "2")} - {None}
            found = 0
            while found < count:
                entry = entries[int(rng.random() * len(entries))]
                if entry[0] in taken:
                    continue
                taken.add(entry[0])
                found += 1
                suffix = "" if found == 1 else str(found)
                words[group + suffix] = entry[0]
                words[f"{group}s{suffix}"] = entry[-1]

    @property
    def template_ids(self) -> set[str]:
        """Ids of the templates of this split."""
        return {template.template_id for template, _ in self._asked}

    def problem(self, index: int) -> Problem:
        """Make the problem at a place of the stream.

        Args:
            index: Place, at least 0.

        Returns:
            The problem; ``meta`` has ``template``, ``structure`` (family), ``variation``
            (``plain``, ``question``, ``irrelevant``, ``inverted`` or ``reordered``), ``steps``.
        """
        rng = random.Random(f"{self.seed}/{self.split}/{index}")
        draw = rng.random
        irrelevant = draw() < self.irrelevant_rate
        levels = self._choices[irrelevant]
        level = draw() * levels[-1][0]
        structures = next(structures for bound, structures in levels if level <= bound)
        choices = structures[int(draw() * len(structures))]
        template, asked = choices[int(draw() * len(choices))]
        question = template.questions[asked]
        family = template.family
        words = dict(_MARKS)
        names = self.names
        picked = rng.sample(range(len(names)), 3)
        for slot, suffix, place in zip("NMP", ("", "2", "3"), picked, strict=True):
            name, pronouns = names[place]
            words[slot] = name
            words["he" + suffix], words["him" + suffix], words["his" + suffix] = pronouns
        self._draw_words(template.classes, words, rng)
        for _ in range(100):
            values = dict(family.numbers(rng))
            answer = _value(question.tree, values)
            if answer > 0 and isinstance(answer, int):
                break
        else:
            raise TemplateError(
                f"{template.template_id}: no positive integer answer in 100 draws of its numbers"
            )
        body, moved = _render(template.body, words, rng)
        ask, moved_too = _render(question.parts, words, rng)
        if irrelevant and not question.irrelevant:
            which = question.distractors[int(draw() * len(question.distractors))]
            distractor, parts = self.distractors[which]
            values["z"] = rng.randint(distractor.low, distractor.high)
            words["xs"] = words.get(question.thing, "")
            self._draw_words(self._distractor_classes[which], words, rng)
            sentence, _ = _render(parts, words, rng)
            body = f"{sentence} {body}" if distractor.place == "start" else f"{body} {sentence}"
        text = _tidy(f"{body} {ask}")

        order = [
            chr(97 + ord(m) - 0xE000) if m != _MARKS["z"] else "z" for m in _MARK.findall(text)
        ]
        numbers = tuple(str(values[letter]) for letter in order)
        places = iter(range(len(order)))
        masked = _MARK.sub(lambda m: f"number{next(places)}", text)
        literals = iter(numbers)
        plain = _MARK.sub(lambda m: next(literals), text)
        # The letters of the equation, by the place of their first mention.
        operand = [f"number{order.index(c)}" if c in order else "" for c in LETTERS]
        equation = to_infix(canonical(substitute(question.tree, operand)))
        if irrelevant:
            variation = "irrelevant"
        elif asked > 0:
            variation = "question"
        elif family.inverted:
            variation = "inverted"
        else:
            variation = "reordered" if moved or moved_too else "plain"
        return Problem(
            question=plain,
            masked=masked,
            numbers=numbers,
            equation=equation,
            rationale=None,
            answer=Fraction(answer),
            meta={
                "source": "procedural",
                "template": template.template_id,
                "structure": family.name,
                "variation": variation,
                "steps": question.steps,
            },
        )

    def __iter__(self) -> Iterator[Problem]:
        """Problems without end, in order; a text may recur after very many."""
        index = 0
        while True:
            yield self.problem(index)
            index += 1

    def take(self, count: int) -> list[Problem]:
        """The first ``count`` problems whose texts differ."""
        seen: set[str] = set()
        problems: list[Problem] = []
        for problem in self:
            if len(problems) == count:
                break
            if problem.question not in seen:
                seen.add(problem.question)
                problems.append(problem)
        return problems


def _train_structures(families: Sequence[Family]) -> set[str]:
    return {
        skeleton(canonical(parse_letters(equation)))
        for family in families
        for place, texts in enumerate(family.templates)
        if _DEAL[place % 5] == "train"
        for equation in texts[1::2]
    }


__all__ = [
    "Distractor",
    "Family",
    "ProceduralProblems",
    "TemplateError",
    "canonical",
    "compile_template",
]
