# ruff: noqa: E501 - a story reads best on one line
"""What the procedural problems tell: names, words, and the stories of each structure.

Pure data, in the template language of :mod:`src.datamodules.procedural`. To add a structure, append
a :class:`Family` with at least five templates: their order deals them to train, val and test (of
every five, the fourth goes to val, the fifth to test), so append new templates at the end. Write
none after a problem of a test set.

The same operation is told by several families where people mean different things by it: ``a - b`` is
what is left, what has been used, how many more, how many there were before.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from src.datamodules.procedural import Distractor, Family

_HE, _SHE = ("he", "him", "his"), ("she", "her", "her")

NAMES: list[tuple[str, tuple[str, str, str]]] = [
    *((name, _SHE) for name in ["Ada", "Alma", "Amina", "Anika", "Bella", "Carla", "Chloe", "Clara", "Daria", "Elena", "Elif", "Emma", "Fatima", "Freya", "Greta", "Hana", "Helga", "Ines", "Ingrid", "Iris", "Jana", "Julia", "Kavya", "Leila", "Lena", "Lina", "Lucia", "Maja", "Mei", "Mira", "Nadia", "Nora", "Olga", "Paula", "Priya", "Rosa", "Ruth", "Sana", "Selma", "Sofia", "Tara", "Thea", "Vera", "Wanda", "Yara", "Zoe"]),
    *((name, _HE) for name in ["Adam", "Ahmed", "Akira", "Anton", "Arne", "Ben", "Boris", "Carlos", "Dario", "Diego", "Emil", "Enzo", "Erik", "Felix", "Finn", "Goran", "Hassan", "Hugo", "Igor", "Ivan", "Jonas", "Kofi", "Lars", "Leo", "Liam", "Luca", "Marco", "Mateo", "Milo", "Nico", "Noah", "Omar", "Oscar", "Pablo", "Pedro", "Rafael", "Ravi", "Samir", "Sven", "Tariq", "Theo", "Tomas", "Viktor", "Walter", "Yusuf", "Zeno"]),
]  # fmt: skip


def _nouns(text: str) -> list[tuple[str, str]]:
    """Read ``apple, box:boxes, trading card`` into pairs of singular and plural."""
    pairs = []
    for word in text.split(","):
        singular, _, plural = word.strip().partition(":")
        pairs.append((singular, plural or singular + "s"))
    return pairs


WORDS: dict[str, list[tuple[str, ...]]] = {
    # things that a person owns, gives, swaps and loses
    "toy": _nouns(
        "marble, sticker, seashell, postcard, trading card, toy car, bead, badge, keychain, magnet, "
        "bracelet, puzzle, pebble, crayon, pencil, eraser, ribbon, bookmark, stamp, button, poster, "
        "comic book, paper crane, wristband, feather, acorn, rubber duck, pin, toy soldier, whistle"
    ),
    # things that are eaten one by one
    "food": _nouns(
        "apple, pear, plum, cookie, muffin, cherry:cherries, strawberry:strawberries, almond, walnut, "
        "date, grape, cracker, pretzel, dumpling, meatball, pancake, apricot, fig, waffle, candy bar, "
        "peach:peaches, tangerine, olive, biscuit, raisin, chocolate, gummy bear, doughnut"
    ),
    # things that are made or baked by the dozen and sold
    "good": _nouns(
        "candle, scarf:scarves, mug, basket, necklace, birdhouse, hat, pie, loaf of bread:loaves of "
        "bread, jar of jam:jars of jam, card, soap bar, painting, bag of nuts:bags of nuts, vase, "
        "cupcake, T-shirt, pillow, blanket, clay pot"
    ),
    # things that have a price
    "ware": _nouns(
        "notebook, ticket, sandwich:sandwiches, lamp, chair, plant, umbrella, book, ball, bottle of "
        "juice:bottles of juice, shirt, backpack, calendar, cup, frame, folder, brush:brushes, "
        "flashlight, towel, pair of socks:pairs of socks"
    ),
    "animal": _nouns(
        "duck, chicken, goat, cow, horse, rabbit, lamb, goose:geese, pony:ponies, turkey, pig, donkey"
    ),
    "wild": _nouns(
        "sparrow, pigeon, seagull, crow, butterfly:butterflies, dragonfly:dragonflies, swallow, bee, "
        "starling, bat"
    ),
    "plant": _nouns(
        "tulip, rose bush:rose bushes, oak, daisy:daisies, sunflower, lily:lilies, pine, maple, "
        "lavender bush:lavender bushes, fern, cactus:cacti, birch:birches"
    ),
    "crop": _nouns(
        "pumpkin, carrot, onion, potato:potatoes, cabbage, melon, cucumber, tomato:tomatoes, beet, "
        "turnip, radish:radishes, pepper, leek, squash:squashes"
    ),
    "person": _nouns(
        "student, visitor, guest, tourist, player, worker, volunteer, dancer, singer, scout, hiker, "
        "swimmer, child:children, passenger"
    ),
    "box": _nouns("box:boxes, bag, basket, crate, jar, tray, drawer, tin, bin, carton, sack, case"),
    "place": [("at the park",), ("at the beach",), ("at the fair",), ("at school",),
              ("at the market",), ("at the museum",), ("in the garden",)],
    "room": _nouns(
        "hall, classroom, library:libraries, theater, gym, museum, cafeteria, museum shop, tent"
    ),
    "day": [(day,) for day in ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]],
    "month": [(m,) for m in ["January", "March", "April", "May", "June", "July", "August", "September", "October"]],
    "colour": [(c,) for c in ["red", "blue", "green", "yellow", "white", "purple", "orange", "black", "silver"]],
    "relative": [(r,) for r in ["brother", "sister", "cousin", "uncle", "aunt", "neighbor", "friend", "teacher"]],
    "shop": _nouns("shop, bakery:bakeries, store, kiosk, market stall, bookshop, supermarket"),
    "vehicle": _nouns("train, ferry:ferries, ship, tram"),
}  # fmt: skip


# --- numbers ----------------------------------------------------------------------------------

Values = Mapping[str, int]


def _n(r: random.Random, low: int = 2) -> int:
    """A count, mostly below a hundred."""
    return r.randint(low, r.choice((10, 20, 50, 100, 100, 300, 900)))


def _s(r: random.Random, low: int = 2, high: int = 12) -> int:
    """A small count: of boxes, days, people that share."""
    return r.randint(low, high)


def _m(r: random.Random) -> int:
    """A factor that may be large."""
    return r.randint(2, r.choice((10, 12, 20, 50, 100)))


def _a_b(r: random.Random) -> Values:
    return {"a": _n(r), "b": _n(r)}


def _more(r: random.Random) -> Values:
    """A is more than b."""
    b = _n(r)
    return {"a": b + r.randint(1, max(2, _n(r))), "b": b}


def _product(r: random.Random) -> Values:
    return {"a": _s(r), "b": _m(r)}


def _ages(r: random.Random) -> Values:
    return {"a": r.randint(3, 30), "b": r.randint(4, 16)}


def _quotient(r: random.Random) -> Values:
    b = _s(r)
    return {"a": b * _m(r), "b": b}


def _first_of_two(r: random.Random) -> Values:
    c = _n(r)
    return {"a": c + r.randint(1, max(2, _n(r))), "b": _n(r), "c": c}


def _chain(r: random.Random) -> Values:
    b = _n(r)
    return {"a": b + _n(r), "b": b, "c": _n(r)}


def _gain_lose(r: random.Random) -> Values:
    a, b = _n(r), _n(r)
    return {"a": a, "b": b, "c": r.randint(2, a + b - 1)}


def _rest(r: random.Random) -> Values:
    b, c = _n(r), _n(r)
    return {"a": b + c + _n(r), "b": b, "c": c}


def _three(r: random.Random) -> Values:
    return {"a": _n(r), "b": _n(r), "c": _n(r)}


def _groups_less(r: random.Random) -> Values:
    a, b = _s(r), _m(r) + 1
    return {"a": a, "b": b, "c": r.randint(2, a * b - 1)}


def _groups_more(r: random.Random) -> Values:
    return {"a": _s(r), "b": _m(r), "c": _n(r)}


def _bill(r: random.Random) -> Values:
    b, c = _s(r), _m(r)
    return {"a": b * c + _n(r), "b": b, "c": c}


def _sum_times(r: random.Random) -> Values:
    return {"a": _s(r, 2, 30), "b": _s(r, 2, 30), "c": _s(r)}


def _diff_times(r: random.Random) -> Values:
    b = _s(r, 2, 20)
    return {"a": b + _s(r, 1, 30), "b": b, "c": _s(r)}


def _split(r: random.Random, total: int) -> tuple[int, int]:
    """Two parts of a total of at least 4, each at least 2."""
    part = r.randint(2, total - 2)
    return part, total - part


def _sum_shared(r: random.Random) -> Values:
    c = _s(r)
    a, b = _split(r, c * (_m(r) + 1))
    return {"a": a, "b": b, "c": c}


def _rest_shared(r: random.Random) -> Values:
    c, b = _s(r), _n(r)
    return {"a": b + c * _m(r), "b": b, "c": c}


def _unit_rate(r: random.Random) -> Values:
    b = _s(r)
    return {"a": b * _s(r, 2, 30), "b": b, "c": r.choice([c for c in range(2, 16) if c != b])}


def _regroup(r: random.Random) -> Values:
    while True:
        a, b = _s(r), _m(r)
        divisors = [c for c in range(2, 31) if a * b % c == 0 and c not in (a, b, a * b)]
        if divisors:
            return {"a": a, "b": b, "c": r.choice(divisors)}


def _factors(r: random.Random) -> Values:
    return {"a": _s(r, 2, 9), "b": _s(r, 2, 9), "c": _s(r, 2, 20)}


def _chain_compare(r: random.Random) -> Values:
    c = _n(r)
    return {"a": _n(r), "b": c + r.randint(1, max(2, _n(r))), "c": c}


def _start_chain(r: random.Random) -> Values:
    b = _n(r)
    return {"a": _n(r), "b": b, "c": b + _n(r)}


def _quotient_then(r: random.Random) -> Values:
    b, share = _s(r), _s(r, 4, 40)
    return {"a": b * share, "b": b, "c": r.randint(2, share - 1)}


def _quotient_plus(r: random.Random) -> Values:
    b = _s(r)
    return {"a": b * _s(r, 2, 40), "b": b, "c": _s(r, 2, 40)}


def _two_products(r: random.Random) -> Values:
    c, d = _s(r), _s(r, 2, 20)
    a = _s(r)
    return {"a": a, "b": c * d // a + _s(r, 1, 15) + 1, "c": c, "d": d}


def _bill_more(r: random.Random) -> Values:
    b, c, d = _s(r), _s(r, 2, 25), _n(r)
    return {"a": b * c + d + _n(r), "b": b, "c": c, "d": d}


def _left_shared(r: random.Random) -> Values:
    b, c, d = _s(r), _s(r, 2, 25), _s(r)
    return {"a": b * c + d * _s(r, 2, 30), "b": b, "c": c, "d": d}


def _three_shared(r: random.Random) -> Values:
    d = _s(r)
    a, rest = _split(r, d * _s(r, 4, 30))
    while rest < 4:
        a, rest = _split(r, d * _s(r, 4, 30))
    b, c = _split(r, rest)
    return {"a": a, "b": b, "c": c, "d": d}


def _gain_lose_shared(r: random.Random) -> Values:
    c, d = _n(r), _s(r)
    a, b = _split(r, c + d * _s(r, 2, 30))
    return {"a": a, "b": b, "c": c, "d": d}


def _product_shared(r: random.Random) -> Values:
    while True:
        a, b, d = _s(r), _s(r, 4, 40), _s(r)
        kept = a * b - d * r.randint(2, max(2, a * b // d))
        if kept >= 2:
            return {"a": a, "b": b, "c": kept, "d": d}


def _four(r: random.Random) -> Values:
    a = _n(r, 4)
    return {"a": a, "b": _n(r), "c": _n(r), "d": r.randint(2, a - 1)}


def _sum_times_less(r: random.Random) -> Values:
    a, b, c = _s(r), _s(r), _s(r)
    return {"a": a, "b": b, "c": c, "d": r.randint(2, (a + b) * c - 1)}


# --- stories ----------------------------------------------------------------------------------

FAMILIES: list[Family] = [
    Family("give_away", _more, owned=True, templates=[
        ("{N} had {a} {toys}. {he} gave {b} of them to {M}.",
         "a - b", "How many {toys} does {N} have [left|now]?"),
        ("There [were|used to be] {a} {toys} in {N}'s collection[, until|. Then] {he} [sold|traded away] {b} {toys}.",
         "a - b", "How many {toys} are [left in|still in] the collection?"),
        ("{N} owned {a} {toys}[.| and was proud of them.] [On {day}|One morning|At the fair] {he} handed {b} {toys} to {his} {relative}.",
         "a - b", "[How many {toys} did {N} keep?|How many {toys} remained with {N}?]"),
        ("{N} brought {a} {toys} to school and lost {b} of them on the way home.",
         "a - b", "How many {toys} did {N} bring home?"),
        ("", "a - b", "If {N} starts the week with {a} {toys} and gives {b} {toys} away, how many {toys} remain at the end?"),
        ("After {his} birthday {N} had {a} {toys}. {he} passed {b} {toys} on to {his} {relative}[ because {he} had too many|].",
         "a - b", "How many {toys} does {N} still own?"),
        ("{N} counted {a} {toys} [on the shelf|in a drawer]. {M} borrowed {b} {toys} from {him}.",
         "a - b", "How many {toys} does {N} have until {M} brings them back?"),
        ("{N} took {a} {toys} on a trip. Somewhere on the way {b} {toys} fell out of the bag.",
         "a - b", "[With how many {toys} did {N} arrive?|How many {toys} were in the bag when {N} arrived?]"),
        ("A bag held {a} {toys}, and {N} pulled out {b} {toys}.",
         "a - b", "[How many {toys} stayed in the bag?|How many {toys} does the bag hold now?]"),
        ("{N} promised {b} of {his} {a} {toys} to {M} and [kept the promise|handed them over on {day}].",
         "a - b", "What number of {toys} does {N} have after that?"),
    ]),
    Family("eat_use", _more, owned=True, templates=[
        ("{N} [bought|brought home] {a} {foods}. {his} family ate {b} of them.",
         "a - b", "How many {foods} [are left|were left over|were not eaten]?"),
        ("There were {a} {foods} on the table. {N} and {his} friends ate {b} {foods}.",
         "a - b", "How many {foods} are still on the table?"),
        ("A {box} with {a} {foods} stood in the kitchen. By the evening {b} {foods} had been eaten.",
         "a - b", "How many {foods} remained in the {box}?"),
        ("{N} used {b} of the {a} {foods} in {his} kitchen for a cake.",
         "a - b", "How many {foods} were not used?"),
        ("", "a - b", "A plate holds {a} {foods}. How many {foods} does it hold after {N} has taken {b} {foods} from it?"),
        ("{N} packed {a} {foods} for a hike and ate {b} {foods} before noon.",
         "a - b", "How many {foods} did {N} have for the afternoon?"),
        ("Of {a} {foods} that {N} bought, {b} [were rotten|had gone bad] and had to be thrown out.",
         "a - b", "How many good {foods} did {N} have?"),
        ("{N} set out {a} {foods} for {his} guests. The guests [took|ate] {b} {foods}.",
         "a - b", "How many {foods} did {N} put back into the cupboard?"),
        ("On {day} the pantry held {a} {foods}. Over the week {b} {foods} were cooked.",
         "a - b", "How many {foods} did the pantry hold after that week?"),
        ("The dog ate {b} of {N}'s {a} {foods}.",
         "a - b", "How many {foods} did the dog leave for {N}?"),
    ]),
    Family("receive", _a_b, owned=True, templates=[
        ("{N} had {a} {toys}. {M} gave {him} {b} more.",
         "a + b", "How many {toys} does {N} have now?"),
        ("{N} owned {a} {toys} and [found|bought|won] {b} more {toys} {place}.",
         "a + b", "How many {toys} does {N} own now?"),
        ("{N}'s collection had {a} {toys}. For {his} birthday {he} got {b} {toys}[| from {his} {relative}].",
         "a + b", "How many {toys} are in the collection after the birthday?"),
        ("On {day} {N} had {a} {toys}, and {his} {relative} then sent {him} {b} {toys}.",
         "a + b", "How many {toys} did {N} have after the parcel had come?"),
        ("", "a + b", "{N} keeps {a} {toys} in a drawer and adds {b} {toys}. How many {toys} does {N} then keep in the drawer?"),
        ("{N} picked up {a} {toys} in the morning and {b} {toys} in the afternoon.",
         "a + b", "How many {toys} did {N} pick up that day?"),
        ("A {box} already held {a} {toys} when {N} put {b} more {toys} into it.",
         "a + b", "How many {toys} does the {box} hold now?"),
        ("{N} saved {a} {toys} last year. This year {he} has saved {b} {toys}.",
         "a + b", "How many {toys} has {N} saved over the two years?"),
        ("{N} started the game with {a} {toys} and won {b} {toys} from {M}.",
         "a + b", "With how many {toys} did {N} end the game?"),
        ("[Yesterday|Last week] {N} counted {a} {toys}. Since then {b} more {toys} have been added.",
         "a + b", "What would {N} count today, in {toys}?"),
    ]),
    Family("combine", _more, owned=True, templates=[
        ("<{N} has {a} {toys}.|{M} has {b} {toys}.>",
         "a + b", "How many {toys} do they have [altogether|in all|together]?",
         "a - b", "How many more {toys} does {N} have than {M}?",
         "a - b", "How many fewer {toys} does {M} have than {N}?"),
        ("{N} [picked|gathered] {a} {crops} and {M} [picked|gathered] {b} {crops}.",
         "a + b", "How many {crops} did the two of them bring home?",
         "a - b", "By how many {crops} did {N} beat {M}?"),
        ("There are <{a} {animals}|and {b} {animals2}> on {N}'s farm.",
         "a + b", "How many animals are these in all?",
         "a - b", "How many more {animals} than {animals2} are on the farm?"),
        ("In the {room} [sat|waited] {a} {persons} on the left side and {b} on the right side.",
         "a + b", "How many {persons} were in the {room}?",
         "a - b", "How many more {persons} were on the left side than on the right side?"),
        ("{N} planted {a} {plants} and {b} {plants2} along the path.",
         "a + b", "How many plants did {N} put along the path?",
         "a - b", "How many fewer {plants2} than {plants} did {N} plant?"),
        ("{a} {wilds} sat on the roof and {b} {wilds} sat on the fence.",
         "a + b", "How many {wilds} were there [in total|altogether]?",
         "a - b", "How many more {wilds} sat on the roof than on the fence?"),
        ("On {day} the {room} counted {a} {persons}; on the day after it counted {b}.",
         "a + b", "How many {persons} came on these two days?",
         "a - b", "How many fewer {persons} came on the second day?"),
        ("<{N} read {a} pages of {his} book.|{M} read {b} pages of another book.>",
         "a + b", "How many pages did both read [together|in total]?",
         "a - b", "How many pages more than {M} did {N} read?"),
        ("One {box} holds {a} {foods} and another {box} holds {b} {foods}.",
         "a + b", "How many {foods} are there when both are emptied onto a table?",
         "a - b", "What is the difference between the numbers of {foods} in the two?"),
        ("{N} sold {a} {goods} in {month} and {b} {goods} in the month after it.",
         "a + b", "What was the number of {goods} sold over both months?",
         "a - b", "How many fewer {goods} did {N} sell in the later month?"),
    ]),
    Family("start_unknown_loss", _a_b, inverted=True, owned=True, templates=[
        ("{N} had some {toys}. {he} gave {a} of them to {M} and has {b} left.",
         "a + b", "How many {toys} did {N} have [at first|in the beginning|to start with]?"),
        ("After {N} gave away {a} {toys}, {he} still had {b} {toys}.",
         "a + b", "How many {toys} did {N} have before?"),
        ("{N} ate {a} {foods} from a {box}, and now there are {b} {foods} in it.",
         "a + b", "How many {foods} were in the {box} before {N} ate any?"),
        ("Some {wilds} sat in a tree. When {a} of them flew away, {b} {wilds} stayed.",
         "a + b", "How many {wilds} had been in the tree at first?"),
        ("{N} has {b} {toys} today because {he} lost {a} {toys} last week.",
         "a + b", "How many {toys} did {N} own before losing any?"),
        ("At the first stop {a} {persons} got off the {vehicle}, which then carried {b} {persons}.",
         "a + b", "How many {persons} had been on the {vehicle} before the stop?"),
        ("{N} sold {a} {goods} at the market and took the {b} that were not sold back home.",
         "a + b", "How many {goods} did {N} bring to the market?"),
        ("{a} {persons} have left the {room}. {b} {persons} are still there.",
         "a + b", "How many {persons} were in the {room} before anyone left?"),
        ("{N} spent {a} dollars at the {shop} and came home with {b} dollars.",
         "a + b", "How much money did {N} take to the {shop}, in dollars?"),
        ("Once {N} had cut {a} {plants}, only {b} {plants} were standing in the garden.",
         "a + b", "What was the number of {plants} in the garden to begin with?"),
    ]),
    Family("start_unknown_gain", _more, inverted=True, owned=True, templates=[
        ("{N} had some {toys}. {M} gave {him} {b} more, and now {N} has {a} {toys}.",
         "a - b", "How many {toys} did {N} have [at first|in the beginning|before]?"),
        ("After buying {b} {toys} {N} has {a} {toys}.",
         "a - b", "How many {toys} did {N} have before buying these?"),
        ("There were some {persons} in the {room}. Then {b} more came in, which made {a} {persons}.",
         "a - b", "How many {persons} were in the {room} at first?"),
        ("{N} now has {a} {animals} on {his} farm, {b} of which were born this spring.",
         "a - b", "How many {animals} did {N} have before the spring?"),
        ("{N} earned {b} dollars on {day} and then had {a} dollars in {his} purse.",
         "a - b", "How many dollars were in the purse before?"),
        ("When {b} {wilds} joined the others on the roof, there were {a} {wilds} on it.",
         "a - b", "How many {wilds} had been on the roof before?"),
        ("{N} put {b} {foods} into a {box}. It then held {a} {foods}.",
         "a - b", "How many {foods} had the {box} held before?"),
        ("Since {month}, {N} has added {b} {toys} to {his} collection, so that it has {a} {toys}.",
         "a - b", "How large was the collection of {toys} until then?"),
        ("The garden has {a} {plants} now that {N} has planted {b} new ones.",
         "a - b", "How many {plants} grew in the garden before {N} planted the new ones?"),
        ("{b} {persons} got on the {vehicle} at the second stop. From there it carried {a} {persons}.",
         "a - b", "How many {persons} were on the {vehicle} when it reached the second stop?"),
    ]),
    Family("change_unknown", _more, inverted=True, owned=True, templates=[
        ("{N} had {a} {toys}. After {he} gave some to {M}, {he} had {b} left.",
         "a - b", "How many {toys} did {N} give to {M}?"),
        ("{N} bought {a} {foods}. A few days later only {b} {foods} were left.",
         "a - b", "How many {foods} had been eaten?"),
        ("{N} had {b} {toys} in the morning and {a} {toys} in the evening.",
         "a - b", "How many {toys} did {N} get during the day?"),
        ("A {vehicle} left with {a} {persons} and arrived with {b}.",
         "a - b", "How many {persons} got off on the way?"),
        ("Last year {N} had {b} {animals}. Now {he} has {a}.",
         "a - b", "By how many has the number of {animals} grown?"),
        ("{N} wants {a} {toys} and already has {b}.",
         "a - b", "How many more {toys} does {N} need?"),
        ("There were {a} {persons} in the {room}. Some went home, and {b} {persons} stayed.",
         "a - b", "How many {persons} went home?"),
        ("{N} went to the {shop} with {a} dollars and returned with {b} dollars.",
         "a - b", "How much did {N} spend, in dollars?"),
        ("Of the {a} {crops} in the field {b} have not been harvested yet.",
         "a - b", "How many {crops} have been harvested?"),
        ("{N} is reading a book of {a} pages. {he} has {b} pages to go.",
         "a - b", "How many pages has {N} read so far?"),
    ]),
    Family("equal_groups", _product, templates=[
        ("{N} fills {a} {boxs} with {b} {foods} each.",
         "a * b", "How many {foods} is that [altogether|in all]?"),
        ("There are {a} rows of chairs in the {room}[.| of the school.] Each row has {b} chairs.",
         "a * b", "How many chairs are [there|there in total]?"),
        ("Each of {a} {persons} brought {b} {toys}.",
         "a * b", "How many {toys} did they bring [together|in total]?"),
        ("{N} makes {b} {goods} every day.",
         "a * b", "How many {goods} does {N} make in {a} days?"),
        ("", "a * b", "[If|When] one {box} holds {b} {foods}, how many {foods} do {a} {boxs} hold?"),
        ("{N} is reading a book with {a} chapters. Every chapter is {b} pages long.",
         "a * b", "How many pages does the book have?"),
        ("{N} planted {a} rows of {plants}, with {b} {plants} in every row.",
         "a * b", "How many {plants} did {N} plant?"),
        ("Every box that comes to the {shop} contains {b} {wares}. Today {a} boxes came.",
         "a * b", "How many {wares} were in them?"),
        ("On each of the {a} shelves of a {shop} stand {b} {goods}.",
         "a * b", "What is the number of {goods} on the shelves?"),
        ("{N} runs {b} laps on a training day and trained on {a} days.",
         "a * b", "How many laps did {N} run on these days?"),
        ("A {room} has {a} tables, and {b} {persons} can sit at each table.",
         "a * b", "How many {persons} can be seated?"),
        ("{N} cut {a} ropes into {b} pieces each.",
         "a * b", "How many pieces of rope did {N} get?"),
        ("{N} has an album of {a} pages and puts {b} {toys} on every page.",
         "a * b", "How many {toys} fill the album?"),
        ("A farmer has {a} fields, and in each field there are {b} {animals}.",
         "a * b", "How many {animals} does the farmer keep?"),
        ("{a} {persons} each ate {b} {foods}.",
         "a * b", "How many {foods} did they eat between them?"),
    ]),
    Family("price", _product, templates=[
        ("{N} bought {a} {wares} for {b} dollars each.",
         "a * b", "How much did {N} [pay|spend], in dollars?"),
        ("A {ware} costs {b} dollars.",
         "a * b", "How many dollars do {a} {wares} cost?"),
        ("{N} sold {a} {goods} at a price of {b} dollars each.",
         "a * b", "How many dollars did {N} earn?"),
        ("[A ticket for the {room}|One ticket] costs {b} dollars, and {N} buys tickets for {a} people.",
         "a * b", "How many dollars does {N} pay?"),
        ("", "a * b", "How many dollars does {N} need for {a} {wares} if each {ware} costs {b} dollars?"),
        ("{N} is paid {b} dollars an hour and worked for {a} hours.",
         "a * b", "How many dollars did {N} earn?"),
        ("{N} saves {b} dollars every week.",
         "a * b", "How many dollars will {N} have saved after {a} weeks?"),
        ("For a class trip each of {a} {persons} pays {b} dollars.",
         "a * b", "How many dollars are collected?"),
        ("The {shop} asks {b} dollars for a {ware}. {N} takes {a} of them.",
         "a * b", "What does {N} owe the {shop}, in dollars?"),
        ("{N} rented a bicycle for {a} days at {b} dollars a day.",
         "a * b", "What did the bicycle cost {him}, in dollars?"),
    ]),
    Family("share", _quotient, inverted=True, templates=[
        ("{N} shares {a} {foods} equally among {b} friends.",
         "a / b", "How many {foods} does each friend get?"),
        ("{N} put {a} {toys} into {b} {boxs}, the same number in each.",
         "a / b", "How many {toys} are in [each|every] {box}?"),
        ("{a} {persons} split up into {b} teams of equal size.",
         "a / b", "How many {persons} are in a team?"),
        ("A book of {a} pages has {b} chapters, all equally long.",
         "a / b", "How many pages does a chapter have?"),
        ("", "a / b", "If {a} {goods} are packed evenly into {b} {boxs}, how many {goods} go into one {box}?"),
        ("{N} paid {a} dollars for {b} {wares}[, which all had the same price|].",
         "a / b", "What did one {ware} cost, in dollars?"),
        ("{N} read {a} pages in {b} days, the same number on every day.",
         "a / b", "How many pages did {N} read on each day?"),
        ("The {a} {plants} in the park stand in {b} equal rows.",
         "a / b", "How many {plants} make up a row?"),
        ("{N} earned {a} dollars in {b} hours.",
         "a / b", "How many dollars did {N} earn per hour?"),
        ("{b} tables in the {room} seat {a} {persons} when all chairs are taken, and all tables are alike.",
         "a / b", "How many {persons} sit at one table?"),
    ]),
    Family("number_of_groups", _quotient, inverted=True, templates=[
        ("{N} has {a} {foods} and puts {b} of them into each {box}.",
         "a / b", "How many {boxs} does {N} [need|fill]?"),
        ("{a} {persons} form teams of {b}.",
         "a / b", "How many teams are there?"),
        ("{N} spent {a} dollars on {wares} that cost {b} dollars each.",
         "a / b", "How many {wares} did {N} buy?"),
        ("{N} reads {b} pages a day. {his} book has {a} pages.",
         "a / b", "How many days does {N} need for the book?"),
        ("", "a / b", "How many {boxs} are needed to pack {a} {goods} if a {box} takes {b} of them?"),
        ("{N} wants to save {a} dollars and puts aside {b} dollars every week.",
         "a / b", "After how many weeks does {N} have the money?"),
        ("A machine makes {b} {goods} an hour.",
         "a / b", "How many hours does it need for {a} {goods}?"),
        ("A {room} has {a} chairs that stand in rows of {b}.",
         "a / b", "How many rows of chairs are there?"),
        ("{N} planted {a} {plants}, {b} in each bed.",
         "a / b", "In how many beds do {N}'s {plants} grow?"),
        ("{N} cuts a ribbon of {a} inches into pieces of {b} inches.",
         "a / b", "How many pieces does {N} get?"),
    ]),
    Family("more_than", _more, templates=[
        ("{N} has {a} {toys}. {M} has {b} more {toys} than {N}.",
         "a + b", "How many {toys} does {M} have?",
         "a + a + b", "How many {toys} do the two have [altogether|together]?"),
        ("{N} picked {a} {crops}, and {M} picked {b} fewer than that.",
         "a - b", "How many {crops} did {M} pick?",
         "a + a - b", "How many {crops} did {N} and {M} pick together?"),
        ("On {day} {a} {persons} came to the {room}. The day after, {b} more came than on {day}.",
         "a + b", "How many {persons} came on the day after {day}?",
         "a + a + b", "How many {persons} came on both days together?"),
        ("A {ware} costs {a} dollars at one {shop}. At another {shop} it is {b} dollars cheaper.",
         "a - b", "How many dollars does the {ware} cost there?"),
        ("One class has {a} students. The other has {b} more.",
         "a + b", "How many students does the other class have?",
         "a + a + b", "How many students do both classes have together?"),
        ("The library owns {a} novels and {b} fewer atlases than novels.",
         "a - b", "How many atlases does it own?",
         "a + a - b", "How many novels and atlases does it own altogether?"),
        ("{M} collected {a} {toys}. {N} collected {b} {toys} more than {M}.",
         "a + b", "How many {toys} did {N} collect?",
         "a + a + b", "How many {toys} did the two collect in total?"),
        ("There are {a} {animals} on a farm and {b} fewer {animals2} than {animals}.",
         "a - b", "How many {animals2} are on the farm?",
         "a + a - b", "How many {animals} and {animals2} are there in all?"),
        ("{N} ran {a} laps. {M} managed {b} laps more than {N}.",
         "a + b", "How many laps did {M} run?",
         "a + a + b", "How many laps did both run together?"),
        ("{N} made {a} {goods} and sold all but a few: {b} fewer {goods} were sold than made.",
         "a - b", "How many {goods} were sold?"),
        ("In {month} {N} earned {a} dollars, and in the month after it {b} dollars more.",
         "a + b", "How many dollars did {N} earn in the later month?",
         "a + a + b", "How many dollars did {N} earn in both months?"),
        ("The first {box} holds {a} {foods}. The second {box} holds {b} {foods} less.",
         "a - b", "How many {foods} does the second {box} hold?",
         "a + a - b", "How many {foods} do the two hold together?"),
    ]),
    Family("more_than_inverse", _more, inverted=True, templates=[
        ("{N} has {a} {toys}, which is {b} more than {M} has.",
         "a - b", "How many {toys} does {M} have?"),
        ("{N} picked {a} {crops}. That is {b} fewer than {M} picked.",
         "a + b", "How many {crops} did {M} pick?"),
        ("The {a} {persons} who came on {day} were {b} more than on the day before.",
         "a - b", "How many {persons} came on the day before?"),
        ("At {a} dollars, a {ware} here costs {b} dollars less than in the city.",
         "a + b", "How many dollars does the {ware} cost in the city?"),
        ("{N} saved {a} dollars, {b} dollars less than {his} {relative}.",
         "a + b", "How many dollars did the {relative} save?"),
        ("{N} ran {a} laps, {b} laps more than {M}.",
         "a - b", "How many laps did {M} run?"),
        ("There are {a} {animals} on the farm, {b} fewer than there are {animals2}.",
         "a + b", "How many {animals2} are there?"),
        ("With {a} {toys}, {N} is {b} {toys} ahead of {M}.",
         "a - b", "How many {toys} does {M} have?"),
        ("This {box} has {a} {foods} in it, {b} less than the other one.",
         "a + b", "How many {foods} are in the other {box}?"),
        ("{N} made {a} {goods} in {month}, which beat the month before by {b}.",
         "a - b", "How many {goods} did {N} make in the month before?"),
    ]),
    Family("times", _product, templates=[
        ("{N} has {b} {toys}. {M} has {a} times as many.",
         "a * b", "How many {toys} does {M} have?",
         "b + a * b", "How many {toys} do they have together?",
         "a * b - b", "How many more {toys} does {M} have than {N}?"),
        ("A {ware} costs {b} dollars, and a {ware2} costs {a} times as much.",
         "a * b", "How many dollars does the {ware2} cost?",
         "b + a * b", "How many dollars do both cost together?"),
        ("{N} picked {b} {crops} in the morning and {a} times as many in the afternoon.",
         "a * b", "How many {crops} did {N} pick in the afternoon?",
         "b + a * b", "How many {crops} did {N} pick that day?"),
        ("The old {room} has {b} seats. The new one has {a} times that number.",
         "a * b", "How many seats does the new {room} have?",
         "a * b - b", "How many seats more does the new {room} have?"),
        ("<{M} read {b} pages.|{N} read {a} times as many pages as {M}.>",
         "a * b", "How many pages did {N} read?",
         "b + a * b", "How many pages did the two read together?"),
        ("There were {b} {persons} on {day}. On the next day there were {a} times as many.",
         "a * b", "How many {persons} were there on the next day?",
         "a * b - b", "By how many {persons} did the number grow?"),
        ("A small {box} holds {b} {foods} and a large one {a} times as many.",
         "a * b", "How many {foods} does a large {box} hold?",
         "b + a * b", "How many {foods} do a small and a large {box} hold together?"),
        ("{N} planted {b} {plants} and {a} times as many {plants2}.",
         "a * b", "How many {plants2} did {N} plant?",
         "b + a * b", "How many plants did {N} put into the ground?"),
        ("{N} sold {b} {goods} in {month}. By the next month, sales were {a} times as high.",
         "a * b", "How many {goods} were sold in the next month?",
         "a * b - b", "How many more {goods} were sold in the next month than in {month}?"),
        ("While {N} caught {b} fish, {M} caught {a} times as many.",
         "a * b", "How many fish did {M} catch?",
         "b + a * b", "How many fish did they catch in all?"),
    ]),
    Family("times_inverse", _quotient, inverted=True, templates=[
        ("{N} has {a} {toys}, {b} times as many as {M}.",
         "a / b", "How many {toys} does {M} have?",
         "a - a / b", "How many more {toys} does {N} have than {M}?"),
        ("A {ware} costs {a} dollars. That is {b} times the price of a {ware2}.",
         "a / b", "How many dollars does a {ware2} cost?",
         "a + a / b", "How many dollars do the two cost together?"),
        ("{N} ran {a} laps. {M} ran only a part of that: {N} ran {b} times as many.",
         "a / b", "How many laps did {M} run?"),
        ("There are {a} {animals} on the farm, which is {b} times the number of {animals2}.",
         "a / b", "How many {animals2} are on the farm?",
         "a + a / b", "How many {animals} and {animals2} does the farm have?"),
        ("{a} {persons} came on {day}, {b} times as many as on the day before.",
         "a / b", "How many {persons} came on the day before?",
         "a + a / b", "How many {persons} came on the two days?"),
        ("{N} saved {a} dollars. That is {b} times what {his} {relative} saved.",
         "a / b", "How many dollars did the {relative} save?",
         "a + a / b", "How many dollars did the two save together?"),
        ("{N} has read {a} pages. That is {b} times what {M} has read.",
         "a / b", "How many pages has {M} read?",
         "a - a / b", "How many pages is {M} behind {N}?"),
    ]),
    Family("ages", _ages, templates=[
        ("<{N} is {b} years old.|The {relative} of {N} is {a} years older than {N}.>",
         "a + b", "How old is {N}'s {relative}?"),
        ("{N} turned {b} this year.",
         "a + b", "How old will {N} be in {a} years?"),
        ("{N} is {b} years old and {a} years younger than {M}.",
         "a + b", "How old is {M}?"),
        ("In {a} years {N}, who is {b} now, will finish school.",
         "a + b", "At what age will {N} finish school?"),
        ("<{M} was {a} years old when {N} was born.|{N} is {b} years old now.>",
         "a + b", "How old is {M} now?"),
    ]),
    # --- two operations -----------------------------------------------------------------------
    Family("two_kinds_one_leaves", _first_of_two, owned=True, templates=[
        ("{N} had {a} {toys} and {b} {toys2}. {he} gave {c} {toys} to {M}.",
         "a + b - c", "How many {toys} and {toys2} does {N} have altogether now?",
         "a - c", "How many {toys} does {N} have now?",
         "a + b", "How many {toys} and {toys2} did {N} have altogether before?"),
        ("{N} bought {a} {foods} and {b} {foods2} and ate {c} {foods} on the way home.",
         "a - c", "How many {foods} reached home?",
         "a + b - c", "How many pieces of food reached home in all?",
         "a + b", "How many pieces of food did {N} buy in all?"),
        ("There were {a} {persons} inside the {room} and {b} {persons} outside. Then {c} of those inside went away.",
         "a - c", "How many {persons} were left inside?",
         "a + b - c", "How many {persons} were left, inside and outside together?"),
        ("The farm had {a} {animals} and {b} {animals2}. The farmer sold {c} of the {animals}.",
         "a + b - c", "How many animals stayed on the farm?",
         "a - c", "How many {animals} stayed on the farm?",
         "a + b", "How many animals were there before the sale?"),
        ("{N} grew {a} {crops} and {b} {crops2}. Rabbits got {c} of the {crops}.",
         "a - c", "How many {crops} were spared?",
         "a + b - c", "How many {crops} and {crops2} could {N} harvest altogether?"),
        ("In the meadow were {a} {wilds} and {b} {wilds2}. {c} of the {wilds} flew off.",
         "a - c", "How many {wilds} stayed in the meadow?",
         "a + b - c", "How many animals stayed in the meadow?"),
        ("A {box} contained {a} {colour} and {b} {colour2} {toys}. {N} took out {c} {colour} ones.",
         "a - c", "How many {colour} {toys} are left in the {box}?",
         "a + b - c", "How many {toys} are left in the {box}?",
         "a + b", "How many {toys} did the {box} contain before?"),
        ("{N} planted {a} {plants} and {b} {plants2}. After a storm {c} of the {plants} were broken.",
         "a + b - c", "How many plants survived the storm?",
         "a - c", "How many {plants} survived the storm?"),
        ("A {shop} stocked {a} {wares} and {b} {wares2}. During the sale {c} of the {wares} were bought.",
         "a - c", "How many {wares} does the {shop} still stock?",
         "a + b - c", "How many articles are still in stock altogether?",
         "a + b", "How many articles were in stock before the sale?"),
        ("Parked in the yard were {a} {colour} bicycles and {b} {colour2} bicycles, until {c} of the {colour} ones were ridden away.",
         "a + b - c", "How many bicycles are parked there now?",
         "a - c", "How many {colour} bicycles are parked there now?"),
    ]),
    Family("lose_then_gain", _chain, owned=True, templates=[
        ("{N} had {a} {toys}. {he} gave {b} to {M} and then [found|bought] {c} more.",
         "a - b + c", "How many {toys} does {N} have now?",
         "a - b", "How many {toys} did {N} have before [finding|getting] more?"),
        ("At the start of the ride {a} {persons} were on the {vehicle}. At a stop {b} got off and {c} got on.",
         "a - b + c", "How many {persons} were on the {vehicle} after the stop?"),
        ("{N} had {a} dollars, spent {b} dollars at the {shop} and was given {c} dollars by {his} {relative}.",
         "a - b + c", "How many dollars does {N} have now?"),
        ("A tree was full of {a} {wilds}. {b} flew away and {c} others landed in it.",
         "a - b + c", "How many {wilds} were in the tree then?"),
        ("{N}'s shelf held {a} books. {he} lent {b} of them to {M} and put {c} new books on the shelf.",
         "a - b + c", "How many books does the shelf hold now?",
         "a - b", "How many books stood on the shelf before the new ones came?"),
        ("A {shop} had {a} {wares} in stock. On {day} it sold {b} of them, and in the evening {c} new ones were delivered.",
         "a - b + c", "How many {wares} were in stock after the delivery?",
         "a - b", "How many {wares} were in stock before the delivery?"),
        ("In the {room} there were {a} {persons}. {b} of them left, but {c} latecomers arrived.",
         "a - b + c", "How many {persons} were in the {room} in the end?"),
        ("{N} played with {a} {toys}. In the first round {he} lost {b} of them, in the second {he} won {c}.",
         "a - b + c", "How many {toys} did {N} have after both rounds?",
         "a - b", "How many {toys} did {N} have after the first round?"),
        ("The farmer owned {a} {animals}, sold {b} of these, and later bought {c} young ones.",
         "a - b + c", "How many {animals} does the farmer own now?"),
        ("Of {a} {plants} in the nursery, {b} were sold in {month}. The gardener then grew {c} new {plants}.",
         "a - b + c", "How many {plants} did the nursery have after that?"),
    ]),
    Family("gain_then_lose", _gain_lose, owned=True, templates=[
        ("{N} had {a} {toys} and got {b} more from {his} {relative}. Then {he} lost {c} of them.",
         "a + b - c", "How many {toys} does {N} have left?",
         "a + b", "How many {toys} did {N} have before losing any?"),
        ("{N} baked {a} pies in the morning and {b} pies in the afternoon and sold {c} pies.",
         "a + b - c", "How many pies does {N} have left?",
         "a + b", "How many pies did {N} bake?"),
        ("{N} had {a} dollars. After earning {b} dollars {he} bought a {ware} for {c} dollars.",
         "a + b - c", "How many dollars does {N} have left?",
         "a + b", "How many dollars did {N} have before buying the {ware}?"),
        ("{a} {persons} were in the {room}. {b} more came in, and later {c} left.",
         "a + b - c", "How many {persons} were still in the {room}?"),
        ("In {month} {N} picked {a} {crops}, and {M} picked {b}. They gave {c} of these {crops} to neighbors.",
         "a + b - c", "How many {crops} did they keep?",
         "a + b", "How many {crops} did they pick?"),
        ("{N} poured {a} {toys} and then another {b} {toys} into a {box}. {M} removed {c} {toys}.",
         "a + b - c", "How many {toys} remain in the {box}?"),
        ("The {vehicle} started with {a} {persons}. {b} joined at the first stop, and at the second stop {c} got out.",
         "a + b - c", "How many {persons} went on after the second stop?",
         "a + b", "How many {persons} were on the {vehicle} between the two stops?"),
        ("{a} girls and {b} boys signed up for the play. Later {c} children changed their minds.",
         "a + b - c", "How many children will be in the play?",
         "a + b", "How many children had signed up at first?"),
        ("{N} mixed {a} {foods} with {b} {foods2} in a bowl, from which {M} ate {c} pieces.",
         "a + b - c", "How many pieces are in the bowl now?"),
        ("Two donors sent {a} and {b} {wares} to a school, which handed {c} of them out.",
         "a + b - c", "How many {wares} has the school not handed out?",
         "a + b", "How many {wares} did the school get?"),
    ]),
    Family("rest", _rest, owned=True, templates=[
        ("{N} had {a} {toys}. {he} gave {b} to {M} and {c} to {P}.",
         "a - b - c", "How many {toys} does {N} have left?",
         "b + c", "How many {toys} did {N} give away?",
         "a - b", "How many {toys} did {N} have before giving any to {P}?"),
        ("Of {a} {toys} in a {box}, {b} are {colour} and {c} are {colour2}. The others are {colour3}.",
         "a - b - c", "How many {toys} are {colour3}?",
         "b + c", "How many {toys} are not {colour3}?"),
        ("{N} had {a} dollars and bought a {ware} for {b} dollars and a {ware2} for {c} dollars.",
         "a - b - c", "How many dollars are left?",
         "b + c", "How many dollars did {N} spend?"),
        ("A {shop} had {a} {wares}. It sold {b} of them on {day} and {c} on the next day.",
         "a - b - c", "How many {wares} are unsold?",
         "b + c", "How many {wares} were sold in the two days?"),
        ("{a} {persons} visited the {room}: {b} in the morning, {c} at noon and the rest in the evening.",
         "a - b - c", "How many {persons} came in the evening?",
         "b + c", "How many {persons} came before the evening?"),
        ("A book has {a} pages. {N} read {b} pages on {day} and {c} pages on the following day.",
         "a - b - c", "How many pages are left to read?",
         "b + c", "How many pages did {N} read on the two days?"),
        ("There were {a} {foods} in a bowl. {N} ate {b} and {M} ate {c}.",
         "a - b - c", "How many {foods} are in the bowl now?",
         "b + c", "How many {foods} did the two eat?"),
        ("{N} planted {a} trees. {b} of them are oaks, {c} are birches, and all others are pines.",
         "a - b - c", "How many pines did {N} plant?"),
        ("From a rope of {a} inches {N} cut off first {b} and then {c} inches.",
         "a - b - c", "How many inches long is what remains?",
         "b + c", "How many inches did {N} cut off?"),
        ("{N} must carry {a} bricks. {he} carries {b} before lunch and {c} after it.",
         "a - b - c", "How many bricks remain to be carried?",
         "b + c", "How many bricks has {N} carried?"),
    ]),
    Family("sum_of_three", _three, templates=[
        ("<{N} has {a} {toys}.|{M} has {b} {toys}.|{P} has {c} {toys}.>",
         "a + b + c", "How many {toys} do the three have [altogether|in all]?",
         "a + c", "How many {toys} do {N} and {P} have together?"),
        ("{N} picked {a} {crops} on {day}, {b} on the next day and {c} on the third day.",
         "a + b + c", "How many {crops} did {N} pick in the three days?",
         "a + b", "How many {crops} did {N} pick in the first two days?"),
        ("There are {a} {animals}, {b} {animals2} and {c} {animals3} on the farm.",
         "a + b + c", "How many animals are on the farm?",
         "b + c", "How many {animals2} and {animals3} are there together?"),
        ("{N} bought <a {ware} for {a} dollars,|a {ware2} for {b} dollars,|a {ware3} for {c} dollars,> all in one shop.",
         "a + b + c", "How many dollars did {N} spend?",
         "a + c", "How many dollars did the {ware} and the {ware3} cost together?"),
        ("The three classes of a school have {a}, {b} and {c} students.",
         "a + b + c", "How many students go to the school?"),
        ("{N} made {a} {goods} in {month}. {M} made {b}, and {P} made {c} of them.",
         "a + b + c", "How many {goods} did they make together?",
         "b + c", "How many {goods} did {M} and {P} make?"),
        ("A {box} holds {a} {colour}, {b} {colour2} and {c} {colour3} {toys}.",
         "a + b + c", "How many {toys} does the {box} hold?",
         "a + b", "How many {toys} are {colour} or {colour2}?"),
        ("On its way the {vehicle} took on {a} {persons} at the first stop, {b} at the second and {c} at the third.",
         "a + b + c", "How many {persons} got on at these stops?",
         "b + c", "How many {persons} got on after the first stop?"),
        ("{a} visitors came by train, {b} by bus and {c} on foot.",
         "a + b + c", "How many visitors were there?",
         "a + b", "How many visitors did not come on foot?"),
        ("Into the flower bed {N} put {a} {plants}, {b} {plants2} and {c} {plants3}.",
         "a + b + c", "How many plants are in the bed?",
         "a + c", "How many {plants} and {plants3} are in the bed?"),
    ]),
    Family("groups_then_less", _groups_less, templates=[
        ("{N} filled {a} {boxs} with {b} {foods} each. Then {he} [ate|sold] {c} {foods}.",
         "a * b - c", "How many {foods} are left?",
         "a * b", "How many {foods} had {N} put into the {boxs}?"),
        ("{N} bought {a} packs of {b} {toys} and gave {c} {toys} to {M}.",
         "a * b - c", "How many {toys} does {N} have left?",
         "a * b", "How many {toys} did {N} buy?"),
        ("A {room} has {a} rows of {b} seats. {c} seats are taken.",
         "a * b - c", "How many seats are free?",
         "a * b", "How many seats does the {room} have?"),
        ("{N} sold {a} {goods} for {b} dollars each and paid {c} dollars for the stand.",
         "a * b - c", "How many dollars did {N} have left from the sale?",
         "a * b", "How many dollars did the customers pay?"),
        ("{N} works {a} days a month and makes {b} {goods} a day. In {month} {c} of the {goods} had flaws.",
         "a * b - c", "How many {goods} without flaws did {N} make in {month}?"),
        ("{a} {persons} each brought {b} {foods} to the party. At the end {c} {foods} were left.",
         "a * b - c", "How many {foods} were eaten at the party?",
         "a * b", "How many {foods} were brought to the party?"),
        ("In a nursery stand {a} rows with {b} {plants} in each. Frost killed {c} of the {plants}.",
         "a * b - c", "How many {plants} are alive?",
         "a * b", "How many {plants} stood there before the frost?"),
        ("A book has {a} chapters with {b} pages each. {N} has read {c} pages.",
         "a * b - c", "How many pages does {N} still have to read?",
         "a * b", "How many pages long is the book?"),
        ("For {a} weeks {N} saved {b} dollars a week. Then {he} spent {c} dollars.",
         "a * b - c", "How many dollars of {his} savings does {N} still have?",
         "a * b", "How many dollars had {N} saved before spending any?"),
        ("{a} boxes with {b} {wares} in each came to the {shop}, but {c} {wares} were broken.",
         "a * b - c", "How many {wares} could be sold?",
         "a * b", "How many {wares} came to the {shop}?"),
    ]),
    Family("groups_then_more", _groups_more, templates=[
        ("{N} has {a} {boxs} with {b} {toys} each and {c} {toys} [on the table|in {his} pocket].",
         "a * b + c", "How many {toys} does {N} have [altogether|in all]?",
         "a * b", "How many {toys} are in the {boxs}?"),
        ("{N} bought {a} {wares} for {b} dollars each and a {ware2} for {c} dollars.",
         "a * b + c", "How many dollars did {N} spend?",
         "a * b", "How many dollars did the {wares} cost?"),
        ("A {room} has {a} rows of {b} seats and {c} more seats on the balcony.",
         "a * b + c", "How many seats does the {room} have?"),
        ("{N} had {c} dollars and then earned {b} dollars a day for {a} days.",
         "a * b + c", "How many dollars does {N} have now?",
         "a * b", "How many dollars did {N} earn?"),
        ("{c} {plants} grew in the garden before {N} planted {a} rows of {b} {plants}.",
         "a * b + c", "How many {plants} grow in the garden now?",
         "a * b", "How many {plants} did {N} plant?"),
        ("{N} read {c} pages on {day} and {b} pages on each of the {a} days after it.",
         "a * b + c", "How many pages did {N} read in all?",
         "a * b", "How many pages did {N} read after {day}?"),
        ("A school has {a} classes of {b} students and {c} teachers.",
         "a * b + c", "How many people learn or teach at the school?",
         "a * b", "How many students are at the school?"),
        ("After {a} {boxs} had been filled with {b} {foods} each, {c} {foods} were left over.",
         "a * b + c", "How many {foods} were there to begin with?",
         "a * b", "How many {foods} went into the {boxs}?"),
        ("{a} tables with {b} {persons} each were full, and {c} {persons} had to stand.",
         "a * b + c", "How many {persons} were there?",
         "a * b", "How many {persons} could sit?"),
        ("The fee for a bicycle is {c} dollars plus {b} dollars for every hour. {N} kept it for {a} hours.",
         "a * b + c", "How many dollars did {N} pay?"),
    ]),
    Family("bill", _bill, templates=[
        ("<{N} had {a} dollars.|One {ware} costs {c} dollars.> {N} bought {b} {wares}.",
         "a - b * c", "How many dollars does {N} have left?",
         "b * c", "How many dollars did {N} spend on {wares}?"),
        ("{N} pays for {b} {wares}, which cost {c} dollars each, with {a} dollars.",
         "a - b * c", "How many dollars does {N} get back?",
         "b * c", "How many dollars do the {wares} cost?"),
        ("There were {a} {foods}. {N} filled {b} bags with {c} {foods} each.",
         "a - b * c", "How many {foods} were left over?",
         "b * c", "How many {foods} are in the bags?"),
        ("A book has {a} pages. For {b} days {N} has read {c} pages a day.",
         "a - b * c", "How many pages are left?",
         "b * c", "How many pages has {N} read?"),
        ("<{N} had {a} {toys}.|{N} has {b} friends.> {he} gave {c} {toys} to each friend.",
         "a - b * c", "How many {toys} does {N} have left?",
         "b * c", "How many {toys} did {N} give away?"),
        ("A tank holds {a} gallons of water. In each of {b} hours {c} gallons leak out.",
         "a - b * c", "How many gallons are left in the tank?",
         "b * c", "How many gallons leak out?"),
        ("{N} needs {a} dollars and saves {c} dollars a week for {b} weeks.",
         "a - b * c", "How many dollars is {N} still short of?",
         "b * c", "How many dollars does {N} save?"),
        ("The farmer sold {b} {boxs} with {c} {crops} each from a harvest of {a} {crops}.",
         "a - b * c", "How many {crops} were not sold?",
         "b * c", "How many {crops} were sold?"),
        ("Of {a} {persons} at the fair, {b} groups of {c} {persons} left early.",
         "a - b * c", "How many {persons} stayed to the end?",
         "b * c", "How many {persons} left early?"),
        ("{N} cut {b} pieces of {c} inches from a ribbon of {a} inches.",
         "a - b * c", "How many inches of ribbon remain?",
         "b * c", "How many inches of ribbon did {N} cut off?"),
    ]),
    Family("sum_times", _sum_times, templates=[
        ("In each of {c} {boxs} there are {a} {colour} and {b} {colour2} {toys}.",
         "(a + b) * c", "How many {toys} are there in all?",
         "a * c", "How many {colour} {toys} are there in all?",
         "a + b", "How many {toys} does each {box} hold?"),
        ("{N} buys a {ware} for {a} dollars and a {ware2} for {b} dollars for each of {c} children.",
         "(a + b) * c", "How many dollars does {N} spend?",
         "b * c", "How many dollars does {N} spend on {wares2}?"),
        ("{N} makes {a} {goods} before noon and {b} after noon on every day.",
         "(a + b) * c", "How many {goods} does {N} make in {c} days?",
         "a + b", "How many {goods} does {N} make on one of these {c} days?"),
        ("A team has {a} girls and {b} boys. There are {c} such teams.",
         "(a + b) * c", "How many children are in the teams?",
         "b * c", "How many boys are in the teams?"),
        ("{a} red and {b} white {plants} stand in each of {c} rows.",
         "(a + b) * c", "How many {plants} are there?",
         "a * c", "How many red {plants} are there?"),
        ("{N} walks {a} miles to work and {b} miles back by another way, on {c} days a month.",
         "(a + b) * c", "How many miles does {N} walk in a month?",
         "a + b", "How many miles does {N} walk on each of these days?"),
        ("Every visitor gets {a} {foods} and {b} {foods2}, and there are {c} visitors.",
         "(a + b) * c", "How many pieces of food are needed?",
         "a * c", "How many {foods} are needed?"),
        ("{N} and {M} earn {a} and {b} dollars an hour. Both work for {c} hours.",
         "(a + b) * c", "How many dollars do they earn together?",
         "a * c", "How many dollars does {N} earn?"),
        ("A bus takes {a} seated and {b} standing passengers. {c} full buses leave the station.",
         "(a + b) * c", "How many passengers leave the station?",
         "b * c", "How many passengers have to stand?"),
        ("{N} practices the piano for {a} minutes and the flute for {b} minutes every day.",
         "(a + b) * c", "How many minutes does {N} practice in {c} days?",
         "b * c", "How many minutes does {N} play the flute in {c} days?"),
    ]),
    Family("diff_times", _diff_times, templates=[
        ("A {ware} costs {a} dollars, but today it is {b} dollars cheaper. {N} buys {c} of them.",
         "(a - b) * c", "How many dollars does {N} pay?",
         "a - b", "How many dollars does one {ware} cost today?"),
        ("{N} buys {goods} for {b} dollars each and sells them for {a} dollars each.",
         "(a - b) * c", "How many dollars does {N} gain with {c} {goods}?"),
        ("Each of {c} {boxs} held {a} {foods}. {N} took {b} {foods} out of every {box}.",
         "(a - b) * c", "How many {foods} are left in the {boxs}?",
         "b * c", "How many {foods} did {N} take?"),
        ("{N} earns {a} dollars a day and spends {b} dollars of that.",
         "(a - b) * c", "How many dollars does {N} save in {c} days?",
         "b * c", "How many dollars does {N} spend in {c} days?"),
        ("There were {a} students in each of {c} classes until {b} students of every class moved away.",
         "(a - b) * c", "How many students are in the classes now?",
         "a - b", "How many students are in a class now?"),
        ("A tank gains {a} gallons of water an hour and loses {b}.",
         "(a - b) * c", "How many gallons does it gain in {c} hours?"),
        ("{N} reads {a} pages a day, {M} reads {b}.",
         "(a - b) * c", "By how many pages is {N} ahead after {c} days?",
         "a * c", "How many pages does {N} read in {c} days?"),
        ("{c} groups of {a} {persons} each set out. In every group {b} turned back.",
         "(a - b) * c", "How many {persons} reached the goal?",
         "b * c", "How many {persons} turned back?"),
        ("In {c} gardens stood {a} {plants} each, of which {b} in every garden were cut down.",
         "(a - b) * c", "How many {plants} are standing now?",
         "a * c", "How many {plants} were there before?"),
        ("The regular price of a ticket is {a} dollars, and children pay {b} dollars less.",
         "(a - b) * c", "How many dollars do {c} children pay?"),
    ]),
    Family("sum_shared", _sum_shared, templates=[
        ("{N} has {a} {colour} {toys} and {b} {colour2} {toys} and puts them all into {boxs} of {c}.",
         "(a + b) / c", "How many {boxs} does {N} fill?",
         "a + b", "How many {toys} does {N} have?"),
        ("{a} girls and {b} boys form {c} teams of equal size.",
         "(a + b) / c", "How many children are in a team?",
         "a + b", "How many children are there?"),
        ("{N} brought {a} {foods}, {M} brought {b}, and they shared them equally among {c} guests.",
         "(a + b) / c", "How many {foods} did each guest get?",
         "a + b", "How many {foods} were there?"),
        ("{N} earned {a} dollars on {day} and {b} dollars on the next day. A {ware} costs {c} dollars.",
         "(a + b) / c", "How many {wares} can {N} buy with this money?",
         "a + b", "How many dollars did {N} earn?"),
        ("A school with {a} girls and {b} boys goes on a trip. Each bus carries {c} children.",
         "(a + b) / c", "How many buses are needed?",
         "a + b", "How many children go on the trip?"),
        ("{N} reads a novel of {a} pages and then one of {b} pages, at {c} pages a day.",
         "(a + b) / c", "How many days does {N} need for both?"),
        ("{c} friends pay together for a meal of {a} dollars and drinks of {b} dollars and split the bill evenly.",
         "(a + b) / c", "How many dollars does each of them pay?",
         "a + b", "How many dollars is the whole bill?"),
        ("{N} ties {a} roses and {b} tulips into bunches of {c}.",
         "(a + b) / c", "How many bunches does {N} get?",
         "a + b", "How many flowers does {N} have?"),
        ("The {a} {animals} and {b} {animals2} of a farm are kept in {c} stables, equally many in each.",
         "(a + b) / c", "How many animals are in one stable?",
         "a + b", "How many animals does the farm have?"),
        ("Two friends put {a} and {b} {toys} on a pile and deal it out to {c} children in equal shares.",
         "(a + b) / c", "How many {toys} does every child get?"),
    ]),
    Family("rest_shared", _rest_shared, templates=[
        ("{N} had {a} {foods}. {he} ate {b} and shared the others equally among {c} friends.",
         "(a - b) / c", "How many {foods} did each friend get?",
         "a - b", "How many {foods} were shared?"),
        ("{N} had {a} dollars and spent {b} dollars on a {ware}. With the rest {he} bought {wares2} for {c} dollars each.",
         "(a - b) / c", "How many {wares2} did {N} buy?",
         "a - b", "How many dollars were left after buying the {ware}?"),
        ("Of {a} {toys}, {N} kept {b}. {he} put the others into {boxs} of {c}.",
         "(a - b) / c", "How many {boxs} did {N} fill?"),
        ("{N} has read {b} pages of a book of {a} pages. From now on {he} reads {c} pages a day.",
         "(a - b) / c", "In how many days will {N} finish the book?",
         "a - b", "How many pages does {N} have to read yet?"),
        ("{a} {persons} wanted to play, but {b} went home. The others formed {c} equal teams.",
         "(a - b) / c", "How many {persons} were in each team?",
         "a - b", "How many {persons} stayed to play?"),
        ("{N} picked {a} {crops}, threw {b} bad ones away and packed the good ones into {c} {boxs} evenly.",
         "(a - b) / c", "How many {crops} are in each {box}?",
         "a - b", "How many good {crops} did {N} have?"),
        ("A {ware} costs {a} dollars. {N} has {b} dollars and saves {c} dollars a week.",
         "(a - b) / c", "After how many weeks can {N} buy the {ware}?",
         "a - b", "How many dollars are missing?"),
        ("{N} had {a} roses. After {b} of them had wilted, {he} made bunches of {c} roses from the rest.",
         "(a - b) / c", "How many bunches did {N} make?"),
        ("{N} paid {a} dollars for a {ware} and {c} {wares2}. The {ware} alone cost {b} dollars.",
         "(a - b) / c", "How many dollars did one of the {wares2} cost?",
         "a - b", "How many dollars did the {wares2} cost together?"),
        ("From {a} chairs {b} are taken away. The others are set up in {c} equal rows.",
         "(a - b) / c", "How many chairs stand in a row?",
         "a - b", "How many chairs are set up?"),
    ]),
    Family("unit_rate", _unit_rate, templates=[
        ("{b} {wares} cost {a} dollars.",
         "a / b * c", "How many dollars do {c} {wares} cost[ at this price|]?"),
        ("{N} makes {a} {goods} in {b} hours.",
         "a / b * c", "How many {goods} does {N} make in {c} hours at that speed?"),
        ("A {vehicle} goes {a} miles in {b} hours.",
         "a / b * c", "How many miles does it go in {c} hours?"),
        ("{N} put {a} {foods} evenly into {b} {boxs} and gave {c} full {boxs} to {M}.",
         "a / b * c", "How many {foods} did {M} get?",
         "a / b", "How many {foods} were in each {box}?"),
        ("", "a / b * c", "If {b} equal {boxs} hold {a} {toys}, how many {toys} do {c} {boxs} hold?"),
        ("{N} read {a} pages in {b} days.",
         "a / b * c", "How many pages will {N} read in {c} days at this pace?"),
        ("For {b} hours of work {N} is paid {a} dollars.",
         "a / b * c", "How many dollars is {N} paid for {c} hours?"),
        ("{a} {persons} fit into {b} equal tents.",
         "a / b * c", "How many {persons} fit into {c} of these tents?"),
        ("In {b} minutes a pump moves {a} gallons of water.",
         "a / b * c", "How many gallons does the pump move in {c} minutes?"),
        ("{N} planted {a} {plants} in {b} rows of equal length, and {M} added {c} rows like these.",
         "a / b * c", "How many {plants} did {M} plant?",
         "a / b", "How many {plants} are in a row?"),
    ]),
    Family("regroup", _regroup, templates=[
        ("{N} has {a} {boxs} with {b} {toys} each. {he} wants to put all {toys} into {c} {boxs2} evenly.",
         "a * b / c", "How many {toys} will be in each {box2}?",
         "a * b", "How many {toys} does {N} have?"),
        ("{a} packs of {b} {foods} are shared equally among {c} children.",
         "a * b / c", "How many {foods} does each child get?",
         "a * b", "How many {foods} are there?"),
        ("{N} worked {a} hours for {b} dollars an hour and then bought {wares} for {c} dollars each with all the money.",
         "a * b / c", "How many {wares} did {N} buy?",
         "a * b", "How many dollars did {N} earn?"),
        ("In the {room} are {a} rows of {b} chairs. They are set up again in rows of {c}.",
         "a * b / c", "How many rows are there now?",
         "a * b", "How many chairs are there?"),
        ("{N} sold {a} {goods} for {b} dollars each and shared the money equally with {his} partners, {c} people in all.",
         "a * b / c", "How many dollars did each of them get?",
         "a * b", "How many dollars did the {goods} bring?"),
        ("A book of {a} chapters has {b} pages in each chapter. {N} reads {c} pages a day.",
         "a * b / c", "How many days will {N} read?",
         "a * b", "How many pages does the book have?"),
        ("{a} classes of {b} students each go by boat. A boat carries {c} students.",
         "a * b / c", "How many boats are needed?",
         "a * b", "How many students go?"),
    ]),
    Family("three_factors", _factors, templates=[
        ("{N} has {a} {boxs}. In each are {b} bags, and in each bag are {c} {foods}.",
         "a * b * c", "How many {foods} does {N} have?",
         "a * b", "How many bags does {N} have?"),
        ("A building has {a} floors with {b} rooms each, and every room has {c} windows.",
         "a * b * c", "How many windows does the building have?",
         "a * b", "How many rooms does the building have?"),
        ("{a} {persons} work {b} hours a day for {c} dollars an hour.",
         "a * b * c", "How many dollars do they earn in a day, all together?",
         "b * c", "How many dollars does one of them earn in a day?"),
        ("{N} runs {a} laps of {b} yards on each of {c} days.",
         "a * b * c", "How many yards does {N} run in all?",
         "a * b", "How many yards does {N} run on one day?"),
        ("{c} shelves stand in each of {b} halls of a library with {a} books on every shelf.",
         "a * b * c", "How many books does the library have?",
         "b * c", "How many shelves does the library have?"),
        ("For {a} weeks {N} made {b} {goods} on {c} days of the week.",
         "a * b * c", "How many {goods} did {N} make?",
         "a * c", "On how many days did {N} work?"),
        ("{a} {vehicles} make {b} trips each with {c} {persons} on every trip.",
         "a * b * c", "How many {persons} are carried?",
         "a * b", "How many trips are made?"),
    ]),
    Family("compare_chain", _chain_compare, templates=[
        ("{N} has {a} {toys}. {M} has {b} more than {N}, and {P} has {c} fewer than {M}.",
         "a + b - c", "How many {toys} does {P} have?",
         "a + b", "How many {toys} does {M} have?"),
        ("On {day} {a} {persons} came. The next day {b} more came, and on the third day {c} fewer than on the second.",
         "a + b - c", "How many {persons} came on the third day?",
         "a + b", "How many {persons} came on the second day?"),
        ("<The {ware} costs {a} dollars.|The {ware2} costs {b} dollars more than the {ware}.|The {ware3} costs {c} dollars less than the {ware2}.>",
         "a + b - c", "How many dollars does the {ware3} cost?",
         "a + b", "How many dollars does the {ware2} cost?"),
        ("<{N} picked {a} {crops}.|{M} picked {b} more than {N}.|{P} picked {c} fewer than {M}.>",
         "a + b - c", "How many {crops} did {P} pick?",
         "b - c", "How many more {crops} than {N} did {P} pick?"),
        ("On a farm are <{a} {animals},|{b} more {animals2} than {animals},|{c} fewer {animals3} than {animals2},> and no others.",
         "a + b - c", "How many {animals3} are on the farm?",
         "a + b", "How many {animals2} are on the farm?"),
    ]),
    Family("start_of_chain", _start_chain, inverted=True, owned=True, templates=[
        ("{N} had some {toys}. {he} gave {a} to {M}, got {b} from {P}, and now has {c}.",
         "c - b + a", "How many {toys} did {N} have [at first|in the beginning]?"),
        ("At a stop {a} {persons} got off the {vehicle} and {b} got on. Then there were {c} {persons} on it.",
         "c - b + a", "How many {persons} were on the {vehicle} before the stop?"),
        ("{N} spent {a} dollars, then earned {b} dollars, and has {c} dollars now.",
         "c - b + a", "How many dollars did {N} have before?"),
        ("After {a} {wilds} had left the tree and {b} had come, {c} {wilds} sat in it.",
         "c - b + a", "How many {wilds} sat in the tree at first?"),
        ("A {shop} sold {a} {wares}, got {b} new ones and then had {c} {wares} in stock.",
         "c - b + a", "How many {wares} were in stock before the sale?"),
    ]),
    Family("quotient_then", _quotient_then, templates=[
        ("{N} shared {a} {foods} equally among {b} children. {M}, one of the children, ate {c} of {his2} share.",
         "a / b - c", "How many {foods} does {M} have left?",
         "a / b", "How many {foods} did each child get?"),
        ("{a} {persons} are split into {b} equal teams. Then {c} of {N}'s team go home.",
         "a / b - c", "How many {persons} are left in {N}'s team?",
         "a / b", "How many {persons} were in each team at first?"),
        ("{b} {wares} cost {a} dollars together. A {ware2} costs {c} dollars less than a {ware}.",
         "a / b - c", "How many dollars does a {ware2} cost?",
         "a / b", "How many dollars does one {ware} cost?"),
        ("{N} put {a} {toys} into {b} {boxs} evenly and later took {c} {toys} out of one {box}.",
         "a / b - c", "How many {toys} does that {box} hold now?",
         "a / b", "How many {toys} did each {box} hold at first?"),
        ("{b} friends divided {a} dollars equally among themselves. {N}, one of them, spent {c} dollars.",
         "a / b - c", "How many dollars does {N} have left from {his} share?",
         "a / b", "How many dollars did each friend get?"),
    ]),
    Family("quotient_plus", _quotient_plus, templates=[
        ("{N} and {his} friends, {b} children in all, shared {a} {foods} equally. {N} had {c} {foods} already.",
         "a / b + c", "How many {foods} does {N} have now?",
         "a / b", "How many {foods} did each child get?"),
        ("{a} {toys} are dealt out evenly to {b} players. {N} then wins {c} more.",
         "a / b + c", "How many {toys} does {N} have?",
         "a / b", "How many {toys} was each player dealt?"),
        ("A meal of {a} dollars is split evenly by {b} friends, and {N} also pays {c} dollars for a cake.",
         "a / b + c", "How many dollars does {N} pay?",
         "a / b", "How many dollars is each friend's part of the meal?"),
        ("{b} equal {boxs} hold {a} {goods}. {c} more {goods} are put into one of them.",
         "a / b + c", "How many {goods} are in that {box} now?",
         "a / b", "How many {goods} were in each {box} before?"),
        ("The {a} {persons} of a camp sleep in {b} equal huts. Now {c} newcomers move into one hut.",
         "a / b + c", "How many {persons} sleep in that hut now?",
         "a / b", "How many {persons} slept in each hut before?"),
    ]),
    # --- three operations ---------------------------------------------------------------------
    Family("two_products", _two_products, templates=[
        ("{N} bought {a} {wares} for {b} dollars each and {c} {wares2} for {d} dollars each.",
         "a * b + c * d", "How many dollars did {N} spend [altogether|in all]?",
         "a * b - c * d", "How many dollars more did the {wares} cost than the {wares2}?",
         "c * d", "How many dollars did the {wares2} cost?"),
        ("<{N} has {a} {boxs} of {b} {toys}.|{M} has {c} {boxs} of {d} {toys}.>",
         "a * b + c * d", "How many {toys} do they have together?",
         "a * b - c * d", "How many more {toys} does {N} have than {M}?"),
        ("A {room} has {a} rows of {b} seats downstairs and {c} rows of {d} seats upstairs.",
         "a * b + c * d", "How many seats are there in all?",
         "a * b - c * d", "How many more seats are there downstairs than upstairs?",
         "a + c", "How many rows of seats are there in all?"),
        ("{N} sold {a} {goods} for {b} dollars each on {day} and {c} {goods} for {d} dollars each on the next day.",
         "a * b + c * d", "How many dollars did {N} take in on both days?",
         "a + c", "How many {goods} did {N} sell on both days?"),
        ("<{N} works {a} hours for {b} dollars an hour.|{M} works {c} hours for {d} dollars an hour.>",
         "a * b + c * d", "How many dollars do the two earn together?",
         "a * b - c * d", "How many dollars more does {N} earn than {M}?"),
        ("There are {a} tables for {b} guests each and {c} tables for {d} guests each.",
         "a * b + c * d", "For how many guests is there a seat?",
         "a + c", "How many tables are there?"),
        ("{N} planted {a} rows of {b} {plants} and {c} rows of {d} {plants2}.",
         "a * b + c * d", "How many plants did {N} plant?",
         "a * b - c * d", "How many more {plants} than {plants2} did {N} plant?"),
        ("For {a} days {N} read {b} pages a day, and for {c} days {d} pages a day.",
         "a * b + c * d", "How many pages did {N} read?",
         "a + c", "On how many days did {N} read?"),
        ("The {shop} got {a} boxes with {b} {wares} each and {c} boxes with {d} {wares2} each.",
         "a * b + c * d", "How many articles did the {shop} get?",
         "a * b - c * d", "How many more {wares} than {wares2} did the {shop} get?"),
        ("Adults pay {b} dollars for a ticket and children pay {d} dollars. {a} adults and {c} children come.",
         "a * b + c * d", "How many dollars are taken in?",
         "a + c", "How many people come?"),
    ]),
    Family("bill_and_more", _bill_more, templates=[
        ("{N} had {a} dollars. {he} bought {b} {wares} for {c} dollars each and a {ware2} for {d} dollars.",
         "a - b * c - d", "How many dollars does {N} have left?",
         "b * c + d", "How many dollars did {N} spend?"),
        ("From {a} {foods} {N} filled {b} bags with {c} {foods} each and ate {d} {foods}.",
         "a - b * c - d", "How many {foods} are left?",
         "b * c + d", "How many {foods} are gone?"),
        ("{N} had {a} {toys}. {he} gave {c} {toys} to each of {b} friends and lost {d}.",
         "a - b * c - d", "How many {toys} does {N} have now?",
         "b * c + d", "How many {toys} does {N} no longer have?"),
        ("{N} must read {a} pages. {he} read {c} pages a day for {b} days and then {d} pages on {day}.",
         "a - b * c - d", "How many pages are left to read?",
         "b * c + d", "How many pages has {N} read?"),
        ("A hall with {a} seats has {b} full rows of {c} seats, and {d} people sit in other rows.",
         "a - b * c - d", "How many seats are empty?",
         "b * c + d", "How many seats are taken?"),
    ]),
    Family("left_then_shared", _left_shared, templates=[
        ("{N} had {a} dollars, bought {b} {wares} for {c} dollars each and shared the rest equally among {d} friends.",
         "(a - b * c) / d", "How many dollars did each friend get?",
         "a - b * c", "How many dollars did {N} share among the {d} friends?"),
        ("{N} had {a} {foods}. After filling {b} bags with {c} {foods} each, {he} put the rest evenly on {d} plates.",
         "(a - b * c) / d", "How many {foods} are on each plate?",
         "a - b * c", "How many {foods} did {N} put on the {d} plates?"),
        ("Of {a} {persons}, {b} groups of {c} went by bus. The others went by {d} vans, equally many in each.",
         "(a - b * c) / d", "How many {persons} were in each van?",
         "a - b * c", "How many {persons} went by van?"),
        ("A book has {a} pages. {N} read {c} pages on each of {b} days and wants to finish the rest in {d} days.",
         "(a - b * c) / d", "How many pages a day must {N} read from now on?",
         "a - b * c", "How many pages are the rest?"),
        ("{N} sold {b} {boxs} of {c} {crops} out of a harvest of {a} {crops} and gave the others to {d} neighbors in equal parts.",
         "(a - b * c) / d", "How many {crops} did each neighbor get?",
         "a - b * c", "How many {crops} did the neighbors get together?"),
    ]),
    Family("three_shared", _three_shared, templates=[
        ("{N} has {a} {toys}, {M} has {b} and {P} has {c}. They put them together into {boxs} of {d}.",
         "(a + b + c) / d", "How many {boxs} do they fill?",
         "a + b + c", "How many {toys} do the three have?"),
        ("{a} {foods}, {b} {foods2} and {c} {foods3} are shared equally among {d} children.",
         "(a + b + c) / d", "How many pieces of food does each child get?",
         "a + b + c", "How many pieces of food are there?"),
        ("In three hours {N} made {a}, {b} and {c} {goods}. {he} packs them into {d} {boxs} evenly.",
         "(a + b + c) / d", "How many {goods} are in one {box}?",
         "a + b + c", "How many {goods} did {N} make?"),
        ("{d} {persons} collected {a} bottles on {day}, {b} on the second day and {c} on the third, and all did equally much.",
         "(a + b + c) / d", "How many bottles did each of them collect?",
         "a + b + c", "How many bottles did they collect together?"),
        ("{N} earned {a} dollars in spring, {b} in summer and {c} in autumn and buys {wares} for {d} dollars each with it.",
         "(a + b + c) / d", "How many {wares} can {N} buy?",
         "a + b + c", "How many dollars did {N} earn?"),
    ]),
    Family("gain_lose_shared", _gain_lose_shared, templates=[
        ("{N} had {a} {foods} and bought {b} more. {he} ate {c} and shared the rest equally among {d} friends.",
         "(a + b - c) / d", "How many {foods} did each friend get?",
         "a + b - c", "How many {foods} did {N} share?"),
        ("{a} girls and {b} boys wanted to play. {c} children were ill, and the others formed {d} equal teams.",
         "(a + b - c) / d", "How many children were in each team?",
         "a + b - c", "How many children played?"),
        ("{N} picked {a} {crops} and {M} picked {b}. They threw {c} away and packed the rest in {boxs} of {d}.",
         "(a + b - c) / d", "How many {boxs} did they fill?",
         "a + b", "How many {crops} did they pick?"),
        ("{N} had {a} dollars, earned {b} dollars and spent {c} dollars on a {ware}. {he} buys {wares2} for {d} dollars each with the rest.",
         "(a + b - c) / d", "How many {wares2} does {N} buy?",
         "a + b - c", "How many dollars can {N} spend on {wares2}?"),
        ("A {shop} has {a} {colour} and {b} {colour2} {wares}. {c} of these are broken, and the others are set out on {d} shelves evenly.",
         "(a + b - c) / d", "How many {wares} are on each shelf?",
         "a + b - c", "How many {wares} are not broken?"),
    ]),
    Family("product_shared", _product_shared, templates=[
        ("{N} had {a} packs of {b} {toys}. {he} kept {c} {toys} and gave the others to {d} friends in equal parts.",
         "(a * b - c) / d", "How many {toys} did each friend get?",
         "a * b - c", "How many {toys} did {N} give away?"),
        ("{N} sold {a} {goods} for {b} dollars each, spent {c} dollars and put the rest into {d} equal piles.",
         "(a * b - c) / d", "How many dollars are in each pile?",
         "a * b - c", "How many dollars did {N} put into piles?"),
        ("{a} rows of {b} {plants} grew in a nursery. {c} of them died, and {d} gardeners shared the rest equally.",
         "(a * b - c) / d", "How many {plants} did each gardener get?",
         "a * b - c", "How many {plants} did not die?"),
        ("{a} {boxs} with {b} {foods} each were opened. {c} {foods} were bad, and the good ones went onto {d} plates evenly.",
         "(a * b - c) / d", "How many {foods} were on each plate?",
         "a * b - c", "How many {foods} were good?"),
        ("{N} must read {a} chapters of {b} pages. After {c} pages {he} plans to read the rest in {d} days.",
         "(a * b - c) / d", "How many pages a day will {N} read?",
         "a * b - c", "How many pages are the rest?"),
    ]),
    Family("chain_of_four", _four, owned=True, templates=[
        ("{N} had {a} {toys}. {he} got {b} from {M}, found {c}, and then lost {d}.",
         "a + b + c - d", "How many {toys} does {N} have now?",
         "b + c", "How many {toys} did {N} get and find?",
         "a + b + c", "How many {toys} did {N} have before losing any?"),
        ("A {vehicle} left with {a} {persons}. At the first stop {b} got on and at the second {c} got on. At the third {d} got off.",
         "a + b + c - d", "How many {persons} were on the {vehicle} after the third stop?",
         "b + c", "How many {persons} got on at the stops?"),
        ("{N} earned {a} dollars on {day}, {b} dollars on the second day and {c} dollars on the third. Then {he} bought a {ware} for {d} dollars.",
         "a + b + c - d", "How many dollars are left?",
         "a + b + c", "How many dollars did {N} earn in the three days?"),
        ("The farm has {a} {animals}, {b} {animals2} and {c} {animals3}. The farmer sells {d} of the {animals}.",
         "a + b + c - d", "How many animals stay on the farm?",
         "a - d", "How many {animals} stay on the farm?"),
        ("{N} planted {a} {plants}, {b} {plants2} and {c} {plants3}, but {d} of the {plants} were eaten by deer.",
         "a + b + c - d", "How many plants are left?",
         "a - d", "How many {plants} are left?"),
    ]),
    Family("sum_times_less", _sum_times_less, templates=[
        ("Each of {c} {boxs} has {a} {colour} and {b} {colour2} {toys} in it. {N} takes {d} {toys} out.",
         "(a + b) * c - d", "How many {toys} are left in the {boxs}?",
         "(a + b) * c", "How many {toys} were in the {boxs} before?"),
        ("{N} makes {a} {goods} before noon and {b} after noon on each of {c} days. {he} sells {d} of them.",
         "(a + b) * c - d", "How many {goods} does {N} keep?",
         "(a + b) * c", "How many {goods} did {N} make?"),
        ("{c} teams of {a} girls and {b} boys came to the camp. Later {d} children went home.",
         "(a + b) * c - d", "How many children stayed at the camp?",
         "(a + b) * c", "How many children came to the camp?"),
        ("{N} earns {a} dollars and {M} earns {b} dollars an hour. After {c} hours they spend {d} dollars together.",
         "(a + b) * c - d", "How many dollars do they have left?",
         "(a + b) * c", "How many dollars did they earn together?"),
        ("{a} {plants} and {b} {plants2} stand in every one of {c} beds. A storm breaks {d} of these plants.",
         "(a + b) * c - d", "How many plants are not broken?",
         "(a + b) * c", "How many plants stood in the beds before the storm?"),
    ]),
]  # fmt: skip

DISTRACTORS: list[Distractor] = [
    Distractor("{N} is {z} years old.", 7, 15, "start", "year"),
    Distractor("{P} has {z} {toys3}.", 2, 60, "end", "{toys3}"),
    Distractor("{P} has {z} {xs} of {his3} own.", 2, 90, "end", "{P}", owned=True),
    Distractor("It was {z} degrees warm that day.", 11, 35, "start", "degree"),
    Distractor("{N} lives {z} miles from the next town.", 2, 30, "start", "mile"),
    Distractor("{N} lives on a street with {z} houses.", 9, 80, "start", "house"),
    Distractor("{N} has known {M} for {z} weeks.", 3, 50, "start", "week"),
    Distractor("{P}, who was also there, had {z} {xs}.", 2, 90, "end", "there", owned=True),
    Distractor("This story happened {z} days ago.", 3, 30, "start", "day"),
    Distractor("{N}'s {relative2} is {z} years old.", 9, 70, "start", "year"),
    Distractor("The way there took {z} minutes.", 5, 90, "start", "minute"),
    Distractor("{N} weighs {z} pounds.", 50, 160, "start", "pound"),
    Distractor("{P} [owns|found|bought] {z} {toys3} and {his3} {relative2} has none.", 2, 60, "end", "{toys3}"),
    Distractor("There were {z} clouds in the sky.", 2, 20, "start", "cloud"),
    Distractor("{P} has a garden with {z} trees.", 2, 40, "end", "tree"),
    Distractor("{P} would like to have {z} {xs}.", 2, 90, "end", "{P}", owned=True),
    Distractor("[Last|The other] {day2} {N} slept for {z} hours.", 5, 11, "start", "hour"),
    Distractor("{N} is {z} inches tall.", 40, 75, "start", "inch"),
    Distractor("{P} got up {z} minutes too late.", 5, 60, "end", "minute"),
    Distractor("{P} also has a {box2} with {z} {xs} in it.", 2, 90, "end", "{box2}", owned=True),
    Distractor("{N} and {his} family live on floor {z}.", 2, 30, "start", "floor"),
    Distractor("{P} paid {z} euros for a {ware3}.", 2, 80, "end", "{ware3}"),
    Distractor("{P} once had {z} {xs}, but that was long ago.", 2, 90, "end", "{P}", owned=True),
    Distractor("The weather report spoke of {z} days of rain.", 2, 20, "start", "day"),
    Distractor("{N} went to bed {z} minutes after dinner.", 10, 90, "start", "minute"),
    Distractor("In the yard of {P} there are {z} {animals3}.", 2, 30, "end", "animal"),
]  # fmt: skip
