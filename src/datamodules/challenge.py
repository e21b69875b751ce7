"""A challenge set for selecting models that SVAMP will measure, and training data without it.

Decides which problems of ASDiv are held out and how they are varied. The variations follow the
published categories of Patel et al. 2021 (arXiv 2103.07191, Table 4) and are made by rules from the
wording of ASDiv (Miao et al. 2020) alone; no problem of SVAMP was used for them:

- *question sensitivity*: the same facts, another question (``total`` to ``difference``);
- *reasoning ability*: a further event is told, or what was asked is told and the
  quantity told before is asked;
- *structural invariance*: an irrelevant quantity, another order of telling, the question first.

Which problems are held out follows from their wording alone. Training problems
that share most of their words with a held-out one go too: MAWPS and ASDiv drew on the same sites.

Left out on purpose: problems of more than three numbers, and a rule where its pattern is in
doubt. The set is read from the user's copy of ASDiv (CC BY-NC) and never stored.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from src.algorithms.answers import Expression, evaluate, parse_infix, to_infix
from src.datamodules.bindings import make_binding
from src.datamodules.problems import MathProblems, Split
from src.datamodules.procedural import ProceduralProblems
from src.datamodules.readers import Problem, read, unmask
from src.datamodules.retelling import double, retell_tale
from src.datamodules.tales import make_tale
from src.datamodules.worlds import Story, make_story, story_of

_OTHERS = [
    "pencils",
    "erasers",
    "marbles",
    "stamps",
    "coins",
    "stickers",
    "balloons",
    "cookies",
    "notebooks",
    "shells",
    "crayons",
    "cards",
    "books",
    "ribbons",
    "bottles",
]
_FRIENDS = ["Megan", "Oscar", "Paula", "Victor", "Tessa", "Gordon", "Irene", "Walter"]
_STARTS = re.compile(r"^(?P<who>[A-Z][a-z]+) (?P<verb>has|had|bought|collected|found|picked|made) ")
_OWNER = re.compile(r"^(?:Mrs?\. )?(?P<who>[A-Z][a-z]+) ")
_NO_OWNER = {
    "The",
    "There",
    "At",
    "If",
    "After",
    "Some",
    "In",
    "On",
    "For",
    "While",
    "Her",
    "His",
    "She",
    "He",
    "It",
    "They",
    "Because",
    "During",
    "When",
    "How",
    "Last",
    "Each",
}
_HAS_NOW = re.compile(
    r"(?:Now h|H)ow many (?P<what>[a-z]+(?: [a-z]+)??) (?:does|did|do|will) "
    r"(?P<who>[A-Z][a-z]+|he|she) (?:still )?have"
    r"(?: (?:left|now|then|altogether|in all|in total|remaining|total))? ?\?$"
)
_ARE_NOW = re.compile(
    r"(?:Now h|H)ow many (?P<what>[a-z]+(?: [a-z]+)??) (?:are|were|is) (?P<rest>(?:still |now )?"
    r"(?:there|in the|on the|left|remaining)\b[a-z ]*)\?$"
)
_IN_TIME = re.compile(
    r"\b(more|another|gave|gives|found|bought|got|joined|added|came|took|taken|lost|ate|sold|used|"
    r"left|went|spent|picked|broke|threw|put)\b"
)
_TIME = r"(?:in the|on|the first|the second|the next|last|at) [a-zA-Z]+"
_TWO_TIMES = re.compile(
    rf"number0 (?P<what>[a-z]+s)\b[a-z ]*? (?P<a>{_TIME})\b.*number1 [a-z ]*?(?P<b>{_TIME})\b"
)
_TWO_KINDS = re.compile(
    r"number0 (?P<a>[a-z]+(?: [a-z]+)?s) (?:and|but) number1 (?P<b>[a-z]+(?: [a-z]+)?s)\b"
)
_MORE_THAN = re.compile(
    r"How many more (?P<what>[a-z ]+?) (?P<aux>does|did) (?P<a>[A-Z][a-z]+) (?P<verb>[a-z]+) than "
    r"(?P<b>[A-Z][a-z]+)\?$"
)


def challenge_problems(path: str, seed: int = 0, on_bad_row: str = "error") -> list[Problem]:
    """Vary the held-out problems of ASDiv.

    Args:
        path: ``ASDiv.xml`` or its folder.
        seed: Seed of the numbers and words that are added.
        on_bad_row: ``error`` or ``skip``.

    Returns:
        Held-out problems (``meta["category"]`` is ``original``) and their variations
        (``meta["variation"]`` names the rule), masked and exact.
    """
    problems: list[Problem] = []
    for original in held_out(path, on_bad_row):
        rng = random.Random(f"{seed}/{original.masked}")
        problems.append(_labelled(original, "original", "none"))
        problems += _variations(original, rng)
    return problems


def held_out(path: str, on_bad_row: str = "error") -> list[Problem]:
    """Return the problems of ASDiv that are kept from training.

    Those whose question or story a rule can vary, and of the others an eighth by a hash.
    """
    read_problems, _ = read(path, "test", "asdiv", on_bad_row)
    kept: dict[str, Problem] = {}
    for problem in read_problems:
        if problem.equation is None or problem.equation.count("number") not in (2, 3):
            continue
        if re.search(r"\d", re.sub(r"number\d+", "", problem.equation)):
            continue  # a constant that the text does not give
        digest = hashlib.sha256(_words(problem.masked).encode()).digest()
        is_varied = _other_question(problem) or _story(problem)
        if is_varied or digest[0] % 8 == 0:
            kept.setdefault(_words(problem.masked), problem)
    return list(kept.values())


def without(problems: Sequence[Problem], excluded: Sequence[Problem]) -> list[Problem]:
    """Drop the problems that share more than two thirds of their words with an excluded one."""
    bags = [set(_words(problem.masked).split()) for problem in excluded]

    def is_near(problem: Problem) -> bool:
        bag = set(_words(problem.masked).split())
        return any(3 * len(bag & other) > 2 * len(bag | other) for other in bags)

    return [problem for problem in problems if not is_near(problem)]


class ChallengedProblems(MathProblems):
    """Published problems with generated ones besides, and optionally the challenge set as test.

    Args:
        tokenizer: See :class:`MathProblems`.
        num_generated: Generated problems (``src/datamodules/worlds.py``) added to the training
            split, at least 0.
        num_tales: Tales (``src/datamodules/tales.py``) added to the training split, at least 0.
        retold: Whether these are told in other ways too (``src/datamodules/retelling.py``).
        num_bindings: Problems of several things side by side (``src/datamodules/bindings.py``)
            added to the training split, at least 0.
        num_procedural: Problems of the training templates of ``src/datamodules/stories.py`` added
            to the training split, at least 0.
        num_doubled: Copies of training problems that tell as much of a second thing and may ask
            for it (:func:`src.datamodules.retelling.double`), at least 0.
        num_distracted: Copies of training problems with an irrelevant quantity put in, at least 0.
        foreign_fraction: Share of these quantities that are told by a sentence of another
            training problem, in [0, 1]; the others come from the rule of the challenge set.
        challenge: ``ASDiv.xml``. If given, its held-out part is taken out of training and, where
            ``test`` is not given, its variations are the test split.
        **problems: See :class:`MathProblems`.

    Raises:
        ValueError: If a number is negative, or as in :class:`MathProblems`.
    """

    def __init__(
        self,
        tokenizer: Any,
        num_generated: int = 0,
        num_procedural: int = 0,
        num_distracted: int = 0,
        num_tales: int = 0,
        retold: bool = False,
        num_bindings: int = 0,
        num_doubled: int = 0,
        foreign_fraction: float = 0.5,
        challenge: str | None = None,
        **problems: Any,
    ) -> None:
        added = {
            "num_generated": num_generated,
            "num_procedural": num_procedural,
            "num_distracted": num_distracted,
            "num_tales": num_tales,
            "num_bindings": num_bindings,
            "num_doubled": num_doubled,
        }
        for name, value in added.items():
            if value < 0:
                raise ValueError(f"data.{name} is {value}, expected at least 0.")
        if not 0 <= foreign_fraction <= 1:
            raise ValueError(f"data.foreign_fraction is {foreign_fraction}, expected 0 to 1.")
        super().__init__(tokenizer, **problems)
        self.num_generated, self.num_procedural = num_generated, num_procedural
        self.num_distracted, self.num_tales = num_distracted, num_tales
        self.retold, self.num_bindings, self.num_doubled = retold, num_bindings, num_doubled
        self.foreign_fraction = foreign_fraction
        self.challenge = challenge

    def _load(self, split: Split) -> None:
        if split in self.problems:
            return
        if split == "test" and self.challenge and self.paths["test"] is None:
            self.problems["test"] = challenge_problems(self.challenge, self.seed, self.on_bad_row)
            return
        super()._load(split)
        if split == "test":
            return
        if self.challenge:  # reading train may bring val with it
            excluded = held_out(self.challenge, self.on_bad_row)
            for name in sorted({split, "val"} & self.problems.keys()):
                kept = without(self.problems[name], excluded)
                key = f"{name}/near_challenge"  # val may be asked for before train and after
                num = len(self.problems[name]) - len(kept)
                self.num_left_out[key] = self.num_left_out.get(key, 0) + num
                self.problems[name] = kept
        if split == "train":
            self.problems["train"] = [*self.problems["train"], *self._added()]

    def _added(self) -> list[Problem]:
        rng = random.Random(f"{self.seed}/generated")
        base = [p for p in self.problems["train"] if p.equation is not None]
        if self.num_distracted and not any(_distract(p, rng, "distracted") for p in base):
            raise ValueError(
                "no training problem has an equation and a place for an irrelevant quantity; use "
                "data.num_distracted=0."
            )
        added: list[Problem] = []
        while len(added) < self.num_distracted:
            problem = rng.choice(base)
            distracted = None
            if rng.random() < self.foreign_fraction:
                others = rng.choices(base, k=8)
                distracted = next(filter(None, (_tell_of(problem, o, rng) for o in others)), None)
            distracted = distracted or _distract(problem, rng, "distracted")
            if distracted is not None:
                added.append(distracted)
        added += [_generated(make_story(rng), "worlds") for _ in range(self.num_generated)]
        if self.num_doubled:
            added += self._doubled(base, rng)
        tell = retell_tale if self.retold else make_tale
        added += [_generated(tell(rng), "tales") for _ in range(self.num_tales)]
        added += [_generated(make_binding(rng), "bindings") for _ in range(self.num_bindings)]
        return added + ProceduralProblems("train", self.seed).take(self.num_procedural)

    def _doubled(self, base: Sequence[Problem], rng: random.Random) -> list[Problem]:
        stories = [
            story_of(p.masked, p.numbers, p.equation, "doubled")
            for p in base
            if p.equation is not None
        ]
        stories = [story for story in stories if double(story, rng) is not None]
        if not stories:
            raise ValueError(
                "no training problem counts a thing that a second could be told beside; use "
                "data.num_doubled=0."
            )
        added: list[Problem] = []
        while len(added) < self.num_doubled:
            story = double(rng.choice(stories), rng)
            if story is not None:
                added.append(_generated(story, "doubled"))
        return added


def _generated(story: Story, source: str) -> Problem:
    return Problem(
        question=story.raw,
        masked=story.text,
        numbers=story.numbers,
        equation=to_infix(story.tree),
        rationale=None,
        answer=evaluate(story.tree, story.numbers),
        meta={"source": source, "template": story.scene},
    )


# --- variations ------------------------------------------------------------------------------


def _variations(problem: Problem, rng: random.Random) -> Iterator[Problem]:
    made = [
        _other_question(problem),
        _invert(problem),
        _further_event(problem, rng),
        _distract(problem, rng, "irrelevant quantity"),
        _swap_sentences(problem),
        _question_first(problem),
    ]
    yield from (variation for variation in made if variation is not None)


def _labelled(problem: Problem, category: str, variation: str) -> Problem:
    meta = {**problem.meta, "category": category, "variation": variation}
    return replace(problem, meta=meta)


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.?!]) +(?=[A-Zn])", text.strip())


def _build(
    problem: Problem,
    masked: str,
    numbers: Sequence[str],
    tree: Expression,
    category: str,
    rule: str,
) -> Problem | None:
    """Renumber in order of appearance and score; None if an operand is no longer in the text."""
    order = list(dict.fromkeys(int(i) for i in re.findall(r"\bnumber(\d+)\b", masked)))
    place = {f"number{old}": f"number{new}" for new, old in enumerate(order)}
    used = set(re.findall(r"number\d+", to_infix(tree)))
    if not used <= place.keys():
        return None

    def renumber(text: str) -> str:
        return re.sub(r"\bnumber\d+\b", lambda m: place[m.group(0)], text)

    new_tree = parse_infix(renumber(to_infix(tree)))
    new_numbers = tuple(numbers[i] for i in order)
    answer = evaluate(new_tree, new_numbers)
    if answer < 0:
        return None
    masked = renumber(masked)
    return _labelled(
        replace(
            problem,
            question=unmask(masked, new_numbers),
            masked=masked,
            numbers=new_numbers,
            equation=to_infix(new_tree),
            answer=Fraction(answer),
        ),
        category,
        rule,
    )


def _tree(problem: Problem) -> Expression:
    assert problem.equation is not None
    return parse_infix(problem.equation)


def _other_question(problem: Problem) -> Problem | None:
    """A total becomes a difference, and the other way round; the facts stay."""
    if problem.equation not in ("number0 + number1", "number0 - number1", "number1 - number0"):
        return None
    *body, question = _sentences(problem.masked)
    facts = " ".join(body)
    if "number1" not in facts or re.search(r"\b(fewer|less|times|than)\b", facts):
        return None
    is_larger = evaluate("number0", problem.numbers) >= evaluate("number1", problem.numbers)
    if problem.equation == "number0 + number1":
        tree: Expression = ("-", *(("number0", "number1") if is_larger else ("number1", "number0")))
        kinds, times = _TWO_KINDS.search(facts), _TWO_TIMES.search(facts)
        owners = [m["who"] for m in map(_STARTS.match, body) if m]
        if kinds:
            a, b = (kinds["a"], kinds["b"]) if is_larger else (kinds["b"], kinds["a"])
            asks = f"How many more {a} than {b} were there?"
        elif times and times["a"] != times["b"]:
            a, b = (times["a"], times["b"]) if is_larger else (times["b"], times["a"])
            asks = f"How many more {times['what']} were there {a} than {b}?"
        elif len(body) == 2 and len(set(owners)) == 2 and "more" not in facts:
            a, b = owners if is_larger else owners[::-1]
            asks = f"How many more does {a} have than {b}?"
        else:
            return None
    else:
        asked = _MORE_THAN.match(question)
        if not asked:
            return None
        asks = (
            f"How many {asked['what']} {'did' if asked['aux'] == 'did' else 'do'} {asked['a']} and "
        )
        asks += f"{asked['b']} {asked['verb']} altogether?"
        tree = ("+", "number0", "number1")
    return _build(problem, f"{facts} {asks}", problem.numbers, tree, "question", "other question")


def _story(problem: Problem) -> tuple[list[str], str, str, str] | None:
    """Read a problem as a quantity that changes: facts, what, whose ("" if nobody's), where."""
    if problem.equation not in ("number0 - number1", "number0 + number1"):
        return None
    *body, question = _sentences(problem.masked)
    if len(body) < 2 or "number0" not in body[0] or "number1" not in " ".join(body[1:]):
        return None
    if not _IN_TIME.search(" ".join(body[1:])) or re.search(r"\bthan\b", problem.masked):
        return None
    owned, plain = _HAS_NOW.match(question), _ARE_NOW.match(question)
    if owned:
        owner = _OWNER.match(body[0])
        name = owner["who"] if owner and owner["who"] not in _NO_OWNER else owned["who"]
        if body[0].startswith(("Mrs.", "Mr.")):
            name = " ".join(body[0].split()[:2])
        return body, owned["what"], name, ""
    if plain:
        rest = re.sub(r"\b(now|still|left|remaining|there)\b", "", plain["rest"]).strip()
        return body, plain["what"], "", rest
    return None


def _invert(problem: Problem) -> Problem | None:
    """What was asked is told, and the first quantity, told before, is asked."""
    story = _story(problem)
    if story is None:
        return None
    body, what, who, rest = story
    body = [body[0].replace("number0", "some", 1), *body[1:]]
    body[0] = re.sub(r" (has|have) ", " had ", body[0])
    last = f"number{len(problem.numbers)}"
    if who:
        told = f"Now {who} has {last} {what}."
        asks = f"How many {what} did {who} have at first?"
    else:
        told = f"Now there are {last} {what} {rest}".strip() + "."
        asks = f"How many {what} were there {rest} at first?".replace("  ", " ")
    is_loss = problem.equation == "number0 - number1"
    tree: Expression = ("+", "number1", last) if is_loss else ("-", last, "number1")
    numbers = [*problem.numbers, str(problem.answer)]
    masked = " ".join([*body, told, asks])
    return _build(problem, masked, numbers, tree, "reasoning", "inverted operation")


def _further_event(problem: Problem, rng: random.Random) -> Problem | None:
    """Something more is added or taken before the question."""
    story = _story(problem)
    if story is None:
        return None
    body, what, who, rest = story
    friend = next(f for f in rng.sample(_FRIENDS, len(_FRIENDS)) if f not in problem.masked)
    new = f"number{len(problem.numbers)}"
    is_gift = rng.random() < 0.5 or problem.answer < 2
    amount = rng.randint(2, 60) if is_gift else rng.randint(1, int(problem.answer))
    if who:
        told = f"Then {friend} gave {who} {new} more {what}." if is_gift else (
            f"Then {friend} took {new} of the {what}."
        )  # fmt: skip
        asks = f"How many {what} does {who} have now?"
    else:
        told = f"Then {new} more {what} came." if is_gift else f"Then {new} {what} were gone."
        asks = f"How many {what} are there {rest} now?".replace("  ", " ")
    tree: Expression = ("+" if is_gift else "-", _tree(problem), new)
    return _build(
        problem, " ".join([*body, told, asks]), [*problem.numbers, str(amount)], tree,
        "reasoning", "further event",
    )  # fmt: skip


def _distract(problem: Problem, rng: random.Random, rule: str) -> Problem | None:
    """Put in a quantity that the answer does not need."""
    sentences = _sentences(problem.masked)
    who = next((m["who"] for m in map(_STARTS.match, sentences) if m), None)
    new = f"number{len(problem.numbers)}"
    things = [o for o in _OTHERS if o[:-1] not in problem.masked.lower()]
    if not things or len(sentences) < 2:
        return None
    thing, friend = rng.choice(things), rng.choice(_FRIENDS)
    told = rng.choice(
        [f"{who} also has {new} {thing}.", f"There are also {new} {thing}."]
        if who
        else [f"There are also {new} {thing}.", f"{friend} has {new} {thing}."]
    )
    places = [k for k in range(1, len(sentences)) if not _TITLE.search(sentences[k - 1])]
    if not places:
        return None
    sentences.insert(rng.choice(places), told)
    numbers = [*problem.numbers, str(rng.randint(2, 90))]
    return _build(problem, " ".join(sentences), numbers, _tree(problem), "structure", rule)


_LEANS = re.compile(
    r"\b(he|she|they|it|his|her|their|them|him|these|those|this|that|if|then)\b", re.I
)

_TITLE = re.compile(r"\b(Mrs?|Ms|Dr)\.$")  # ends no sentence


def _tell_of(problem: Problem, other: Problem, rng: random.Random) -> Problem | None:
    """Put in a sentence of another problem, with its one number, that shares no word of weight.

    None if the other problem has no sentence that stands on its own.
    """
    sentences = _sentences(problem.masked)
    if len(sentences) < 2:
        return None
    taken = {word for word in _words(problem.masked).split() if len(word) > 3}
    told = [
        sentence
        for sentence in _sentences(other.masked)[:-1]
        if len(re.findall(r"\bnumber\d+\b", sentence)) == 1
        and sentence.endswith(".")
        and not _TITLE.search(sentence)
        and not _LEANS.search(sentence)
        and sum(word in taken for word in _words(sentence).split()) < 2
    ]
    if not told:
        return None
    sentence = rng.choice(told)
    match = re.search(r"\bnumber(\d+)\b", sentence)
    assert match is not None
    sentence = sentence.replace(match[0], f"number{len(problem.numbers)}")
    places = [k for k in range(len(sentences)) if not (k and _TITLE.search(sentences[k - 1]))]
    sentences.insert(rng.choice(places), sentence)
    return _build(
        problem, " ".join(sentences), [*problem.numbers, other.numbers[int(match[1])]],
        _tree(problem), "structure", "distracted",
    )  # fmt: skip


def _swap_sentences(problem: Problem) -> Problem | None:
    """The first two sentences change places, where neither needs the other."""
    sentences = _sentences(problem.masked)
    if len(sentences) < 3:
        return None
    first, second = sentences[:2]
    if "number" not in first or "number" not in second or _IN_TIME.search(second.lower()):
        return None
    if re.search(
        r"\b(also|too|other|then|them|these|fewer|he|she|they|his|her|of the|each)\b",
        second.lower(),
    ):
        return None
    masked = " ".join([second, first, *sentences[2:]])
    return _build(
        problem, masked, problem.numbers, _tree(problem), "structure", "order of sentences"
    )


def _question_first(problem: Problem) -> Problem | None:
    """The question comes before the facts."""
    *body, question = _sentences(problem.masked)
    if not body or not question.startswith("How ") or not question.endswith("?"):
        return None
    if re.search(r"\b(he|she|they|it|each|one)\b|number", question):
        return None
    masked = " ".join([question, *body])
    return _build(problem, masked, problem.numbers, _tree(problem), "structure", "question first")


def _words(masked: str) -> str:
    return " ".join(re.findall(r"[a-z]+", re.sub(r"number\d+", "", masked.lower())))
