"""The challenge set: each rule keeps the text and the equation in agreement."""

import random
from fractions import Fraction
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from src.algorithms.answers import evaluate_expression
from src.datamodules import challenge
from src.datamodules.challenge import (
    ChallengedProblems,
    _distract,
    _tell_of,
    challenge_problems,
    held_out,
    without,
)
from src.datamodules.readers import Problem

ROWS = [
    (
        "Ann had 12 apples. She gave 5 apples to Bo.",
        "How many apples does Ann have left?",
        "12-5=7",
    ),
    (
        "There were 9 girls and 4 boys in the park.",
        "How many children were there in all?",
        "9+4=13",
    ),
    ("Tim has 8 balls. Ron has 3 balls.", "How many more balls does Tim have than Ron?", "8-3=5"),
    ("A box holds 6 pens.", "How many pens are in 7 boxes?", "6*7=42"),
]


@pytest.fixture
def asdiv(tmp_path: Path) -> Path:
    rows = "".join(
        f'<Problem ID="x-{i}" Grade="1"><Body>{escape(body)}</Body><Question>{question}</Question>'
        f"<Solution-Type>Addition</Solution-Type><Answer>{formula.split('=')[1]} (things)</Answer>"
        f"<Formula>{formula}</Formula></Problem>"
        for i, (body, question, formula) in enumerate(ROWS)
    )
    path = tmp_path / "ASDiv.xml"
    path.write_text(
        f"<Machine-Reading-Corpus-File><ProblemSet>{rows}</ProblemSet></Machine-Reading-Corpus-File>",
        encoding="utf-8",
    )
    return path


def _by_rule(asdiv: Path) -> dict[tuple[str, str], Problem]:
    return {(p.meta["id"], p.meta["variation"]): p for p in challenge_problems(str(asdiv), seed=0)}


def test_equation_text_and_answer_agree(asdiv: Path) -> None:
    problems = challenge_problems(str(asdiv))
    assert {p.meta["category"] for p in problems} == {
        "original", "question", "reasoning", "structure",
    }  # fmt: skip
    for problem in problems:
        assert problem.equation is not None
        assert evaluate_expression(problem.equation, problem.numbers) == problem.answer
        order = [problem.masked.index(f"number{i}") for i in range(len(problem.numbers))]
        assert order == sorted(order), problem.masked


def test_what_was_told_is_asked(asdiv: Path) -> None:
    problem = _by_rule(asdiv)["x-0", "inverted operation"]
    assert problem.question == (
        "Ann had some apples. She gave 5 apples to Bo. Now Ann has 7 apples. "
        "How many apples did Ann have at first?"
    )
    assert (problem.equation, problem.answer) == ("number0 + number1", Fraction(12))


def test_a_further_event_adds_an_operation(asdiv: Path) -> None:
    problem = _by_rule(asdiv)["x-0", "further event"]
    assert problem.equation is not None
    assert problem.equation.count("number") == 3
    assert problem.question.endswith("How many apples does Ann have now?")


def test_totals_and_differences_are_exchanged(asdiv: Path) -> None:
    rules = _by_rule(asdiv)
    assert rules["x-1", "other question"].question.endswith(
        "How many more girls than boys were there?"
    )
    assert rules["x-1", "other question"].answer == 5
    assert rules["x-2", "other question"].question.endswith("do Tim and Ron have altogether?")
    assert rules["x-2", "other question"].answer == 11


def test_an_irrelevant_quantity_changes_the_text_only(asdiv: Path) -> None:
    problem = _by_rule(asdiv)["x-0", "irrelevant quantity"]
    assert len(problem.numbers) == 3
    assert problem.answer == 7


def test_held_out_problems_and_their_kin_leave_the_training_set(asdiv: Path) -> None:
    kept_out = held_out(str(asdiv))
    assert {"x-0", "x-1", "x-2"} <= {p.meta["id"] for p in kept_out}
    near = [p for p in kept_out if p.meta["id"] == "x-0"]
    assert without(near, kept_out) == []
    assert without(near, [p for p in kept_out if p.meta["id"] == "x-1"]) == near


class _Words:
    pad_token_id = 0

    def __call__(self, texts: list[str]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[len(w) for w in text.split()] for text in texts]}


def test_generated_and_distracted_problems_join_training_alone(
    tmp_path: Path, asdiv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = tmp_path / "train.csv"
    lines = ["Question,Numbers,Equation,Answer"]
    lines += [
        f'"Kim has number0 {noun} . Lee gave Kim number1 {noun} . How many {noun} has Kim ?",'
        "2 3,+ number0 number1,5.0"
        for noun in ("kites", "drums", "owls", "hats", "keys", "rings")
    ]
    train.write_text("\n".join(lines), encoding="utf-8")
    data = ChallengedProblems(
        _Words(), source="mawps_asdiv", train=str(train), mask_numbers=True, val_fraction=0.2,
        challenge=str(asdiv), num_generated=11, num_procedural=7, num_distracted=4, num_tales=6,
        num_bindings=3, retold=True, num_doubled=5,
    )  # fmt: skip
    retold = []
    tell = challenge.retell_tale
    monkeypatch.setattr(
        challenge, "retell_tale", lambda rng: retold.append(tell(rng)) or retold[-1]
    )
    data.setup("fit")
    data.setup("test")
    sources = [p.meta["source"] for p in data.problems["train"]]
    assert sources.count("worlds") == 11
    assert sources.count("procedural") == 7
    assert sources.count("tales") == len(retold) == 6
    assert sources.count("bindings") == 3
    doubled = [p for p in data.problems["train"] if p.meta["source"] == "doubled"]
    assert all(len(p.numbers) == 4 for p in doubled), "two of each of two things"
    assert len(doubled) == 5
    assert len(sources) == 5 + 4 + 11 + 7 + 6 + 3 + 5
    assert all(p.meta["source"] == "mawps_asdiv" for p in data.problems["val"])
    assert {p.meta["category"] for p in data.problems["test"]} >= {"reasoning", "structure"}


def test_a_validation_file_of_ones_own_is_freed_of_the_challenge_too(
    tmp_path: Path, asdiv: Path
) -> None:
    split = tmp_path / "split.csv"
    near = held_out(str(asdiv))[0]
    lines = [
        "Question,Numbers,Equation,Answer",
        f'"{near.masked}",2 3,+ number0 number1,5.0',
        '"Kim has number0 owls . Lee gave Kim number1 owls . How many owls has Kim ?",2 3,'
        "+ number0 number1,5.0",
    ]
    split.write_text("\n".join(lines), encoding="utf-8")
    data = ChallengedProblems(
        _Words(), source="mawps_asdiv", train=str(split), val=str(split), mask_numbers=True,
        challenge=str(asdiv),
    )  # fmt: skip
    data.setup("fit")
    for name in ("train", "val"):
        [left] = data.problems[name]
        assert "owls" in left.masked
        assert data.num_left_out[f"{name}/near_challenge"] == 1
    backwards = ChallengedProblems(
        _Words(), source="mawps_asdiv", train=str(split), val=str(split), mask_numbers=True,
        challenge=str(asdiv),
    )  # fmt: skip
    backwards.load("val")
    backwards.load("train")
    assert backwards.num_left_out == data.num_left_out


@pytest.mark.parametrize("name", ["num_distracted", "num_doubled"])
def test_copies_of_problems_that_have_no_place_for_them_are_refused(
    name: str, tmp_path: Path
) -> None:
    train = tmp_path / "train.csv"
    row = '"How many are number0 and number1 ?",2 3,+ number0 number1,5.0'
    train.write_text("\n".join(["Question,Numbers,Equation,Answer", row]), encoding="utf-8")
    data = ChallengedProblems(
        _Words(), source="mawps_asdiv", train=str(train), val=str(train), mask_numbers=True,
        **{name: 2},
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"{name}=0"):
        data.setup("fit")


@pytest.mark.parametrize(
    "name", ["num_generated", "num_procedural", "num_distracted", "num_bindings", "num_doubled"]
)
def test_negative_counts_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ChallengedProblems(_Words(), **{name: -1})


def _problem(masked: str, numbers: tuple[str, ...], equation: str, answer: int) -> Problem:
    return Problem(masked, masked, numbers, equation, None, Fraction(answer), {"source": "test"})


def test_nothing_is_put_between_a_title_and_its_name() -> None:
    own = _problem(
        "Mrs. Hilt saw number0 bees. Then Mr. Lee came. number1 bees flew off. How many are left?",
        ("7", "3"), "number0 - number1", 4,
    )  # fmt: skip
    seen = set()
    for seed in range(60):
        made = _distract(own, random.Random(seed), "irrelevant quantity")
        assert made is not None
        assert "Mrs. Hilt saw" in made.masked
        assert "Then Mr. Lee came." in made.masked
        seen.add(made.masked.index("number1" if "number1 bees" not in made.masked else "number2"))
    assert len(seen) > 2
    whole = _problem("Mrs. Hilt has number0 bees?", ("7",), "number0 + 0", 7)
    assert _distract(whole, random.Random(0), "irrelevant quantity") is None


def test_a_foreign_sentence_brings_its_number_and_changes_nothing_else() -> None:
    own = _problem(
        "Mrs. Hilt saw number0 bees. number1 bees flew off. How many bees are left?",
        ("7", "3"), "number0 - number1", 4,
    )  # fmt: skip
    other = _problem(
        "Each shelf holds number0 jars. He breaks number1 of them. How many jars are left?",
        ("90", "6"), "number0 - number1", 84,
    )  # fmt: skip
    seen = set()
    for seed in range(30):
        made = _tell_of(own, other, random.Random(seed))
        assert made is not None
        seen.add(made.masked)
        assert made.answer == 4
        assert evaluate_expression(made.equation or "", made.numbers) == 4
        assert sorted(made.numbers) == ["3", "7", "90"], (
            "a sentence that leans on another stays out"
        )
        assert "Mrs. Hilt saw" in made.masked
        assert made.masked.endswith("How many bees are left?")
    assert len(seen) == 3
    kin = _problem(
        "Hilt put number0 bees into jars. How many jars are there?", ("5",), "number0 - 1", 4
    )
    assert _tell_of(own, kin, random.Random(0)) is None, "it speaks of the same things"
