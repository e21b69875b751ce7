"""Other tellings of a tale, so that its numbers have to be told apart and no wording is enough.

Decides what may be told besides or otherwise while the operations of the equation stay: as much of
a second thing or of another person, the facts or a sentence of another tale, other things that are
counted, another order of the sentences, the question first or joined to a fact (question
sensitivity and structural invariance: Patel et al. 2021, arXiv 2103.07191, Sec. 4). A rule that
cannot be sure of the meaning tells nothing.

Left out on purpose: other verbs, and anything that would change the operations.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from src.algorithms.answers import Expression, evaluate, map_leaves, operands
from src.datamodules.tales import Tale, draw_persons, load_tales, make_tale
from src.datamodules.worlds import Story, capitals, in_order, sentences

# How often a tale is told in which of these ways. Few tales can be doubled, hence the attempts.
WAYS = {"double": 0.25, "beside_same": 0.1, "beside": 0.12, "interrupt": 0.1, "as it is": 0.43}
ATTEMPTS = 16
# Shares on which the other rules are tried; question first and question joined exclude each other.
RENAMED, SWAPPED, QUESTION_FIRST, QUESTION_JOINED = 0.35, 0.3, 0.1, 0.12
MAX_WORDS = 50  # of a story that is interrupted: longer ones would be cut off

# Counted words that say how much of a thing there is or what holds it, and words on s that are no
# nouns: another word in their place would change what is asked, or would be no sentence.
_KEPT = set(
    """
    minutes hours days weeks months years seconds decades centuries mornings evenings nights
    afternoons weekdays weekends mondays saturdays sundays times steps points degrees
    dollars cents pennies nickels dimes quarters
    pounds ounces grams kilograms tons inches feet yards miles meters kilometers centimeters acres
    liters quarts pints gallons cups spoons teaspoons tablespoons
    dozens pairs halves thirds percent rows columns groups teams sets boxes bags packs packets
    stacks piles bunches baskets crates cartons jars trays shelves bundles cases rolls sheets pieces
    slices loads others ones
    us his as is was has this its does less across always hers ours theirs yours plus towards
    besides perhaps
    """.split()
)
_KINDS = (
    "(?:more|fewer|other|red|blue|green|yellow|white|black|big|small|large|new|old|young|fresh|"
    "wooden|paper|glass|plastic)"
)
_WHICH = r"(?:of (?:the|his|her|these) )?(?:[A-Za-z]+ )??"
_COUNTED = re.compile(
    rf"\b(?:number\d+|[Hh]ow many)(?: {_KINDS}| of (?:the|his|her|these))* "
    r"(?P<noun>[a-z]{3,}s)\b(?! of\b)"
)
# A sentence with one of these may not make sense, or may mean something else, in another place.
_LEANING = re.compile(
    r"\b(he|she|they|it|its|his|her|their|them|him|these|those|this|that|if|then|each|every|all|"
    r"total|together|altogether|rest|others?|same|also|too|than|both|left|half|twice|of the|one|"
    r"new)\b",
    re.IGNORECASE,
)
_FOLLOWING = re.compile(
    r"\b(more|another|then|after|later|next|now|also|too|other|them|these|he|she|they|it|his|her|"
    r"their|its|there|those|this|that|each|rest|fewer|less|than|left|the)\b",
    re.IGNORECASE,
)
# With another tale beside it, these may ask for the sum of both, or for either.
_SUMMING = r"\b(total|altogether|in all|both|together|things|items|objects|animals|people|rest)\b"
_MEASURES = (
    r"\$|\b(much|money|spend|spent|pay|paid|costs?|earn\w*|dollars?|cents?|long|longer|far|farther|"
    r"old|older|tall|taller|high|higher|heavy|heavier|minutes?|hours?|days?|weeks?|months?|years?|"
    r"inch\w*|feet|foot|miles?|pounds?|ounces?|gallons?|quarts?|times?|points?)\b"
)
_COMMON = set(
    """
    after again also another before bring brought came come does done down each first from gave give
    given gets going have having here into keep kept know last later left made make makes many more
    most much need needs next number only other over puts same some takes than that their them then
    there these they this those three took until used very wants week were what when where which
    while will with would year years
    """.split()
)
_POINTING = re.compile(
    r"\b(he|she|they|it|each|one|him|her|his|them|their|these|those|that|this|then)\b|number"
)
_NO_NAMES = set(
    """
    a after all an at before both during each every he her his in it on one only she some the their
    there they when
    """.split()
)


def retell_tale(rng: random.Random, tales: Sequence[Tale] | None = None) -> Story:
    """Tell a tale in another way than it is written, or as it is.

    Args:
        rng: The source of all choices.
        tales: What to draw from; by default those that come with the project.

    Returns:
        A story. Its numbers are named in the order of their appearance; its question need not come
        last.
    """
    tales = load_tales() if tales is None else tales
    way = rng.choices(list(WAYS), list(WAYS.values()))[0]
    attempts = (_tell(way, rng, tales) for _ in range(ATTEMPTS))
    story = next(filter(None, attempts), None) or make_tale(rng, tales)
    if rng.random() < RENAMED:
        story = rename(story, rng) or story
    if rng.random() < SWAPPED:
        story = swap_sentences(story, rng) or story
    chance = rng.random()
    if chance < QUESTION_FIRST:
        story = question_first(story) or story
    elif chance < QUESTION_FIRST + QUESTION_JOINED:
        story = question_joined(story, rng) or story
    return replace(story, text=capitals(story.text))


def _tell(way: str, rng: random.Random, tales: Sequence[Tale]) -> Story | None:
    tale, persons = rng.choice(tales), draw_persons(rng)
    story = make_tale(rng, [tale], persons)
    if way == "double":
        return double(story, rng)
    if way == "beside_same":
        others = draw_persons(rng)
        return beside_same(story, make_tale(rng, [tale], others), persons, others, rng)
    if way == "beside":
        return beside(story, make_tale(rng, tales, persons), rng)
    if way == "interrupt":
        return interrupt(story, make_tale(rng, tales), rng)
    return story


def double(story: Story, rng: random.Random) -> Story | None:
    """Tell as much of a second thing wherever a thing is counted, and ask for one of the two.

    ``He had 9 kites and lost 4 kites`` becomes ``He had 9 kites and 7 drums and lost 4 kites and 2
    drums``. None if a number of the equation may count either, or one is implied by a word.
    """
    *facts, question = sentences(story.text)
    told, needed = " ".join(facts), set(operands(story.tree))
    asked = re.search(r"\b[Hh]ow many (?:more )??(?:[A-Za-z]+ )??([a-z]{3,}s)\b(?! of\b)", question)
    things = set(re.findall(rf"\bnumber\d+ {_WHICH}([a-z]{{3,}}s)\b(?! of\b)", told)) - _KEPT
    if asked is None or asked[1] not in things or "number" in question:
        return None
    if re.search(_SUMMING, story.text) or re.search(r"\b(than|others?|equal\w*)\b", story.text):
        return None
    noun = asked[1]
    if re.search(rf"\b{_singular(noun)}\b", told):
        return None  # what is said of one of them would have to be said of one of the others
    second = next(
        (other for other in rng.sample(counted_nouns(), 3) if other not in story.text), None
    )
    if second is None:
        return None
    # A number alone counts them too, but only where nothing else is counted.
    bare = r"|\b(?P<bare>number\d+)(?P<them> of them\b|(?=[.,?]| and\b))"
    counts = re.compile(
        rf"\b(?P<name>number\d+) (?P<which>{_WHICH}){noun}\b" + (bare if things == {noun} else "")
    )
    twins: dict[str, str] = {}

    def pair(match: re.Match[str]) -> str:
        found = match.groupdict()
        name = found["name"] or found["bare"]
        if not found["name"] and name not in needed:
            return match[0]
        which = found["which"] or ("of the " if found.get("them") else "")
        shared = re.match(r"(?:of \w+ |more )?", which)
        and_of = shared[0] if shared else ""
        twin = twins.setdefault(name, f"number{len(story.numbers) + len(twins)}")
        both = [f"{name} {which}{noun}", f"{twin} {and_of}{second}"]
        return " and ".join(both if rng.random() < 0.8 else both[::-1])

    told = counts.sub(pair, told)
    if not needed & twins.keys():
        return None
    # What has no twin must count something that is there for both, such as boxes.
    if not _terms(story.tree) <= twins.keys():
        return None
    for name in needed - twins.keys():
        if not re.search(rf"\b{name} [a-z]+(?:s|ren)\b", told):
            return None
    tree = story.tree
    twin = map_leaves(tree, lambda leaf: twins.get(leaf, leaf))
    if rng.random() < 0.6:
        question = question.replace(asked[0].split("many ", 1)[1], second)
        tree = twin
    for _ in range(60):
        high = rng.choice((12, 30, 100))
        numbers = (*story.numbers, *(str(rng.randint(2, high)) for _ in twins))
        # What is asked, and the same of the other thing, which is told as well.
        if all(_is_whole(each, numbers) for each in (story.tree, twin)):
            return told_in_order(
                replace(story, tree=tree, question=question), [told, question], numbers
            )
    return None


def beside(story: Story, other: Story, rng: random.Random) -> Story | None:
    """Tell another story's facts, too; None if the question might be about either."""
    *facts, question = sentences(story.text)
    *besides, _ = sentences(other.text)
    words = set(_words(story.text)) - _COMMON
    if not facts or not besides or any(not s.endswith(".") for s in (*facts, *besides)):
        return None
    if len((story.text + other.text).split()) > MAX_WORDS + 8:
        return None
    told = set(_words(" ".join(besides))) - _COMMON
    named = set(_words(question)) - _COMMON
    if len(told & words) > 1 or told & named or not named & set(_words(" ".join(facts))):
        return None
    if re.search(_SUMMING, question) or (_is_measure(question) and _is_measure(" ".join(besides))):
        return None
    is_first = rng.random() < 0.5 or _POINTING.search(question) is not None
    return _told_with(story, other, " ".join(besides), 0 if is_first else len(facts))


def beside_same(
    story: Story,
    other: Story,
    persons: Mapping[str, str],
    others: Mapping[str, str],
    rng: random.Random,
) -> Story | None:
    """Tell the same of another person, too; None if the tale has more than one, or names none."""
    *facts, question = sentences(story.text)
    *besides, _ = sentences(other.text)
    name, second = persons["N"], others["N"]
    if not facts or not besides or name == second or len(story.text.split()) > 32:
        return None
    if name not in facts[0] or second not in besides[0] or name not in question:
        return None
    if any(p[k] in t for p, t in ((persons, story.text), (others, other.text)) for k in "MP"):
        return None
    if _is_leaning_on_places(facts) or re.search(_SUMMING, question):
        return None
    return _told_with(story, other, " ".join(besides), 0 if rng.random() < 0.5 else len(facts))


def rename(story: Story, rng: random.Random) -> Story | None:
    """Count other things: each counted noun becomes another, everywhere.

    None if nothing is counted, or if a number of the equation is implied by a word.
    """
    *facts, question = sentences(story.text)
    nouns = _counted(" ".join(facts))
    if not set(_counted(question)) <= set(nouns):
        return None  # "birds" may sum up ducks and geese
    if not nouns or not all(leaf.startswith("number") for leaf in operands(story.tree)):
        return None
    words: dict[str, str] = {}
    for old, new in zip(nouns, rng.sample(counted_nouns(), len(nouns)), strict=True):
        words[old], words[_singular(old)] = new, _singular(new)
    longest_first = sorted(words, key=len, reverse=True)
    pattern = re.compile(rf"\b([Aa]n? )?({'|'.join(map(re.escape, longest_first))})\b")

    def swap(match: re.Match[str]) -> str:
        new = words[match[2]]
        if not match[1]:
            return new
        return match[1][0] + ("n " if new[0] in "aeiou" else " ") + new

    return replace(
        story, text=pattern.sub(swap, story.text), question=pattern.sub(swap, story.question)
    )


def interrupt(story: Story, other: Story, rng: random.Random) -> Story | None:
    """Put a sentence of another tale, with its numbers, anywhere before the last sentence.

    None if the story is long, or the other tale has no sentence that stands on its own.
    """
    parts = sentences(story.text)
    if len(parts) < 2 or len(story.text.split()) > MAX_WORDS:
        return None
    taken = set(_words(story.text))
    told = [
        sentence
        for sentence in sentences(other.text)[:-1]
        if sentence.endswith(".")
        and re.search(r"\$number\d+|number\d+ [a-z]+s\b", sentence)
        and len(re.findall(r"\bnumber\d+\b", sentence)) <= 2
        and len(sentence.split()) <= 16
        and not _LEANING.search(sentence)
        and sum(word in taken for word in _words(sentence)) < 2
    ]
    if not told:
        return None
    sentence = rng.choice(told)
    # Straight before a question that names nothing, it would be asked about.
    *facts, question = parts
    is_named = set(_words(question)) & set(_words(" ".join(facts))) - _COMMON
    place = rng.randrange(len(parts) if is_named else len(facts))
    return _told_with(story, other, sentence, place)


def swap_sentences(story: Story, rng: random.Random) -> Story | None:
    """Let two neighbouring sentences change places; None if every second one leans on its first."""
    parts = sentences(story.text)
    free = [
        k
        for k in range(len(parts) - 2)
        if not _FOLLOWING.search(parts[k + 1])
        and parts[k + 1].endswith(".")
        and not _LEANING.search(parts[k])
    ]
    if not free:
        return None
    k = rng.choice(free)
    parts[k], parts[k + 1] = parts[k + 1], parts[k]
    return told_in_order(story, parts, story.numbers)


def question_first(story: Story) -> Story | None:
    """Put the question before the facts; None if it points back at them."""
    *facts, question = sentences(story.text)
    if not facts or not question.startswith("How ") or not question.endswith("?"):
        return None
    if _POINTING.search(question):
        return None
    return told_in_order(story, [question, *facts], story.numbers)


def question_joined(story: Story, rng: random.Random) -> Story | None:
    """Make one sentence of the last fact and the question; None if one of them is no plain one."""
    *facts, last, question = ["", *sentences(story.text)]
    if not last.endswith(".") or not question.startswith("How ") or "number" in question:
        return None
    if ";" in last or re.search(r"\bif\b|^(so|but|and)\b", last, re.IGNORECASE):
        return None
    asked = question[0].lower() + question[1:]
    told = last[:-1].removeprefix("Then ")
    condition = told[0].lower() + told[1:] if told.split()[0].lower() in _NO_NAMES else told
    joined = rng.choice(
        [f"If {condition}, {asked}", f"{last[:-1]}, so {asked}", f"{last[:-1]} - {asked}"]
    )
    return told_in_order(story, [*filter(None, facts), joined], story.numbers)


def _told_with(story: Story, other: Story, told: str, place: int) -> Story:
    """Put what ``other`` tells before the sentence at ``place``, with its numbers."""
    shift = len(story.numbers)
    parts = sentences(story.text)
    parts.insert(place, re.sub(r"\bnumber(\d+)\b", lambda m: f"number{int(m[1]) + shift}", told))
    return told_in_order(story, parts, (*story.numbers, *other.numbers))


def told_in_order(story: Story, parts: Sequence[str], numbers: Sequence[str]) -> Story:
    """Tell a story in these sentences, its numbers named in their order, in the equation too.

    Args:
        story: Whose equation and question it has.
        parts: The sentences; the k-th of ``numbers`` is named ``number<k>`` in them.
        numbers: The values.
    """
    text = " ".join(parts)
    order = list(dict.fromkeys(re.findall(r"\bnumber\d+\b", text)))
    place = {name: k for k, name in enumerate(order)}
    return replace(
        story,
        text=re.sub(r"\bnumber\d+\b", lambda m: f"number{place[m[0]]}", text),
        numbers=tuple(numbers[int(name[6:])] for name in order),
        tree=in_order(story.tree, place),
    )


def _terms(tree: Expression) -> set[str]:
    """Return the leaves that are added or subtracted."""
    if isinstance(tree, str):
        return set()
    own = {side for side in tree[1:] if isinstance(side, str) and tree[0] in "+-"}
    return own | _terms(tree[1]) | _terms(tree[2])


def _is_whole(tree: Expression, numbers: Sequence[str]) -> bool:
    try:
        value = evaluate(tree, numbers)
    except ZeroDivisionError:
        return False
    return value > 0 and value.denominator == 1


def _is_measure(text: str) -> bool:
    return bool(re.search(_MEASURES, text, re.IGNORECASE))


def _is_leaning_on_places(facts: Sequence[str]) -> bool:
    return any(re.match(r"(There|In|On|At) ", sentence) for sentence in facts)


def _counted(text: str) -> list[str]:
    found = dict.fromkeys(match["noun"] for match in _COUNTED.finditer(text))
    return [noun for noun in found if noun not in _KEPT and not noun.endswith(("ss", "ous"))]


@cache
def counted_nouns() -> tuple[str, ...]:
    """Return the plural nouns that the tales count."""
    rng = random.Random(0)
    told = (make_tale(rng, [tale]).text for tale in load_tales())
    return tuple(dict.fromkeys(noun for text in told for noun in _counted(text)))


def _singular(noun: str) -> str:
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith(("shes", "ches", "xes", "sses", "oes")):
        return noun[:-2]
    return noun[:-1]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]{4,}", text.lower())
