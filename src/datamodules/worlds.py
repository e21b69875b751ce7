"""Generated word problems from small worlds: the text that ``t5_mini`` learns quantities from.

Decides how a problem is made. A *scene* is a tiny world: named quantities, the relations that hold
between them (``left = had - lost``), sentences that tell one or two of them, and questions that ask
for one. Which quantities are told, which stay hidden ("some") and which one is asked is drawn at
random, and the equation is derived from the relations. One text therefore appears with many
questions, operations are inverted, and told quantities that the answer does not need are left in
as distractors: the kinds of variation that Patel et al. 2021 (arXiv 2103.07191) name (question
sensitivity, reasoning ability, structural invariance).

Left out on purpose: unit conversion, percentages of percentages and anything that needs a world
larger than a dozen quantities. The problems of ``data=procedural`` come from another generator
with templates of its own, so that its held-out templates stay unseen.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# algorithms.answers: an expression is a leaf ("number0", "2") or (operator, left, right).
from src.algorithms.answers import Expression, operands, parse_infix

__all__ = ["SCENES", "Story", "make_story"]


@dataclass(frozen=True)
class Story:
    """One problem.

    Attributes:
        text: The problem with numbers written ``number0 number1 ...`` in order of appearance.
        numbers: The value of each, as it would be written ("12").
        tree: The solution over those names.
        question: The last sentence of ``text``.
        scene: The name of the scene that it comes from.
    """

    text: str
    numbers: tuple[str, ...]
    tree: Expression
    question: str
    scene: str

    @property
    def raw(self) -> str:
        """The text with its numbers written out."""
        return re.sub(r"number(\d+)", lambda m: self.numbers[int(m.group(1))], self.text)


# --- words -----------------------------------------------------------------------------------

HER = """
mary anna lisa emma olivia sophia mia amelia julia sarah laura karen nancy susan linda donna
carol sandra kelly amy rachel megan hannah paula diane joan alice ruth tina rosa maria brenda
cindy wendy haley vanessa tiffany bridget pamela martha shannon jessica robin marlee janet nina
clara elena fiona grace helen irene jane kate lucy molly nora petra rita sally tessa zoe
mrs.hall mrs.snyder gwen faye debby melanie carla isha sofia ellen joyce marilyn lexi
""".split()
HIM = """
tom john mike david james robert paul mark george kevin brian eric adam jason ryan jacob gary
peter sam dan frank scott henry carl dave joe larry jerry roger keith fred jim tim luke oscar
victor walter ben alex chris nathan billy bryan paco faruk bobby ned will tony allen lewis
edward oliver leo max noah owen zach mr.bell mr.smith randy ronald ralph philip russell sean
steve ted vincent warren andrew baker charles duke howard isaac josh kyle matthew norman
""".split()
THEY = """the school|the teacher|the farmer|the baker|the library|the shop|the store|the team|the
club|the chef|the company|the gardener|the class|the restaurant|the museum|the waiter|the
florist|the painter|the zoo|the toy store|a shopkeeper|a fisherman|the coach|the mayor|grandma|mom|
dad|his brother|her sister|their uncle|my friend""".replace("\n", " ").split("|")

FOOD = """
apple orange banana peach pear lemon lime plum mango melon strawberry cherry grape berry cookie
cupcake cake pie muffin donut brownie candy chocolate lollipop sweet gumball cracker sandwich
taco pancake waffle pretzel pizza hamburger hotdog egg potato carrot tomato onion pepper
cucumber pumpkin walnut peanut almond chestnut biscuit raisin popsicle slice:slices_of_bread
piece:pieces_of_candy slice:slices_of_pizza bag:bags_of_chips
""".split()
THINGS = """
marble book pencil pen crayon marker eraser notebook ruler sticker stamp card coin shell
seashell stone rock button bead bracelet necklace ring doll toy ball balloon block brick
car:toy_cars game:video_games game puzzle magazine comic:comic_books coloring_book novel photo
picture:pictures poster postcard letter envelope shirt sock hat glove scarf dress jacket
cap:bottle_caps bottle cup mug plate bowl spoon fork napkin candle flower rose tulip daisy lily
leaf seed feather ribbon ticket token badge medal trophy key lamp clock watch chair table desk
brush paintbrush baseball:baseball_cards basketball football kite drum whistle magnet flag
bookmark folder paper:sheets_of_paper log nail screw tile dvd cd movie song file app bow quarter
dime nickel penny action:action_figures stuffed:stuffed_animals trading:trading_cards
pair:pairs_of_shoes box:boxes_of_cereal bag:bags_of_rice
""".split()
ANIMALS = """
cow sheep pig goat horse chicken duck hen rabbit dog cat kitten puppy fish goldfish bird parrot
crow pigeon frog turtle butterfly bee ant spider snake lizard monkey elephant lion tiger bear
deer fox owl penguin dolphin crab whale hamster
""".split()
PEOPLE = """
student boy girl child adult teacher player visitor guest customer passenger worker friend kid
fan swimmer runner soldier singer dancer actor tourist scout camper people:people man woman
parent employee manager
""".split()
CONTAINERS = """
box bag basket jar crate carton bucket tray drawer shelf bin case packet pack bowl can bottle
pouch tank cage chest tin sack package bookshelf album folder pile stack group row table vase
bunch team class bus car van tent room page plate binder bouquet
""".split()
COLOURS = ["red", "blue", "green", "yellow", "white", "black", "pink", "purple", "orange", "brown"]
KINDS = """
small large big old new short long plain wooden plastic metal fresh rotten broken sweet heavy
light chocolate vanilla striped spotted gold silver round square
""".split()
PLACES = """box|basket|drawer|room|garden|park|store|school|classroom|farm|yard|tree|pond|lake|shop|
library|kitchen|refrigerator|jar|bag|field|house|street|zoo|museum|pet store|desk|bakery|
parking lot|forest|pool|barn|cafeteria|warehouse""".replace("\n", "").split("|")
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
TIMES = [
    ("yesterday", "today"), ("in the morning", "in the afternoon"), ("last week", "this week"),
    ("last month", "this month"), ("on saturday", "on sunday"), ("on monday", "on tuesday"),
    ("in may", "in june"), ("last year", "this year"), ("before lunch", "after lunch"),
    ("the first day", "the second day"), ("in the first game", "in the second game"),
    ("in the first week", "in the second week"),
]  # fmt: skip
ITEMS = """
book pen ball cake hat drink movie ticket toy shirt game watch lamp bike phone doll pizza
sandwich coat bag camera
""".split()
UNITS = [
    ("day", "days"),
    ("hour", "hours"),
    ("week", "weeks"),
    ("minute", "minutes"),
    ("month", "months"),
]
IRREGULAR = {
    "child": "children", "man": "men", "woman": "women", "fish": "fish", "sheep": "sheep",
    "deer": "deer", "leaf": "leaves", "shelf": "shelves", "bookshelf": "bookshelves",
    "potato": "potatoes", "tomato": "tomatoes", "mango": "mangoes",
    "people": "people", "goldfish": "goldfish", "bus": "buses",
}  # fmt: skip
# past|base form|past participle
LOSE = """gave_away|give_away|given_away lost|lose|lost sold|sell|sold used|use|used
threw_away|throw_away|thrown_away broke|break|broken donated|donate|donated dropped|drop|dropped
gave_to_a_friend|give_to_a_friend|given_to_a_friend returned|return|returned removed|remove|removed
misplaced|misplace|misplaced shared|share|shared put_away|put_away|put_away mailed|mail|mailed
gave_to_charity|give_to_charity|given_to_charity took_out|take_out|taken_out spent|spend|spent"""
EAT = """ate|eat|eaten cooked|cook|cooked gave_away|give_away|given_away sold|sell|sold
served|serve|served finished|finish|finished fed_to_the_dog|feed_to_the_dog|fed_to_the_dog
ate|eat|eaten"""
GAIN = """bought|buy|bought found|find|found got|get|gotten received|receive|received
collected|collect|collected picked_up|pick_up|picked_up won|win|won made|make|made
added|add|added earned|earn|earned borrowed|borrow|borrowed ordered|order|ordered
purchased|purchase|purchased gathered|gather|gathered brought|bring|brought"""
MAKE = """baked|bake|baked made|make|made sold|sell|sold collected|collect|collected
picked|pick|picked bought|buy|bought found|find|found counted|count|counted packed|pack|packed
washed|wash|washed delivered|deliver|delivered gathered|gather|gathered saw|see|seen
read|read|read painted|paint|painted planted|plant|planted caught|catch|caught
donated|donate|donated used|use|used ate|eat|eaten cut|cut|cut folded|fold|folded"""


def _plural(noun: str) -> str:
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(s|x|ch|sh)$", noun) else "s")


def _noun(rng: random.Random, words: Sequence[str]) -> tuple[str, str]:
    """Draw a noun: (singular, plural)."""
    word = rng.choice(words)
    if ":" not in word:
        word = word.replace("_", " ")
        return word, _plural(word)
    one, many = word.split(":")
    many = many.replace("_", " ")
    if " of " in many:
        return one + " of " + many.split(" of ", 1)[1], many
    return many.removesuffix("s"), many


def _verb(rng: random.Random, words: str) -> tuple[str, str, str]:
    past, base, participle = rng.choice(words.split()).replace("_", " ").split("|")
    return past, base, participle


# --- worlds ----------------------------------------------------------------------------------

Relation = tuple[str, str, str, str]  # (c, operator, a, b) for c = a operator b


@dataclass(frozen=True)
class Scene:
    """A small world.

    Attributes:
        values: Draws the quantities; one that is not positive does not occur.
        relations: What holds between them.
        facts: In order of telling, (quantity told, how, sentences). ``how`` is ``event`` (told with
            "some" when the quantity is hidden), ``state`` (sometimes so) or ``known`` (told only
            when it is known). In a sentence ``[a|b]`` is a choice, ``{x}`` a word, ``{#x}`` a
            quantity and ``{$x}`` an amount of money. One story keeps to one topic: sentences that
            begin with ``@topic`` go together, the others are the default.
        questions: For each quantity that can be asked, its questions.
    """

    values: Callable[[random.Random], dict[str, int]]
    relations: list[Relation]
    facts: list[tuple[str, str, list[str]]]
    questions: dict[str, list[str]]


def _int(rng: random.Random, low: int = 2, high: int = 99) -> int:
    high = rng.choice([min(high, 12), high, high, high * (9 if high >= 60 else 1)])
    return rng.randint(low, max(high, low + 1))


def _change(rng: random.Random) -> dict[str, int]:
    b, c, d = _int(rng), _int(rng), _int(rng)
    return {"had": b + c, "lost": b, "left": c, "got": d, "end": c + d, "up": d - b, "down": b - d}


def _gain(rng: random.Random) -> dict[str, int]:
    a, b, c = _int(rng), _int(rng), _int(rng)
    return {"had": a, "got": b, "now": a + b, "got2": c, "end": a + b + c, "gained": b + c}


def _two(rng: random.Random) -> dict[str, int]:
    a, b, z = _int(rng), _int(rng), _int(rng)
    a, b = max(a, b) + (a == b), min(a, b)
    return {"a": a, "b": b, "sum": a + b, "diff": a - b, "z": z}


def _three(rng: random.Random) -> dict[str, int]:
    a, b, c = _int(rng), _int(rng), _int(rng)
    b, c = max(b, c) + (b == c), min(b, c)
    return {"a": a, "b": b, "c": c, "ab": a + b, "sum": a + b + c, "diff": b - c}


def _groups(rng: random.Random) -> dict[str, int]:
    g, p, e = _int(rng, 2, 40), _int(rng, 2, 40), _int(rng)
    used = rng.randint(1, g - 1)
    return {"g": g, "p": p, "t": g * p, "e": e, "all": g * p + e, "used": used, "rest": g - used,
            "trest": (g - used) * p}  # fmt: skip


def _share(rng: random.Random) -> dict[str, int]:
    g, p, b = _int(rng, 2, 30), _int(rng, 2, 40), _int(rng)
    return {"had": g * p + b, "lost": b, "t": g * p, "g": g, "p": p}


def _share_sum(rng: random.Random) -> dict[str, int]:
    g, p = _int(rng, 2, 30), _int(rng, 2, 40)
    a = rng.randint(1, g * p - 1)
    return {"a": a, "b": g * p - a, "t": g * p, "g": g, "p": p}


def _shop(rng: random.Random) -> dict[str, int]:
    n, p, left, other = _int(rng, 2, 30), _int(rng, 2, 40), _int(rng, 1, 60), _int(rng, 1, 60)
    return {"n": n, "p": p, "cost": n * p, "money": n * p + left, "left": left, "other": other,
            "bill": n * p + other}  # fmt: skip


def _spend(rng: random.Random) -> dict[str, int]:
    values = _change(rng)
    return {**values, "both": values["lost"] + values["got"]}


def _discount(rng: random.Random) -> dict[str, int]:
    d, q, n = _int(rng, 1, 60), _int(rng, 1, 60), _int(rng, 2, 12)
    return {"price": d + q, "off": d, "pay": q, "n": n, "total": n * q, "full": n * (d + q)}


def _two_shop(rng: random.Random) -> dict[str, int]:
    n, p, m, q = (_int(rng, 2, 15) for _ in range(4))
    return {"n": n, "p": p, "m": m, "q": q, "c1": n * p, "c2": m * q, "cost": n * p + m * q,
            "items": n + m}  # fmt: skip


def _times(rng: random.Random) -> dict[str, int]:
    k, a = _int(rng, 2, 12), _int(rng, 2, 60)
    return {"a": a, "k": k, "b": k * a, "sum": k * a + a, "diff": k * a - a}


def _rate(rng: random.Random) -> dict[str, int]:
    r, n, more = _int(rng, 2, 50), _int(rng, 2, 24), _int(rng, 1, 20)
    return {"r": r, "n": n, "t": r * n, "m": more, "nm": n + more, "tm": r * (n + more)}


def _transfer(rng: random.Random) -> dict[str, int]:
    x, c, b = _int(rng), _int(rng), _int(rng)
    return {"a": x + c, "b": b, "x": x, "a2": c, "b2": b + x}


def _crowd(rng: random.Random) -> dict[str, int]:
    off, stay, on = _int(rng), _int(rng), _int(rng)
    return {"had": off + stay, "off": off, "stay": stay, "on": on, "end": stay + on,
            "up": on - off, "down": off - on}  # fmt: skip


def _goal(rng: random.Random) -> dict[str, int]:
    done, rest, r = _int(rng), _int(rng), _int(rng, 2, 12)
    more = rng.randint(1, rest - 1) if rest > 1 else 1
    return {"goal": done + rest, "done": done, "rest": rest, "r": r, "time": rest * r, "more": more,
            "rest2": rest - more, "both": done + more}  # fmt: skip


def _grid(rng: random.Random) -> dict[str, int]:
    g, p, n = _int(rng, 2, 20), _int(rng, 2, 20), _int(rng, 2, 9)
    return {"g": g, "p": p, "gp": g * p, "n": n, "t": g * p * n}


def _mix(rng: random.Random) -> dict[str, int]:
    g, p, h, q = (_int(rng, 2, 20) for _ in range(4))
    return {"g": g, "p": p, "h": h, "q": q, "t1": g * p, "t2": h * q, "t": g * p + h * q,
            "gh": g + h}  # fmt: skip


def _each_two(rng: random.Random) -> dict[str, int]:
    g, p, q = _int(rng, 2, 30), _int(rng, 2, 30), _int(rng, 2, 30)
    p, q = max(p, q) + (p == q), min(p, q)
    return {"g": g, "p": p, "q": q, "tp": g * p, "tq": g * q, "pq": p + q, "t": g * (p + q),
            "d": p - q, "td": g * (p - q)}  # fmt: skip


CHANGE: list[Relation] = [("left", "-", "had", "lost"), ("end", "+", "left", "got")]
# Sentences stay on one line each: they are data. ruff: noqa: E501
SCENES: dict[str, Scene] = {
    "lose": Scene(
        _change,
        CHANGE,
        [
            ("had", "event", [
                "{P} [had|owned] {#had} {o} .", "{P} has {#had} {o} .", "There [were|are] {#had} {o} in the {place} .",
                "{P} started with {#had} {o} .", "{P} had {#had} {o} in [{his} collection|a {c1}|the {place}] .",
                "At first {P} had {#had} {o} .", "{P} {gv} {#had} {o} [{t1}|] .", "Before {he} went out {P} had {#had} {o} ."]),
            ("lost", "event", [
                "{He} {lv} {#lost} [of them|{o}|of the {o}|] .", "{P} {lv} {#lost} of [them|{his} {o}|the {o}] .",
                "Then {he} {lv} {#lost} {o} .", "{He} gave {Q} {#lost} [of the {o}|{o}|] .", "{Q} took {#lost} [of them|{o}|] .",
                "{P} gave {#lost} {o} to {Q} .", "{#lost} of the {o} were {lp} .", "{P} [decided to|had to] {lb} {#lost} of them ."]),
            ("left", "known", [
                "Now {he} has {#left} {o} [left|] .", "Now there are {#left} {o} [left|] .", "{He} still has {#left} {o} .",
                "{P} has {#left} {o} [now|remaining|left] .", "After that {he} had {#left} {o} left .", "{#left} {o} were left ."]),
            ("got", "event", [
                "Then {he} {gv} {#got} [more|new {o}|more {o}|other {o}] .", "[Later|After that] {P} {gv} {#got} [more {o}|{o}] .",
                "{R} gave {him} {#got} [more|more {o}|{o}] .", "{He} {gv} {#got} {o} from {R} ."]),
            ("end", "known", [
                "{P} ended up with {#end} {o} .", "In the end {he} had {#end} {o} .", "[Now|So now] {he} has {#end} {o} ."]),
        ],
        {
            "left": ["How many {o} [does {P} have left|does {P} have now|are left|remain|does {he} still have] ?",
                     "How many {o} did {P} have [left|then|after that|remaining] ?", "What number of {o} does {P} still have ?",
                     "How many {o} were not {lp} ?", "How many {o} were left ?"],
            "had": ["How many {o} did {P} have [at first|to start with|in the beginning|before|initially|originally] ?",
                    "How many {o} did {he} start with ?", "How many {o} were there [at first|in the beginning|to begin with] ?",
                    "What was the number of {o} {P} had at the start ?"],
            "lost": ["How many {o} did {P} {lb} ?", "How many [of the {o}|of them|{o}] were {lp} ?",
                     "How many {o} did {he} {lb} [in all|] ?"],
            "got": ["How many [more|new|] {o} did {P} {gb} [later|after that|] ?", "How many {o} did {he} {gb} ?"],
            "end": ["How many {o} does {P} have [now|in the end|then] ?", "How many {o} did {P} end up with ?",
                    "How many {o} are there now ?", "How many {o} does {he} have in [total|all] now ?"],
        },
    ),
    "eat": Scene(
        _change,
        CHANGE,
        [
            ("had", "event", [
                "{P} had {#had} {f} .", "{P} [baked|bought|made|picked] {#had} {f} .", "There were {#had} {f} [in the {place}|on the table] .",
                "Mom [made|bought|baked] {#had} {f} .", "A {c1} had {#had} {f} in it .", "{P} has {#had} {f} to share ."]),
            ("lost", "event", [
                "{He} {ev} {#lost} [of them|of the {f}|{f}|] .", "{P} {ev} {#lost} {f} .", "{Q} ate {#lost} of them .",
                "{#lost} of the {f} were {ep} .", "The children ate {#lost} of the {f} .", "Then {Q} ate {#lost} ."]),
            ("left", "known", ["There are {#left} {f} left .", "Now {he} has {#left} {f} left .", "Only {#left} {f} remained ."]),
            ("got", "event", ["Then {he} made {#got} more .", "{Q} brought {#got} more {f} .", "Later {P} bought {#got} {f} ."]),
        ],
        {
            "left": ["How many {f} [are left|were left|remain|does {P} have left] ?", "How many {f} did {P} have left ?",
                     "How many {f} were not {ep} ?", "How many {f} are still there ?"],
            "had": ["How many {f} [did {P} have at first|were there at first|did {he} have in the beginning] ?",
                    "How many {f} were there before ?"],
            "lost": ["How many {f} [were {ep}|did {P} {eb}] ?", "How many of the {f} were {ep} ?"],
            "got": ["How many more {f} were brought ?", "How many {f} were added ?"],
            "end": ["How many {f} [are there now|does {P} have now] ?", "How many {f} were there in the end ?"],
        },
    ),
    "lose_and_gain": Scene(
        _change,
        [*CHANGE, ("up", "-", "got", "lost"), ("down", "-", "lost", "got")],
        [
            ("had", "state", ["{P} had {#had} {o} .", "There were {#had} {o} in the {place} .", "{P} began with {#had} {o} ."]),
            ("lost", "event", ["{He} {lv} {#lost} of them .", "{P} {lv} {#lost} {o} [{t1}|] .", "{P} gave {#lost} {o} to {Q} ."]),
            ("got", "event", ["[Then|Later|And] {he} {gv} {#got} [new|more|] {o} [{t2}|] .", "{P} {gv} {#got} {o} {t2} ."]),
            ("end", "known", ["Now {he} has {#end} {o} .", "{He} has {#end} {o} at the end ."]),
        ],
        {
            "up": ["How many more {o} did {he} {gb} than {he} {lv} ?", "How many fewer {o} did {P} {lb} than {he} {gv} ?",
                   "What is the difference between the {o} {he} {gv} and the {o} {he} {lv} ?"],
            "down": ["How many more {o} did {P} {lb} than {he} {gv} ?", "How many fewer {o} did {he} {gb} than {he} {lv} ?"],
            "end": ["How many {o} does {P} have now ?", "How many {o} did {he} end up with ?"],
            "left": ["How many {o} did {P} have before {he} {gv} the new ones ?"],
        },
    ),
    "gain": Scene(
        _gain,
        [("now", "+", "had", "got"), ("end", "+", "now", "got2"), ("gained", "+", "got", "got2")],
        [
            ("had", "event", [
                "{P} had {#had} {o} .", "{P} has {#had} {o} .", "There are {#had} {o} in the {place} .", "{P} already had {#had} {o} .",
                "{P} had {#had} {o} in {his} {c1} .", "{P} {gv} {#had} {o} {t1} .", "At first there were {#had} {o} ."]),
            ("got", "event", [
                "{He} {gv} {#got} [more|more {o}|other {o}|] .", "{Q} gave {him} {#got} more [{o}|] .", "{P} {gv} {#got} more {o} [from {Q}|] .",
                "Then {P} {gv} {#got} {o} [{t2}|at the store|] .", "{#got} more {o} were added .", "{P} went out and {gv} {#got} {o} ."]),
            ("now", "known", ["Now {he} has {#now} {o} .", "{P} now has {#now} {o} .", "There are {#now} {o} now ."]),
            ("got2", "event", ["Later {he} {gv} another {#got2} .", "{R} gave {him} {#got2} {o} too .", "{He} {gv} {#got2} more after that ."]),
            ("end", "known", ["In the end {he} had {#end} {o} .", "Altogether {P} has {#end} {o} now ."]),
        ],
        {
            "now": ["How many {o} does {P} have [now|altogether|in all|in total|then] ?", "How many {o} [are there now|did {he} have then] ?",
                    "How many {o} will {P} have ?", "What is the total number of {o} ?"],
            "had": ["How many {o} did {P} have [at first|before|to start with|in the beginning|originally] ?", "How many {o} did {he} start with ?"],
            "got": ["How many [more|] {o} did {P} {gb} ?", "How many {o} did {Q} give {him} ?", "How many {o} were added ?",
                    "How many more {o} does {P} need to have that many ?"],
            "got2": ["How many {o} did {he} {gb} after that ?", "How many {o} did {R} give {him} ?"],
            "end": ["How many {o} does {P} have in [all|total] ?", "How many {o} did {P} have at the end ?"],
            "gained": ["How many {o} did {P} {gb} in total ?", "By how many {o} did the number grow ?"],
        },
    ),
    "two_people": Scene(
        _two,
        [("sum", "+", "a", "b"), ("diff", "-", "a", "b")],
        [
            ("a", "state", ["{P} [has|had] {#a} {o} .", "{P} {mv} {#a} {o} [{t1}|] .", "{#a} {o} were {mp} by {P} ."]),
            ("b", "state", ["{Q} [has|had|{mv}] {#b} [{o}|] .", "{Q} {mv} {#b} {o} [too|] .", "{P} 's friend {Q} {mv} {#b} [{o}|] ."]),
            ("sum", "known", ["Together they [have|had|{mv}] {#sum} {o} .", "{P} and {Q} {mv} {#sum} {o} in all .", "They have {#sum} {o} altogether ."]),
            ("diff", "known", ["{P} has {#diff} more {o} than {Q} .", "{Q} has {#diff} fewer {o} than {P} .", "{P} {mv} {#diff} more {o} than {Q} ."]),
        ],
        {
            "sum": ["How many {o} do they have [altogether|in all|in total|together] ?", "How many {o} did {P} and {Q} {mb} [in all|altogether|in total] ?",
                    "How many {o} did they {mb} together ?", "What is the total number of {o} {P} and {Q} have ?",
                    "If they put their {o} together , how many will they have ?"],
            "diff": ["How many more {o} [does {P} have than {Q}|did {P} {mb} than {Q}] ?", "How many fewer {o} does {Q} have than {P} ?",
                     "What is the difference between the number of {o} {P} and {Q} {mv} ?", "How many {o} does {Q} need to have as many as {P} ?"],
            "a": ["How many {o} [does {P} have|did {P} {mb}] ?", "What is {P} 's number of {o} ?"],
            "b": ["How many {o} [does {Q} have|did {Q} {mb}] ?", "How many of the {o} are {Q} 's ?"],
        },
    ),
    "three_kinds": Scene(
        _three,
        [("ab", "+", "a", "b"), ("sum", "+", "ab", "c"), ("diff", "-", "b", "c")],
        [
            ("a", "state", ["{P} [had|bought|has|{mv}] {#a} {k1} {o} .", "There are {#a} {k1} {o} in the {place} .", "{#a} of the {o} are {k1} ."]),
            ("b", "state", ["{He} also [had|bought|{mv}] {#b} {k2} [ones|{o}] .", "There are also {#b} {k2} {o} .", "{#b} of the {o} are {k2} .",
                            "{P} {mv} {#b} {k2} {o} ."]),
            ("c", "state", ["And {he} {mv} {#c} {k3} {o} .", "{#c} {o} are {k3} .", "There are {#c} {k3} {o} .", "{He} has {#c} {k3} {o} too ."]),
            ("sum", "known", ["{P} has {#sum} {o} in all .", "There are {#sum} {o} altogether .", "In total there are {#sum} {o} ."]),
            ("diff", "known", ["There are {#diff} more {k2} {o} than {k3} {o} .", "{P} has {#diff} fewer {k3} {o} than {k2} ones ."]),
        ],
        {
            "sum": ["How many {o} [does {P} have|are there] in [all|total] ?", "How many {o} are there altogether ?",
                    "What is the total number of {o} ?"],
            "ab": ["How many {k1} and {k2} {o} are there ?", "How many {o} are not {k3} ?", "How many {k1} {o} and {k2} {o} does {P} have [in all|altogether] ?"],
            "diff": ["How many more {k2} {o} than {k3} {o} are there ?", "How many fewer {k3} {o} than {k2} {o} does {P} have ?",
                     "What is the difference between the number of {k2} {o} and {k3} {o} ?"],
            "a": ["How many {k1} {o} are there ?", "How many {o} are {k1} ?", "How many of the {o} are {k1} ?"],
            "b": ["How many {k2} {o} does {P} have ?", "How many {o} are {k2} ?"],
            "c": ["How many {k3} {o} are there ?", "How many of the {o} are {k3} ?"],
        },
    ),
    "two_objects": Scene(
        _two,
        [("sum", "+", "a", "b"), ("diff", "-", "a", "b")],
        [
            ("a", "state", ["{P} {mv} {#a} {o} .", "There are {#a} {o} in the {place} .", "{P} has {#a} {o} ."]),
            ("b", "state", ["{He} [also|] {mv} {#b} {x} .", "There are also {#b} {x} .", "and {#b} {x} .", "{P} has {#b} {x} [as well|] ."]),
            ("z", "known", ["{Q} has {#z} {o} .", "It took {him} {#z} minutes .", "{P} is {#z} years old .", "Each one cost {#z} cents ."]),
            ("sum", "known", ["In all {he} has {#sum} {o} and {x} .", "There are {#sum} {o} and {x} altogether ."]),
            ("diff", "known", ["There are {#diff} more {o} than {x} .", "{P} has {#diff} fewer {x} than {o} ."]),
        ],
        {
            "sum": ["How many {o} and {x} [are there|does {P} have] [in all|in total|altogether] ?", "How many things did {P} {mb} in all ?"],
            "diff": ["How many more {o} than {x} [does {P} have|are there|did {P} {mb}] ?", "How many fewer {x} than {o} are there ?"],
            "a": ["How many {o} [does {P} have|are there] ?", "How many {o} did {P} {mb} ?"],
            "b": ["How many {x} [does {P} have|are there] ?", "How many {x} did {P} {mb} ?"],
        },
    ),
    "groups": Scene(
        _groups,
        [("t", "*", "g", "p"), ("all", "+", "t", "e"), ("rest", "-", "g", "used"), ("trest", "*", "rest", "p")],
        [
            ("g", "state", ["{P} [has|had|bought|filled] {#g} {c} of {o} .", "There are {#g} {c} of {o} .", "{P} put {his} {o} in {#g} {c} .",
                            "{P} has {o} in {#g} {c} .", "The {place} has {#g} {c} of {o} .", "{P} divided {his} {o} equally [among|into] {#g} {c} ."]),
            ("p", "state", ["Each {c1} [has|had|holds|contains] {#p} {o} .", "There are {#p} {o} in [each|every] {c1} .", "Every {c1} [had|holds] {#p} [{o}|] .",
                            "{He} put {#p} {o} in each {c1} .", "{#p} {o} fit in one {c1} ."]),
            ("t", "known", ["{P} has {#t} {o} .", "There are {#t} {o} in the {c} .", "{P} wants to pack {#t} {o} .", "{He} has {#t} {o} in all ."]),
            ("e", "known", ["{P} also has {#e} {o} [that are not in a {c1}|left over|outside] .", "{#e} more {o} lie on the floor .", "{He} found {#e} loose {o} ."]),
            ("used", "known", ["{He} gave {#used} of the {c} to {Q} .", "{P} opened {#used} of the {c} .", "{#used} of the {c} were lost ."]),
        ],
        {
            "t": ["How many {o} [does {P} have|are there] [in all|in total|altogether|in the {c}|] ?", "How many {o} are in the {c} [altogether|] ?",
                  "What is the total number of {o} in the {c} ?"],
            "p": ["How many {o} are [in|there in] each {c1} ?", "How many {o} does each {c1} [hold|have] ?", "How many {o} did {he} put in each {c1} ?",
                  "How big is each {c1} ?"],
            "g": ["How many {c} [are there|does {P} have|will {he} need|are needed|can {he} fill] ?", "How many {c} of {o} does {P} have ?",
                  "How many {c} can {he} make ?", "How many {c} did {P} use ?"],
            "all": ["How many {o} does {P} have in all ?", "How many {o} are there altogether ?"],
            "rest": ["How many {c} are left ?", "How many {c} does {P} have now ?"],
            "trest": ["How many {o} are in the {c} that are left ?", "How many {o} does {P} still have ?"],
        },
    ),
    "share_rest": Scene(
        _share,
        [("t", "-", "had", "lost"), ("t", "*", "g", "p")],
        [
            ("had", "event", ["{P} had {#had} {o} .", "There were {#had} {o} [in the {place}|] .", "{P} {gv} {#had} {o} ."]),
            ("lost", "event", ["{He} {lv} {#lost} of them .", "{#lost} of the {o} were {lp} .", "{P} kept {#lost} {o} for {him}self .", "{#lost} of them did not fit ."]),
            ("g", "known", ["{He} put the rest [equally|] in {#g} {c} .", "{He} divided the [rest|other {o}] [equally|] among {#g} friends .",
                            "The rest were shared by {#g} people ."]),
            ("p", "known", ["The rest were put in {c} of {#p} .", "Each {c1} holds {#p} {o} .", "{He} put {#p} {o} in each {c1} .",
                            "{He} packed the rest with {#p} in each {c1} ."]),
        ],
        {
            "p": ["How many {o} [were in each {c1}|did each get|did each friend get] ?", "How many {o} does each get ?"],
            "g": ["How many {c} [did {he} use|were needed|could {he} fill|were there] ?", "How many {c} could {he} make ?"],
            "had": ["How many {o} did {P} have at first ?", "How many {o} were there to begin with ?"],
            "t": ["How many {o} were left to share ?", "How many {o} were not {lp} ?"],
            "lost": ["How many {o} were {lp} ?"],
        },
    ),
    "share_sum": Scene(
        _share_sum,
        [("t", "+", "a", "b"), ("t", "*", "g", "p")],
        [
            ("a", "state", ["{P} {mv} {#a} {k1} {o} .", "{P} has {#a} {o} .", "There were {#a} {k1} {o} ."]),
            ("b", "state", ["{He} also {mv} {#b} {k2} {o} .", "{Q} has {#b} [{o}|] .", "{Q} brought {#b} more {o} .", "and {#b} {k2} {o} ."]),
            ("g", "known", ["They put [them|all of the {o}] in {#g} {c} .", "{He} shared them equally among {#g} friends .", "All of them were divided into {#g} {c} ."]),
            ("p", "known", ["They put {#p} {o} in each {c1} .", "Each {c1} can hold {#p} {o} .", "{#p} {o} go in every {c1} ."]),
            ("t", "known", ["There are {#t} {o} in all ."]),
        ],
        {
            "p": ["How many {o} were in each {c1} ?", "How many {o} does each get ?", "How many {o} would be in every {c1} ?"],
            "g": ["How many {c} [did they use|will they need|can be filled|do they have] ?", "How many {c} would there be ?"],
            "t": ["How many {o} are there in all ?", "How many {o} do they have together ?"],
            "a": ["How many {k1} {o} are there ?", "How many {o} did {P} have ?"],
            "b": ["How many {k2} {o} are there ?"],
        },
    ),
    "two_for_each": Scene(
        _each_two,
        [("tp", "*", "g", "p"), ("tq", "*", "g", "q"), ("pq", "+", "p", "q"), ("t", "*", "g", "pq"), ("d", "-", "p", "q"), ("td", "*", "g", "d")],
        [
            ("g", "state", ["{P} has {#g} {c} .", "There are {#g} {c} in the {place} ."]),
            ("p", "state", ["[Each one|Each {c1}|Every {c1}] has {#p} {o} .", "{P} put {#p} {o} in each {c1} .", "Each of them got {#p} {o} ."]),
            ("q", "state", ["and {#q} {x} .", "Each also has {#q} {x} .", "{He} put {#q} {x} in each {c1} ."]),
            ("tp", "known", ["There are {#tp} {o} in all ."]),
        ],
        {
            "tp": ["How many {o} are there in all ?", "How many {o} do they have altogether ?", "How many {o} are needed ?"],
            "tq": ["How many {x} are there in total ?", "How many {x} do they have altogether ?"],
            "pq": ["How many {o} and {x} does each have ?", "How many things does each {c1} have ?"],
            "t": ["How many {o} and {x} are there altogether ?", "How many things do they have in all ?"],
            "d": ["How many more {o} than {x} does each one have ?"],
            "td": ["How many more {o} than {x} are there altogether ?"],
            "g": ["How many {c} are there ?"],
        },
    ),
    "shop": Scene(
        _shop,
        [("cost", "*", "n", "p"), ("left", "-", "money", "cost"), ("bill", "+", "cost", "other")],
        [
            ("money", "event", ["{P} had {$money} .", "{P} [has|saved|earned|took] {$money} [to spend|] .", "{P} went to the store with {$money} ."]),
            ("n", "state", ["{He} bought {#n} {o} .", "{P} bought {#n} {o} at the store .", "{P} wants to buy {#n} {o} .", "{P} [ordered|needs] {#n} {o} ."]),
            ("p", "state", ["Each {o1} [costs|cost|was] {$p} .", "One {o1} costs {$p} .", "The {o} cost {$p} each .", "The price of a {o1} is {$p} .", "They were {$p} each ."]),
            ("cost", "known", ["{He} [paid|spent] {$cost} [for the {o}|on the {o}|] .", "The {o} cost {$cost} in all .", "{P} spent {$cost} on {o} ."]),
            ("other", "known", ["{He} also bought a {y} for {$other} .", "A {y} cost {$other} .", "{He} spent another {$other} on a {y} ."]),
            ("left", "known", ["{He} had {$left} left .", "Now {he} has {$left} [left|] .", "{He} got {$left} in change ."]),
        ],
        {
            "cost": ["How much [did the {o} cost|did {P} spend on {o}|does {he} have to pay] ?", "How much money did {P} spend on the {o} ?",
                     "What is the total cost of the {o} ?", "How much will {he} pay for the {o} ?"],
            "p": ["How much did each {o1} cost ?", "What was the price of [one|each|a] {o1} ?", "How many dollars does a {o1} cost ?"],
            "n": ["How many {o} did {P} buy ?", "How many {o} can {he} buy ?", "How many {o} did {he} get ?"],
            "money": ["How much money did {P} have [at first|before|to begin with] ?", "How much money did {he} start with ?"],
            "left": ["How much money does {P} have [left|now] ?", "How much change did {he} get ?", "How many dollars does {he} have left ?"],
            "bill": ["How much did {P} spend [altogether|in all|in total] ?", "How much money did {he} spend ?"],
            "other": ["How much did the {y} cost ?"],
        },
    ),
    "spend": Scene(
        _spend,
        [*CHANGE, ("both", "+", "lost", "got")],
        [
            ("had", "event", ["{P} had {$had} .", "{P} [saved|earned|was given] {$had} .", "{P} went to the [fair|store|mall] with {$had} ."]),
            ("lost", "event", ["{He} spent {$lost} on a {y} .", "A {y} cost {him} {$lost} .", "{He} [gave {$lost} to {Q}|bought a {y} for {$lost}] .", "{P} lost {$lost} ."]),
            ("got", "event", ["{Q} gave {him} {$got} .", "Then {he} earned {$got} [washing cars|mowing lawns|babysitting|] .", "{He} got {$got} from {his} mother ."]),
            ("left", "known", ["{He} had {$left} left .", "After that {P} had {$left} ."]),
            ("end", "known", ["Now {he} has {$end} [in all|] ."]),
        ],
        {
            "left": ["How much money [does {P} have left|did {he} have left] ?", "How many dollars are left ?", "How much money was left after buying the {y} ?"],
            "had": ["How much money did {P} have [at first|before|in the beginning] ?", "How much did {he} start with ?"],
            "lost": ["How much [did the {y} cost|did {P} spend|was the {y}] ?", "How much money did {P} spend ?"],
            "got": ["How much money did {he} [earn|get] ?", "How much did {P} make ?"],
            "end": ["How much money does {P} have now ?", "How many dollars does {he} have now ?"],
        },
    ),
    "discount": Scene(
        _discount,
        [("pay", "-", "price", "off"), ("total", "*", "n", "pay"), ("full", "*", "n", "price")],
        [
            ("price", "event", ["A {y} [cost|costs] {$price} .", "The price of a {y} was {$price} .", "The {place} sells a {y} for {$price} ."]),
            ("off", "event", ["It was on sale for {$off} less .", "The price went down by {$off} .", "{P} had a coupon for {$off} off .", "{P} had already paid {$off} of it .",
                              "Today each is {$off} cheaper .", "Members save {$off} on each {y} ."]),
            ("n", "known", ["{P} bought {#n} of them .", "{P} wants {#n} .", "{He} needs {#n} of these ."]),
            ("pay", "known", ["Now it costs {$pay} .", "{P} paid {$pay} for one ."]),
        ],
        {
            "pay": ["How much does [it|the {y}|one] cost now ?", "How much did {P} pay for [one|the {y}] ?", "What is the new price ?", "How much does {he} still have to pay ?"],
            "price": ["What was the [price|cost] before [the sale|that] ?", "How much did the {y} cost at first ?"],
            "off": ["How much cheaper did it become ?", "How much did {he} save ?", "How much was the discount ?"],
            "total": ["How much did {P} pay in all ?", "How much will all of them cost ?"],
            "full": ["How much would all of them cost at the old price ?"],
        },
    ),
    "two_prices": Scene(
        _two_shop,
        [("c1", "*", "n", "p"), ("c2", "*", "m", "q"), ("cost", "+", "c1", "c2"), ("items", "+", "n", "m")],
        [
            ("n", "state", ["{P} bought {#n} {o} .", "{P} ordered {#n} {o} ."]),
            ("p", "state", ["Each {o1} cost {$p} .", "The {o} were {$p} each ."]),
            ("m", "state", ["{He} also bought {#m} {x} .", "and {#m} {x} ."]),
            ("q", "state", ["The {x} cost {$q} each .", "One of the {x} costs {$q} ."]),
        ],
        {
            "cost": ["How much did {P} spend in all ?", "What was the total cost ?"],
            "c1": ["How much did the {o} cost ?", "How much money was spent on {o} ?"],
            "c2": ["How much did the {x} cost ?"],
            "items": ["How many things did {P} buy ?", "How many {o} and {x} did {he} buy ?"],
        },
    ),
    "compare": Scene(
        _two,
        [("diff", "-", "a", "b"), ("sum", "+", "a", "b")],
        [
            ("a", "known", ["{P} has {#a} {o} .", "{P} {mv} {#a} {o} [{t1}|] .", "There are {#a} {o} in the {place} .",
                            "@age {P} is {#a} years old .", "@size {P} is {#a} [inches|feet|cm] tall .",
                            "@rope The [red|first|long] [rope|ribbon|board|stick|string] is {#a} [inches|feet|meters] long .",
                            "@points {P} scored {#a} points .", "@weight {P} weighs {#a} [pounds|kilograms] .", "@run {P} [ran|walked|drove|swam] {#a} [miles|meters] ."]),
            ("b", "known", ["{Q} has {#b} {o} .", "{Q} {mv} {#b} [{o}|] [{t2}|] .", "@age {Q} is {#b} [years old|] .", "@size {Q} is {#b} [inches|feet|cm] tall .",
                            "@rope The [other|second|short] one is {#b} [inches|feet|meters] long .", "@points {Q} scored {#b} points .",
                            "@weight {Q} weighs {#b} pounds .", "@run {Q} [ran|walked|drove] {#b} [miles|] ."]),
            ("diff", "known", ["{P} has {#diff} more {o} than {Q} .", "That is {#diff} more than {Q} .", "{Q} has {#diff} fewer [{o}|] than {P} .",
                               "{P} {mv} {#diff} more {o} than {Q} .", "{Q} {mv} {#diff} less than {P} .", "This is {#diff} more than {Q} has .",
                               "@age {P} is {#diff} years older than {Q} .", "@age {Q} is {#diff} years younger than {P} .", "@size {Q} is {#diff} inches shorter than {P} .",
                               "@size {P} is {#diff} inches taller than {Q} .", "@rope The other one is {#diff} [inches|feet] shorter .",
                               "@points That is {#diff} more than {Q} .", "@points {Q} scored {#diff} fewer .", "@weight {Q} is {#diff} pounds lighter .",
                               "@weight {P} weighs {#diff} pounds more than {Q} .", "@run {P} [ran|walked] {#diff} miles farther than {Q} .", "@run That is {#diff} miles more than {Q} ."]),
            ("sum", "known", ["Together they have {#sum} {o} .", "The total is {#sum} .", "@points The team scored {#sum} points .", "@run Together they went {#sum} miles ."]),
        ],
        {
            "b": ["How many {o} does {Q} have ?", "How many {o} did {Q} {mb} ?", "@age How old is {Q} ?", "@size How tall is {Q} ?", "@rope How long is the [other|short] one ?",
                  "@points How many points did {Q} score ?", "@weight How [heavy is {Q}|much does {Q} weigh] ?", "@run How [far|many miles] did {Q} [run|walk|go] ?"],
            "a": ["How many {o} does {P} have ?", "How many {o} did {P} {mb} ?", "@age How old is {P} ?", "@size How tall is {P} ?", "@rope How long is the [red|first|long] one ?",
                  "@points How many points did {P} score ?", "@weight How much does {P} weigh ?", "@run How [far|many miles] did {P} [run|walk|go] ?"],
            "diff": ["How many more [{o}|] does {P} have than {Q} ?", "What is the difference ?", "How many more {o} did {P} {mb} than {Q} ?", "How many fewer {o} does {Q} have than {P} ?",
                     "@age How much older is {P} than {Q} ?", "@size How much taller is {P} than {Q} ?", "@rope How much longer is the first one than the other ?",
                     "@points How many more points did {P} score ?", "@weight How much heavier is {P} than {Q} ?", "@run How much farther did {P} go than {Q} ?"],
            "sum": ["How many do they have in all ?", "How many {o} did they {mb} altogether ?", "@age What is the sum of their ages ?", "@size What is their total height ?",
                    "@rope How long are they together ?", "@points How many points did they score in all ?", "@weight How much do they weigh together ?", "@run How far did they go in all ?"],
        },
    ),
    "times": Scene(
        _times,
        [("b", "*", "a", "k"), ("sum", "+", "a", "b"), ("diff", "-", "b", "a")],
        [
            ("a", "known", ["{P} has {#a} {o} .", "{P} {mv} {#a} {o} ."]),
            ("b", "known", ["{Q} has {#b} {o} .", "{Q} {mv} {#b} {o} ."]),
            ("k", "known", ["{Q} has {#k} times as many {o} as {P} .", "{Q} {mv} {#k} times as many as {P} .", "{Q} has {#k} times more {o} than {P} .",
                            "The number of {o} {Q} has is {#k} times that of {P} ."]),
        ],
        {
            "b": ["How many {o} does {Q} have ?", "How many {o} did {Q} {mb} ?"],
            "a": ["How many {o} does {P} have ?", "How many {o} did {P} {mb} ?"],
            "k": ["How many times as many {o} does {Q} have as {P} ?", "{Q} has how many times more {o} than {P} ?"],
            "sum": ["How many {o} do they have altogether ?"],
            "diff": ["How many more {o} does {Q} have than {P} ?"],
        },
    ),
    "rate": Scene(
        _rate,
        [("t", "*", "r", "n"), ("nm", "+", "n", "m"), ("tm", "*", "r", "nm"), ("rest", "*", "r", "m")],
        [
            ("r", "known", ["{P} [can|] {mb} {#r} {o} [each|every|per|a] {u1} .", "{P} {mv} {#r} {o} every {u1} .", "A machine makes {#r} {o} per {u1} .",
                            "@miles {P} [drives|runs|bikes|travels] [at|] {#r} miles per hour .", "@miles A [train|car|bus] goes {#r} miles [an|per|every] hour .", "@pay {P} earns {$r} [an hour|per hour|each hour] .",
                            "@pay {He} gets {$r} for every hour of work .", "@each Each {o1} takes {#r} minutes to {mb} .", "@each It takes {#r} minutes to {mb} one {o1} .", "@pages {P} reads {#r} pages [a|each|per] day ."]),
            ("n", "known", ["{He} does this for {#n} {u} .", "{P} worked for {#n} {u} .", "@miles {He} [drove|traveled|went] for {#n} hours .", "@miles The trip took {#n} hours .",
                            "@pay {He} worked {#n} hours .", "@each {P} {mv} {#n} {o} .", "@each {He} has to {mb} {#n} {o} .", "@pages {He} read for {#n} days ."]),
            ("t", "known", ["{P} {mv} {#t} {o} in all .", "{P} needs to {mb} {#t} {o} .", "@miles {He} [drove|went] {#t} miles .", "@miles The trip is {#t} miles long .", "@pay {P} [earned|made|needs] {$t} [in all|] .",
                            "@each {He} needed {#t} minutes for the {o} .", "@pages [The|A] book has {#t} pages ."]),
            ("m", "known", ["Then {he} went on for {#m} more {u} .", "{Q} does the same for {#m} {u} .", "@pay Then {he} worked {#m} more hours .", "@miles Then {he} went on for {#m} more hours ."]),
        ],
        {
            "t": ["How many {o} will {P} {mb} in that time ?", "How many {o} did {he} {mb} [in all|] ?", "@miles How [far|many miles] did {he} go ?", "@miles How long is the trip ?",
                  "@pay How much [money|] did {he} earn ?", "@each How [long|many minutes] will it take ?", "@pages How many pages did {he} read ?", "@pages How many pages does the book have ?"],
            "r": ["How many {o} did {P} {mb} [each|per|every] {u1} ?", "How many {o} does {he} {mb} in one {u1} ?", "@miles How fast did {he} go ?", "@miles How many miles did {he} go each hour ?",
                  "@pay How much does {he} earn [per|an] hour ?", "@each How long does each {o1} take ?", "@pages How many pages did {he} read [a|each|per] day ?"],
            "n": ["How many {u} did [{P} work|it take|{he} need] ?", "How many {u} will it take [{P}|] ?", "@miles How [long|many hours] did the trip take ?", "@pay How many hours did {he} work ?",
                  "@each How many {o} did {he} {mb} ?", "@pages How many days did it take {him} to finish the book ?", "@pages How many days did {he} read ?"],
            "tm": ["How many {o} is that altogether ?", "@pay How much did {he} earn altogether ?", "@miles How far did {he} go in all ?"],
            "nm": ["How many {u} was that in all ?", "@pay How many hours did {he} work in all ?", "@miles How many hours did {he} travel in all ?"],
        },
    ),
    "transfer": Scene(
        _transfer,
        [("a2", "-", "a", "x"), ("b2", "+", "b", "x")],
        [
            ("a", "event", ["{P} [has|had] {#a} {o} .", "{P} {gv} {#a} {o} ."]),
            ("b", "event", ["{Q} [has|had] {#b} {o} .", "{Q} had {#b} ."]),
            ("x", "event", ["{P} [gave|sold|lent|sent] {Q} {#x} {o} .", "{P} gave {#x} of {his} {o} to {Q} .", "{Q} took {#x} {o} from {P} .", "{P} shared {#x} {o} with {Q} ."]),
            ("a2", "known", ["{P} has {#a2} {o} left .", "Now {P} has {#a2} {o} ."]),
            ("b2", "known", ["Now {Q} has {#b2} {o} .", "{Q} has {#b2} now ."]),
        ],
        {
            "a2": ["How many {o} does {P} have [now|left] ?", "How many {o} does {P} still have ?", "How many did {P} keep ?"],
            "b2": ["How many {o} does {Q} have [now|in all|altogether|] ?", "How many {o} will {Q} have ?"],
            "x": ["How many {o} did {P} give [to {Q}|] ?", "How many {o} did {Q} get from {P} ?"],
            "a": ["How many {o} did {P} have [at first|before|to start with] ?"],
            "b": ["How many {o} did {Q} have [at first|before|in the beginning] ?"],
        },
    ),
    "crowd": Scene(
        _crowd,
        [("stay", "-", "had", "off"), ("end", "+", "stay", "on"), ("up", "-", "on", "off"), ("down", "-", "off", "on")],
        [
            ("had", "event", ["There were {#had} {pp} [in the {place}|at the party|in the room] .", "{#had} {pp} were [in the {place}|at the party] .",
                              "A {place} had {#had} {pp} .", "The {place} was visited by {#had} {pp} .", "@bus {#had} {pp} were on the bus .", "@bus There were {#had} {pp} on the [bus|train] ."]),
            ("off", "event", ["{#off} of them left .", "{#off} {pp} [went home|walked away|went out|left] .", "Then {#off} went away .",
                              "@bus At the [first|next] stop {#off} {pp} got off .", "@bus {#off} got off [the bus|] ."]),
            ("stay", "known", ["{#stay} [stayed|remained|were left] .", "Now there are {#stay} [left|] ."]),
            ("on", "event", ["{#on} [more|new|other] {pp} [came in|arrived|joined them] .", "Then {#on} [more|others] came .", "{#on} new ones arrived .",
                             "@bus {#on} [more|new|] {pp} got on .", "@bus Then {#on} got on [the bus|] ."]),
            ("end", "known", ["In the end there were {#end} [altogether|] .", "Then there were {#end} {pp} ."]),
        ],
        {
            "stay": ["How many {pp} [were left|stayed|remained|are still there] ?", "How many [did not leave|are left] ?"],
            "end": ["How many {pp} [are there now|were there in the end] ?", "How many are there now ?", "@bus How many {pp} are on the [bus|train] now ?"],
            "had": ["How many {pp} were there [at first|in the beginning|before|to start with] ?", "How many were there at first ?"],
            "off": ["How many {pp} [left|went away] ?", "How many of them left ?", "@bus How many {pp} got off ?"],
            "on": ["How many [new|more|] {pp} [came|arrived|joined] ?", "How many came later ?", "@bus How many [more|] {pp} got on ?"],
            "down": ["How many more {pp} [left|went away] than came ?", "@bus How many more {pp} got off than got on ?"],
            "up": ["How many more {pp} came than left ?", "@bus How many more {pp} got on than got off ?"],
        },
    ),
    "animals": Scene(
        _change,
        CHANGE,
        [
            ("had", "event", ["There were {#had} {an} in the {place} .", "{P} has {#had} {an} [on {his} farm|in a cage|] .", "{#had} {an} were sitting in a tree ."]),
            ("lost", "event", ["{#lost} [of them|{an}] [flew away|ran away|swam away|left|died|were sold] .", "{P} sold {#lost} of them .", "{#lost} [got out|escaped] ."]),
            ("left", "known", ["Then there were {#left} {an} .", "{#left} {an} were still there ."]),
            ("got", "event", ["{#got} more {an} [came|joined them|arrived|were born] .", "Then {he} bought {#got} more {an} ."]),
            ("end", "known", ["Now there are {#end} {an} in all ."]),
        ],
        {
            "left": ["How many {an} [are left|were left|stayed|are still there] ?", "How many {an} remain [in the {place}|] ?"],
            "had": ["How many {an} were there [at first|before|in the beginning] ?", "How many {an} did {P} have at first ?"],
            "lost": ["How many {an} [left|went away|are gone|were sold] ?"],
            "got": ["How many {an} [came|joined|arrived|were born] ?", "How many more {an} did {he} buy ?"],
            "end": ["How many {an} are there [now|in all|altogether] ?", "How many {an} does {P} have now ?"],
        },
    ),
    "days": Scene(
        _three,
        [("ab", "+", "a", "b"), ("sum", "+", "ab", "c"), ("diff", "-", "b", "c")],
        [
            ("a", "state", ["{P} {mv} {#a} {o} on {d1} .", "On {d1} {P} {mv} {#a} {o} .", "@visit {#a} {pp} [visited|came to] the {place} on {d1} .", "@miles {P} [walked|ran|biked] {#a} miles on {d1} ."]),
            ("b", "state", ["On {d2} {he} {mv} {#b} [{o}|] .", "{He} {mv} {#b} on {d2} .", "@visit {#b} [{pp}|] came on {d2} .", "@visit On {d2} there were {#b} {pp} .", "@miles {He} went {#b} miles on {d2} ."]),
            ("c", "state", ["On {d3} {he} {mv} {#c} [more|{o}|] .", "and {#c} on {d3} .", "{He} {mv} {#c} {o} on {d3} .", "@visit {#c} came on {d3} .", "@miles {He} went {#c} miles on {d3} ."]),
            ("sum", "known", ["In those three days {he} {mv} {#sum} {o} .", "That makes {#sum} in all .", "@visit In all {#sum} came .", "@miles That makes {#sum} miles in all ."]),
            ("diff", "known", ["That is {#diff} fewer on {d3} than on {d2} .", "On {d2} it was {#diff} more than on {d3} ."]),
        ],
        {
            "sum": ["How many {o} did {P} {mb} in [all|total|the three days] ?", "@visit How many {pp} came in all ?", "@visit How many {pp} visited the {place} on these days ?",
                    "@miles How far did {he} go altogether ?"],
            "ab": ["How many {o} did {P} {mb} on {d1} and {d2} ?", "How many {o} did {he} {mb} in the first two days ?", "How many {o} did {P} {mb} before {d3} ?",
                   "@visit How many {pp} came on {d1} and {d2} ?", "@miles How many miles did {he} go before {d3} ?"],
            "diff": ["How many more {o} did {P} {mb} on {d2} than on {d3} ?", "How many fewer {o} did {he} {mb} on {d3} than on {d2} ?",
                     "@visit How many more {pp} came on {d2} than on {d3} ?", "@miles How many fewer miles did {he} go on {d3} than on {d2} ?"],
            "a": ["How many {o} did {P} {mb} on {d1} ?", "@visit How many {pp} came on {d1} ?", "@miles How many miles did {he} go on {d1} ?"],
            "b": ["How many {o} did {he} {mb} on {d2} ?", "@visit How many {pp} came on {d2} ?", "@miles How far did {he} go on {d2} ?"],
            "c": ["How many {o} did {he} {mb} on {d3} ?", "@visit How many {pp} came on {d3} ?", "@miles How far did {he} go on {d3} ?"],
        },
    ),
    "goal": Scene(
        _goal,
        [("rest", "-", "goal", "done"), ("time", "*", "rest", "r"), ("rest2", "-", "rest", "more"), ("both", "+", "done", "more")],
        [
            ("goal", "event", ["{P} [needs|has|wants|plans] to {mb} {#goal} {o} .", "{P} had to {mb} {#goal} {o} [for school|] .", "@pages [The|{P} 's] book has {#goal} pages .",
                               "@recipe [A|The] recipe calls for {#goal} cups of [flour|sugar|milk] .", "@problems {P} [has|had] to [solve|finish] {#goal} [math problems|problems|questions] .", "@miles The trip is {#goal} miles long .",
                               "@money {P} wants to buy a {y} that costs {$goal} .", "@money {P} is saving for a {y} for {$goal} ."]),
            ("done", "event", ["{He} has already {mp} {#done} [of them|{o}|] .", "So far {he} {mv} {#done} .", "{P} has {mp} {#done} already .", "@pages {He} has [already|] read {#done} [pages|of them] .",
                               "@recipe {He} already [put in|added] {#done} [cups|] .", "@problems {He} has [done|finished] {#done} [already|so far] .", "@miles {He} has gone {#done} miles .",
                               "@money {He} has [saved|] {$done} [so far|already|] ."]),
            ("rest", "known", ["{He} still has {#rest} to {mb} .", "{#rest} are left to {mb} .", "@pages {He} has {#rest} pages left to read .", "@recipe {He} needs [to add|] {#rest} more cups .",
                               "@problems {He} has {#rest} left .", "@miles There are {#rest} miles left .", "@money {He} needs {$rest} more ."]),
            ("more", "event", ["Then {he} {mv} {#more} more .", "{Q} {mv} {#more} [of them|] for {him} .", "@pages Then {he} read {#more} more pages .", "@problems Then {he} did {#more} more .",
                               "@money Then {he} [got|earned] {$more} more .", "@miles Then {he} went {#more} miles more .", "@recipe Then {he} put in {#more} more ."]),
            ("r", "known", ["Each takes {#r} minutes .", "It takes {him} {#r} minutes for each {o1} .", "@problems Each problem takes {#r} minutes .", "@pages A page takes {him} {#r} minutes ."]),
        ],
        {
            "rest": ["How many [more|] {o} does {P} [need|have] to {mb} ?", "How many are left to {mb} ?", "How many {o} did {he} not {mb} ?", "@pages How many [more|] pages [are left|does {he} have left to read|does {he} still have to read] ?",
                     "@recipe How many [more|] cups does {he} need to add ?", "@problems How many [problems|more|] does {he} have left ?", "@miles How [much farther|many more miles] does {he} have to go ?",
                     "@money How much more [money|] does {he} need ?"],
            "goal": ["How many {o} does {P} have to {mb} in all ?", "@pages How many pages does the book have ?", "@recipe How many cups does the recipe call for ?", "@problems How many problems were there ?",
                     "@miles How long is the trip ?", "@money How much does the {y} cost ?"],
            "done": ["How many {o} has {he} already {mp} ?", "How many {o} did {he} {mb} so far ?", "@pages How many pages has {he} read ?", "@recipe How many cups did {he} put in ?", "@problems How many did {he} do so far ?",
                     "@miles How far has {he} gone ?", "@money How much money has {he} saved ?"],
            "time": ["How long will the rest take ?", "How much time does {he} need for the rest ?", "How long will it take {him} to {mb} the rest ?"],
            "rest2": ["How many {o} does {he} still need to {mb} ?", "@pages How many pages are left now ?", "@problems How many are left now ?", "@miles How many miles are left ?", "@money How much more does {he} need ?",
                      "@recipe How many cups are still missing ?"],
            "both": ["How many {o} were {mp} in all ?", "@pages How many pages has {he} read by now ?", "@problems How many has {he} done by now ?", "@miles How far has {he} gone by now ?",
                     "@money How much money does {he} have by now ?", "@recipe How many cups are in it by now ?"],
        },
    ),
    "grid": Scene(
        _grid,
        [("gp", "*", "g", "p"), ("t", "*", "gp", "n")],
        [
            ("g", "state", ["The {place} has {#g} {c} .", "{P} has {#g} {c} of {o} .", "There are {#g} {c} [of {o}|] in the {place} ."]),
            ("p", "state", ["Each [one|] has {#p} {o} .", "There are {#p} {o} in each .", "Every {c1} has {#p} {o} ."]),
            ("n", "state", ["Each {o1} has {#n} {y}s .", "Every {o1} cost {$n} .", "Each of the {o} weighs {#n} pounds ."]),
            ("gp", "known", ["There are {#gp} {o} in all ."]),
        ],
        {
            "gp": ["How many {o} are there [in all|altogether|] ?", "How many {o} does {P} have ?"],
            "t": ["How much is that altogether ?", "What is the total for all the {o} ?"],
            "g": ["How many {c} are there ?"],
            "p": ["How many {o} are in each ?"],
        },
    ),
    "two_groups": Scene(
        _mix,
        [("t1", "*", "g", "p"), ("t2", "*", "h", "q"), ("t", "+", "t1", "t2"), ("gh", "+", "g", "h")],
        [
            ("g", "state", ["{P} has {#g} {c} of {k1} {o} .", "There are {#g} {c} of {k1} {o} .", "{P} bought {#g} {c} of {k1} {o} ."]),
            ("p", "state", ["Each of those has {#p} {o} .", "with {#p} {o} in each .", "Each of these {c} holds {#p} {o} ."]),
            ("h", "state", ["{He} also has {#h} {c} of {k2} {o} .", "There are {#h} {c} of {k2} {o} too ."]),
            ("q", "state", ["with {#q} {k2} {o} in each .", "These have {#q} {k2} {o} each .", "Each {c1} of {k2} {o} holds {#q} ."]),
        ],
        {
            "t": ["How many {o} are there in all ?", "How many {o} does {P} have altogether ?"],
            "t1": ["How many {k1} {o} does {P} have ?", "How many {k1} {o} are in the {c} ?"],
            "t2": ["How many {k2} {o} are there ?", "How many {k2} {o} are in the {c} ?"],
            "gh": ["How many {c} are there in all ?", "How many {c} does {P} have ?"],
        },
    ),
    "same_each": Scene(
        _groups,
        [("t", "*", "g", "p"), ("all", "+", "t", "e")],
        [
            ("g", "known", ["There are {#g} {pp} [in the class|on the team|at the party] .", "{P} has {#g} friends .", "{P} invited {#g} {pp} ."]),
            ("p", "known", ["{He} gave {#p} {o} to each [of them|] .", "Each [of them|person|one] [got|received|has|brought|ate] {#p} {o} .", "Everyone gets {#p} {o} ."]),
            ("t", "known", ["{P} has {#t} {o} to share .", "{He} wants to share {#t} {o} equally .", "They {mv} {#t} {o} in all .", "{P} bought {#t} {o} for them ."]),
            ("e", "known", ["{He} kept {#e} [{o}|] for {him}self .", "{#e} {o} were left over .", "There were {#e} extra {o} ."]),
        ],
        {
            "t": ["How many {o} [did {he} give away|are needed|did they get] [in all|] ?", "How many {o} do they have altogether ?", "How many {o} does {P} need ?"],
            "p": ["How many {o} [will each get|did each one get|does each person get|will each of them get] ?", "How many {o} does each have ?"],
            "g": ["How many {pp} [are there|got {o}|can get {o}] ?", "How many friends does {P} have ?", "How many {pp} were there ?"],
            "all": ["How many {o} did {P} have at first ?", "How many {o} were there in all ?"],
        },
    ),
}  # fmt: skip

_NOISE = [
    "It was a sunny day .", "{P} likes {o} .", "{Q} is {his} best friend .", "{P} went to the {place} .",
    "They had a lot of fun .", "{P} loves to count things .", "{Q} came to visit .", "It was {his} birthday .",
    "{P} and {Q} went to the {place} .", "{P} collects {o} .", "The {place} was very busy .", "{P} was helping at the {place} .",
]  # fmt: skip
_NOISE_NUMBERS = [
    "{Q} has {#z} {x} .", "{P} also has {#z} {x} .", "The {place} is {#z} miles away .", "{P} is {#z} years old .",
    "There are also {#z} {x} in the {place} .", "{P} had {#z} friends with {him} .", "{Q} {mv} {#z} {x} .",
    "{He} spent {#z} minutes there .", "A {y} costs {$z} .", "{R} has {#z} {x} .",
]  # fmt: skip
_BREAK = re.compile(r"(?<=[.?!])(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bDr\.) +(?=[A-Zn])")
_HIDDEN = ["some", "some", "some", "a few", "several", "a number of", "many"]
_NAMES = sorted(SCENES)
#: Changes that come after a state: where one is told, the question "how many are left" would ask for
#: what is there after it.
_LATER = {
    "left": "got", "now": "got2", "stay": "on", "rest": "more", "time": "more", "done": "more",
}  # fmt: skip
_UNITS = r"\b(inches|feet|cm|meters|miles|pounds|kilograms)\b"


# --- making a story --------------------------------------------------------------------------


def make_story(rng: random.Random, scene: str | None = None) -> Story:
    """Draw one problem.

    Args:
        rng: The source of all choices: equal states give equal problems.
        scene: A key of :data:`SCENES`; drawn if not given.

    Returns:
        The problem, with at most four operands in its solution.
    """
    while True:
        story = _try_story(rng, scene or rng.choice(_NAMES))
        if story is not None:
            return story


def _try_story(rng: random.Random, name: str) -> Story | None:
    scene = SCENES[name]
    values = {k: v for k, v in scene.values(rng).items() if v > 0}
    target = rng.choice([q for q in scene.questions if q in values])
    is_generous = rng.random() < 0.35  # tell more than is needed
    known = _tell(rng, scene, values, target, is_generous)
    if known is None or not _is_clear(name, known, target):
        return None
    tree = _derive(known, scene.relations)[target]
    needed = set(operands(tree))
    words = _draw_words(rng)
    topic = rng.choice(_topics(scene.questions[target]))
    sentences = _sentences(rng, scene, values, known, target, topic)
    if rng.random() < 0.25:
        sentences.insert(rng.randint(0, len(sentences)), rng.choice(_NOISE))
    if rng.random() < 0.15 and "z" not in known:
        sentences.insert(rng.randint(0, len(sentences)), expand(rng, rng.choice(_NOISE_NUMBERS)))
        values = {**values, "z": _int(rng)}
        known = {**known, "z": "z"}
    if rng.random() < 0.12 and scene.facts[0][1] != "event":
        rng.shuffle(sentences)
    question = expand(rng, rng.choice(_on_topic(scene.questions[target], topic)))
    sentences, question = _join(rng, sentences, question)

    slots: dict[str, int] = {}
    numbers: list[str] = []

    def fill(match: re.Match[str]) -> str:
        key = match.group(1)
        if key[0] not in "#$":
            return words[key]
        quantity = key[1:]
        if quantity not in known:
            hidden = rng.choice(_HIDDEN)
            if hidden == "a number of" and not re.match(r" \{|more\b", match.string[match.end() :]):
                hidden = "some"  # no noun follows
            return "some money" if key[0] == "$" else hidden
        if quantity not in slots:
            slots[quantity] = len(numbers)
            numbers.append(str(values[quantity]))
        slot = f"number{slots[quantity]}"
        return rng.choice([f"$ {slot}", f"{slot} dollars", f"$ {slot}"]) if key[0] == "$" else slot

    body = re.sub(r"\{([#$]?\w+)\}", fill, " ".join(sentences))
    body = re.sub(rf"\banother (?:{'|'.join(_HIDDEN)})\b", "some more", body)
    question = capitals(re.sub(r"\s+", " ", re.sub(r"\{([#$]?\w+)\}", fill, question)).strip())
    if not needed <= slots.keys():
        return None
    if name == "compare" and len(set(re.findall(_UNITS, f"{body} {question}"))) > 1:
        return None  # feet are not inches
    text = capitals(re.sub(r"\s+", " ", f"{body} {question}").strip())
    return Story(text, tuple(numbers), in_order(tree, slots), question, name)


def _is_clear(name: str, known: Mapping[str, Expression], target: str) -> bool:
    """Say whether the question asks for the target, whatever else is told."""
    if name == "shop" and "other" in known:  # the other thing is paid from the same money
        return not {"money", "left"} & {*known, target}
    return name == "lose_and_gain" or _LATER.get(target) not in known


def _tell(
    rng: random.Random, scene: Scene, values: dict[str, int], target: str, is_generous: bool
) -> dict[str, Expression] | None:
    """Choose independent quantities to tell, from which the target follows."""
    tellable = [fact[0] for fact in scene.facts if fact[0] != target and fact[0] in values]
    rng.shuffle(tellable)
    known: dict[str, Expression] = {}
    closed: dict[str, Expression] = {}
    for quantity in tellable:
        if quantity in closed:
            continue
        if target in closed and not is_generous:
            break
        known[quantity] = quantity
        closed = _derive(known, scene.relations)
    tree = closed.get(target)
    if tree is None or isinstance(tree, str) or len(operands(tree)) > 4:
        return None
    if is_generous:
        return known
    needed = set(operands(tree))
    return {k: v for k, v in known.items() if k in needed}


def _derive(known: dict[str, Expression], relations: Sequence[Relation]) -> dict[str, Expression]:
    """Close what is known under the relations; shallow expressions first."""
    closed = dict(known)
    while True:
        fresh: dict[str, Expression] = {}
        for c, op, a, b in relations:
            if op == "+":
                rules = [(c, "+", a, b), (a, "-", c, b), (b, "-", c, a)]
            elif op == "-":
                rules = [(c, "-", a, b), (a, "+", c, b), (b, "-", a, c)]
            else:
                rules = [(c, "*", a, b), (a, "/", c, b), (b, "/", c, a)]
            for goal, sign, left, right in rules:
                if goal not in closed and goal not in fresh and left in closed and right in closed:
                    fresh[goal] = (sign, closed[left], closed[right])
        if not fresh:
            return closed
        closed.update(fresh)


def _sentences(
    rng: random.Random,
    scene: Scene,
    values: dict[str, int],
    known: dict[str, Expression],
    target: str,
    topic: str,
) -> list[str]:
    facts = list(scene.facts)
    if facts[0][1] != "event" and facts[1][1] != "event" and rng.random() < 0.4:
        facts[0], facts[1] = facts[1], facts[0]
    sentences = []
    for quantity, how, templates in facts:
        if quantity not in known:
            if how == "known" or quantity not in values:
                continue
            if quantity != target and quantity in ("got", "on", "more", "got2"):
                continue  # an untold change in between would leave the question open
            if rng.random() > {"event": 0.75, "state": 0.15}[how]:
                continue
        sentences.append(expand(rng, rng.choice(_on_topic(templates, topic))))
    return sentences


def _join(rng: random.Random, sentences: list[str], question: str) -> tuple[list[str], str]:
    """Sometimes move the last sentence into the question, or join two sentences."""
    chance = rng.random()
    if chance < 0.22 and sentences:
        last = sentences.pop()[:-2].strip()
        last = last if last[0] == "{" else last[0].lower() + last[1:]
        if last.startswith(("and ", "with ")):
            return [*sentences, last + " ."], question
        return sentences, f"If {last} , {question[0].lower()}{question[1:]}"
    if chance < 0.34 and len(sentences) > 1:
        i = rng.randrange(len(sentences) - 1)
        second = sentences.pop(i + 1)
        second = second if second[0] == "{" else second[0].lower() + second[1:]
        link = rng.choice([" and ", " , and ", " , then ", " but ", " , "])
        link = " , " if second.startswith(("and ", "then ", "with ")) else link
        sentences[i] = sentences[i][:-2] + link + second
    return sentences, question


def _draw_words(rng: random.Random) -> dict[str, str]:
    words: dict[str, str] = {}
    kinds = [rng.random() < 0.5 for _ in range(3)]
    her, him = rng.sample(HER, 3), rng.sample(HIM, 3)
    for i, name in enumerate("PQR"):
        words[name] = (her if kinds[i] else him)[i].replace(".", " ")
    words["he"], words["his"], words["him"] = (
        ("she", "her", "her") if kinds[0] else ("he", "his", "him")
    )
    if rng.random() < 0.12:
        words["P"] = rng.choice(THEY)
    if rng.random() < 0.06:
        words["Q"] = rng.choice(THEY)
    if rng.random() < 0.25:
        words["he"] = words["P"]
    words["He"] = words["he"]
    words["o1"], words["o"] = _noun(rng, rng.choice([FOOD, THINGS, THINGS]))
    words["x1"], words["x"] = _noun(rng, rng.choice([FOOD, THINGS, ANIMALS]))
    words["f1"], words["f"] = _noun(rng, FOOD)
    words["an1"], words["an"] = _noun(rng, ANIMALS)
    words["pp1"], words["pp"] = _noun(rng, PEOPLE)
    words["c1"], words["c"] = _noun(rng, CONTAINERS)
    words["u1"], words["u"] = rng.choice(UNITS)
    words["k1"], words["k2"], words["k3"] = rng.sample(rng.choice([COLOURS, KINDS]), 3)
    words["place"], words["y"] = rng.choice(PLACES), rng.choice(ITEMS)
    words["d1"], words["d2"], words["d3"] = rng.sample(DAYS, 3)
    words["t1"], words["t2"] = rng.choice(TIMES)
    words["lv"], words["lb"], words["lp"] = _verb(rng, LOSE)
    words["ev"], words["eb"], words["ep"] = _verb(rng, EAT)
    words["gv"], words["gb"], _ = _verb(rng, GAIN)
    words["mv"], words["mb"], words["mp"] = _verb(rng, MAKE)
    return words


def expand(rng: random.Random, template: str) -> str:
    while "[" in template:
        template = re.sub(
            r"\[([^\[\]]*)\]", lambda m: rng.choice(m.group(1).split("|")), template, count=1
        )
    return template


def _topics(templates: list[str]) -> list[str]:
    """The topics of a list of sentences; the default counts three times."""
    found = sorted({t[1:].split(" ", 1)[0] for t in templates if t[0] == "@"})
    return ["", "", "", *found]


def _on_topic(templates: list[str], topic: str) -> list[str]:
    tag = f"@{topic} "
    tagged = [t[len(tag) :] for t in templates if t.startswith(tag)]
    return tagged or [t for t in templates if t[0] != "@"]


def in_order(tree: Expression, slots: dict[str, int]) -> Expression:
    """Name the operands by position and put commutative operands in order of appearance.

    Args:
        tree: Over the keys of ``slots``, and constants, which come last.
        slots: Place of each quantity among the numbers of the text.
    """
    if isinstance(tree, str):
        return f"number{slots[tree]}" if tree in slots else tree
    op, left, right = tree[0], in_order(tree[1], slots), in_order(tree[2], slots)
    if op in "+*":
        first = [
            min(int(leaf[6:]) if leaf.startswith("number") else 1000 for leaf in operands(side))
            for side in (left, right)
        ]
        if first[0] > first[1]:
            left, right = right, left
    return (op, left, right)


def story_of(text: str, numbers: Sequence[str], equation: str, scene: str) -> Story:
    """Make a story of a masked problem whose solution is written in infix."""
    return Story(text, tuple(numbers), parse_infix(equation), sentences(text)[-1], scene)


def sentences(text: str) -> list[str]:
    """Split a masked text into its sentences; ``Mr.``, ``Mrs.`` and ``Dr.`` end none."""
    return _BREAK.split(text)


def capitals(text: str) -> str:
    return re.sub(r"(^|[.?!] )([a-z])(?!umber\d)", lambda m: m.group(1) + m.group(2).upper(), text)
