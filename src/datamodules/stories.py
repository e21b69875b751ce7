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
    *((name, _SHE) for name in (
        "Ada Alma Amina Anika Bella Carla Chloe Clara Daria Elena Elif Emma Fatima Freya Greta Hana "
        "Helga Ines Ingrid Iris Jana Julia Kavya Leila Lena Lina Lucia Maja Mei Mira Nadia Nora "
        "Olga Paula Priya Rosa Ruth Sana Selma Sofia Tara Thea Vera Wanda Yara Zoe"
    ).split()),
    *((name, _HE) for name in (
        "Adam Ahmed Akira Anton Arne Ben Boris Carlos Dario Diego Emil Enzo Erik Felix Finn Goran "
        "Hassan Hugo Igor Ivan Jonas Kofi Lars Leo Liam Luca Marco Mateo Milo Nico Noah Omar Oscar "
        "Pablo Pedro Rafael Ravi Samir Sven Tariq Theo Tomas Viktor Walter Yusuf Zeno"
    ).split()),
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
    "day": [(day,) for day in "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()],
    "month": [(m,) for m in "January March April May June July August September October".split()],
    "colour": [(c,) for c in "red blue green yellow white purple orange black silver".split()],
    "relative": [(r,) for r in "brother sister cousin uncle aunt neighbor friend teacher".split()],
    "shop": _nouns("shop, bakery:bakeries, store, kiosk, market stall, bookshop, supermarket"),
    "vehicle": _nouns("bus:buses, van, train, ferry:ferries, boat, truck"),
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
        ("{N} [baked|bought|brought home] {a} {foods}. {his} family ate {b} of them.",
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
        ("{b} {persons} got on the {vehicle} at the harbor. From there it carried {a} {persons}.",
         "a - b", "How many {persons} were on the {vehicle} when it reached the harbor?"),
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
]  # fmt: skip

DISTRACTORS: list[Distractor] = [
    Distractor("{N} is {z} years old.", 7, 15, "start", "year"),
    Distractor("{P} has {z} {toys3}.", 2, 60, "end", "{toys3}"),
    Distractor("{P} has {z} {xs} of {his3} own.", 2, 90, "end", "{P}", owned=True),
    Distractor("It was {z} degrees warm that day.", 11, 35, "start", "degree"),
    Distractor("{N} lives {z} miles from there.", 2, 30, "start", "mile"),
    Distractor("{N} lives on a street with {z} houses.", 9, 80, "start", "house"),
    Distractor("{N} has known {M} for {z} weeks.", 3, 50, "start", "week"),
    Distractor("{P}, who was also there, had {z} {xs}.", 2, 90, "end", "there", owned=True),
    Distractor("This story happened {z} days ago.", 3, 30, "start", "day"),
    Distractor("{N}'s {relative} is {z} years old.", 9, 70, "start", "year"),
]
