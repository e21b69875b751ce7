"""Readers of the published forms, on small files made here in these forms."""

from __future__ import annotations

import json
import logging
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from src.algorithms.answers import evaluate_expression, extract_answer
from src.datamodules.readers import (
    ROUNDED,
    DataError,
    locate,
    mask_equation,
    mask_numbers,
    read,
    read_file,
    read_gsm_symbolic,
    unmask,
    worked_steps,
)

GSM8K = [
    {
        "question": "Ann buys 3 pens at $1.50 each and 2 books at $4 each. What does she pay?",
        "answer": "Pens cost 3*1.5=<<3*1.5=4.5>>4.5.\nBooks cost 2*4=<<2*4=8>>8.\n"
        "She pays 4.5+8=$<<4.5+8=12.5>>12.5.\n#### 12.5",
    },
    {"question": "A crate holds 1,200 nuts. Half are eaten. How many are left?",
     "answer": "1200/2=<<1200/2=600>>600 are left.\n#### 600"},
    {"question": "Bo has 5 cats. How many cats has Bo?", "answer": "Bo has five.\n#### 5"},
]  # fmt: skip
SVAMP = [
    {"ID": "x-1", "Body": "A shelf has 12 cups and 5 jars", "Question": "how many cups are there?",
     "Equation": "12.0", "Answer": 12.0, "Type": "Addition"},
    {"ID": "x-2", "Body": "Kim had 9 kites. He lost 4 of them.", "Question": "How many are left?",
     "Equation": "( 9.0 - 4.0 )", "Answer": 5.0, "Type": "Subtraction"},
    {"ID": "x-3", "Body": "Each of 7 bags costs 20 dollars.",
     "Question": "How many cents do all cost?",
     "Equation": "( ( 7.0 * 20.0 ) * 100.0 )", "Answer": 14000.0, "Type": "Multiplication"},
]  # fmt: skip
CSV = """Question,Numbers,Equation,Answer,group_nums,Body,Ques
"Tim has number0 pens , Al number1 . How many do n't they lack ?",3.0 4,+ number0 number1,7.0,,b,q
number0 apples are put into bags of number1 . How many bags ?,20 3.0,/ number0 number1,6.667,[],b,q
There are number0 cents in a bag of number1 dollars .,50 2.5,- * number1 100.0 number0,200.0,[],b,q
"""
XML = """<?xml version="1.0" encoding="UTF-8" ?>
<Machine-Reading-Corpus-File>
<ProblemSet>
 <Problem ID="a1" Grade="1" Source="s">
  <Body>Seven red kites and 2 green kites fly.</Body>
  <Question>How many kites fly?</Question>
  <Solution-Type>Addition</Solution-Type>
  <Answer>9 (kites)</Answer>
  <Formula>7+2=9</Formula>
 </Problem>
 <Problem ID="a2" Grade="2" Source="s">
  <Body>One boat takes 4 people.</Body><Question>How many boats for 10 people?</Question>
  <Solution-Type>Ceil-Division</Solution-Type><Answer>3 (boats)</Answer>
  <Formula>10/4=2 r2</Formula>
 </Problem>
 <Problem ID="a3" Grade="2" Source="s">
  <Body>6 boys and 4 girls.</Body><Question>What is the ratio?</Question>
  <Solution-Type>Ratio</Solution-Type><Answer>3:2</Answer><Formula>6:4=3:2</Formula>
 </Problem>
 <Problem ID="a4" Grade="2" Source="s">
  <Body>2 rows of 5 pots.</Body><Question>How many pots?</Question>
  <Solution-Type>Multiplication</Solution-Type><Answer>1,000 (pots)</Answer>
  <Formula>(200*5)=1,000</Formula>
 </Problem>
 <Problem ID="a5" Grade="3" Source="s">
  <Body>Lea has 3 dimes and 4 cents and spends 9 cents.</Body><Question>What is left?</Question>
  <Solution-Type>Sum</Solution-Type><Answer>25 (cents)</Answer>
  <Formula>3 (dime)*10 (cent/dime) = 30 (cent); 30+4=34; 34-9=25</Formula>
 </Problem>
</ProblemSet>
</Machine-Reading-Corpus-File>
"""


def _write(path, form):
    if form == "jsonl":
        text = "\n".join(json.dumps(row) for row in GSM8K) + "\n"
    elif form == "json":
        text = json.dumps(SVAMP, indent=1)
    else:
        text = {"csv": CSV, "xml": XML}[form]
    path.write_text(text, encoding="utf-8")
    return path


def test_gsm8k(tmp_path):
    problems, report = read_file(_write(tmp_path / "train.jsonl", "jsonl"))
    assert [problem.answer for problem in problems] == [Fraction("12.5"), 600, 5]
    first, second, third = problems
    assert first.numbers == ("3", "1.5", "2", "4")
    assert first.masked == (
        "Ann buys number0 pens at $number1 each and number2 books at $number3 each. "
        "What does she pay?"
    )
    assert first.equation == "number0 * number1 + number2 * number3"
    assert second.numbers == ("1200",)
    assert second.equation == "number0 / 2"
    assert third.equation is None
    assert all(extract_answer(p.rationale) == p.answer and p.tolerance == 0 for p in problems)
    assert (report.read, report.bad_rows, report.equation_differs) == (3, 0, 0)


def test_svamp(tmp_path):
    problems, _ = read_file(_write(tmp_path / "SVAMP.json", "json"))
    assert problems[0].question == "A shelf has 12 cups and 5 jars, how many cups are there?"
    assert problems[0].equation == "number0"
    assert problems[1].question == "Kim had 9 kites. He lost 4 of them. How many are left?"
    assert problems[1].equation == "number0 - number1"
    assert problems[2].equation == "number0 * number1 * 100"
    assert problems[2].meta["id"] == "x-3"
    assert {problem.tolerance for problem in problems} == {ROUNDED}


def test_masked_csv(tmp_path):
    problems, report = read_file(_write(tmp_path / "train.csv", "csv"))
    first, second, third = problems
    assert first.masked == "Tim has number0 pens, Al number1. How many don't they lack?"
    assert first.question == "Tim has 3 pens, Al 4. How many don't they lack?"
    assert first.equation == "number0 + number1"
    assert second.answer == Fraction("6.667")
    assert third.equation == "number1 * 100 - number0"
    assert third.numbers == ("50", "2.5")
    assert report.equation_differs == 0  # 20 / 3 is within the tolerance of 6.667


def test_asdiv(tmp_path):
    problems, report = read_file(_write(tmp_path / "ASDiv.xml", "xml"))
    assert [problem.meta["id"] for problem in problems] == ["a1", "a4", "a5"]
    assert problems[0].masked.startswith("number0 red kites and number1 green kites")
    assert problems[0].equation == "number0 + number1"
    assert problems[0].numbers == ("7", "2")
    assert problems[1].answer == 1000
    assert problems[1].equation == "200 * number1"
    assert problems[2].equation == "number0 * 10 + number1 - number2"
    assert report.left_out == {"Ceil-Division": 1, "Ratio": 1}
    assert "1 Ratio" in report.describe()


@pytest.mark.parametrize(
    ("name", "form", "old", "new", "line", "field"),
    [
        ("t.jsonl", "jsonl", "#### 600", "#### many", 2, "answer"),
        ("t.jsonl", "jsonl", "#### 600", "600", 2, "answer"),
        ("t.jsonl", "jsonl", '{"question": "A crate', '{"question" "A crate', 2, "row"),
        ("t.jsonl", "jsonl", '"question": "A crate', '"q": "A crate', 2, "question"),
        ("t.json", "json", '"( 9.0 - 4.0 )"', '"( 9.0 - "', 10, "Equation"),
        ("t.json", "json", '"Answer": 5.0', '"Answer": "five"', 10, "Answer"),
        ("t.json", "json", '"Body": "Kim', '"Bdy": "Kim', 10, "Body"),
        ("t.json", "json", '"( 9.0 - 4.0 )"', '"( 9.0 / 0.0 )"', 10, "Equation"),
        ("t.json", "json", '"( 9.0 - 4.0 )"', '"( 9.0 - number7 )"', 10, "Equation"),
        ("t.csv", "csv", "/ number0 number1", "/ number0 number7", 3, "Equation"),
        ("t.csv", "csv", "/ number0 number1", "/ number0", 3, "Equation"),
        ("t.csv", "csv", "20 3.0", "20", 3, "Numbers"),
        ("t.csv", "csv", "20 3.0", "20 x", 3, "Numbers"),
        ("t.csv", "csv", "6.667", "", 3, "Answer"),
        ("t.xml", "xml", "<Formula>(200*5)=1,000</Formula>", "", 20, "Formula"),
        ("t.xml", "xml", "<Answer>1,000", "<Answer>1/0", 20, "Answer"),
    ],
)
def test_malformed_row_names_file_line_and_field(
    tmp_path, caplog, name, form, old, new, line, field
):
    path = _write(tmp_path / name, form)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError) as caught:
        read_file(path)
    assert f"{path}, line {line}, field {field}" in str(caught.value)
    assert "on_bad_row=skip" in str(caught.value)

    whole, _ = read_file(_write(tmp_path / f"whole.{form}", form))
    with caplog.at_level(logging.WARNING):
        problems, report = read_file(path, on_bad_row="skip")
    assert report.bad_rows == 1
    assert len(problems) == len(whole) - 1
    assert f"line {line}" in caplog.text


@pytest.mark.parametrize(
    ("name", "publisher"),
    [
        ("none/train.jsonl", "grade-school-math"),
        ("none/SVAMP.json", "arkilpatel/SVAMP"),
        ("none/train.csv", "arkilpatel/SVAMP"),
        ("none/ASDiv.xml", "nlu-asdiv-dataset"),
    ],
)
def test_missing_path_names_it_and_its_publisher(tmp_path, name, publisher):
    path = tmp_path / name
    with pytest.raises(FileNotFoundError, match=publisher) as caught:
        read(str(path), "train")
    assert str(path) in str(caught.value)


def test_files_that_are_not_data_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"suffix '\.txt'"):
        read_file(tmp_path / "a.txt")
    (tmp_path / "a.csv").write_text("Question,Answer\nx,1\n")
    with pytest.raises(DataError, match="no column Equation, Numbers"):
        read_file(tmp_path / "a.csv")
    (tmp_path / "a.json").write_text('[{"ID": 1},\n {"ID" 2}]')
    with pytest.raises(DataError, match="line 1"):
        read_file(tmp_path / "a.json")
    (tmp_path / "b.json").write_text('[\n{"ID" 2}]')
    with pytest.raises(DataError, match="line 2: not valid JSON"):
        read_file(tmp_path / "b.json", on_bad_row="skip")
    (tmp_path / "a.xml").write_text("<a><b></a>")
    with pytest.raises(DataError, match="line 1: not valid XML"):
        read_file(tmp_path / "a.xml")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no usable problem"):
        read_file(tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match="error or skip"):
        read_file(tmp_path / "empty.jsonl", on_bad_row="ignore")


def test_json_lines_under_the_name_json_are_read(tmp_path):
    path = tmp_path / "test.json"
    path.write_text("\n".join(json.dumps(row) for row in SVAMP))
    assert len(read_file(path)[0]) == 3


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "xml"])
def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path, form):
    path = _write(tmp_path / f"t.{form}", form)
    plain, _ = read_file(path)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_file(path)[0] == plain


def test_a_comment_is_no_problem(tmp_path):
    path = _write(tmp_path / "t.xml", "xml")
    plain, _ = read_file(path)
    path.write_text(path.read_text().replace("<Problem", "<!-- <Problem\n> -->\n<Problem", 1))
    assert read_file(path)[0] == plain
    path.write_text(path.read_text().replace("<Formula>(200*5)=1,000</Formula>", ""))
    with pytest.raises(DataError, match="line 22, field Formula"):
        read_file(path)


def test_a_split_that_the_hub_has_not_is_refused():
    with pytest.raises(DataError, match=r"publishes no split val: leave data\.val out"):
        locate("openai/gsm8k", "val", "gsm8k")


def test_folder_gives_the_file_of_the_split(tmp_path):
    train = _write(tmp_path / "only.csv", "csv")
    assert locate(str(tmp_path), "test") == [train]
    train = train.rename(tmp_path / "train.csv")
    with pytest.raises(DataError, match=r"1 data file \(train\.csv\) and none named after .* test"):
        locate(str(tmp_path), "test")
    dev = _write(tmp_path / "dev.csv", "csv")
    assert locate(str(tmp_path), "train") == [train]
    assert locate(str(tmp_path), "val") == [dev]
    train.rename(tmp_path / "other.csv")
    with pytest.raises(DataError, match=r"dev\.csv, other\.csv"):
        locate(str(tmp_path), "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no data file"):
        locate(str(tmp_path / "empty"), "train")


def test_hub_out_of_reach_is_one_sentence(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="data=procedural") as caught:
        read("openai/gsm8k", "test", "gsm8k")
    assert "grade-school-math" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_optional_extra_that_is_missing_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(DataError, match="pip install reasoning-gym"):
        read_gsm_symbolic(3, 0)


def test_optional_extra_is_read(monkeypatch):
    class Fake:
        @staticmethod
        def create_dataset(name, size, seed):
            assert (name, seed) == ("gsm_symbolic", 5)
            question = "Al has 4 nuts and 3 figs. How many? Give the result as your final answer."
            return [{"question": question, "answer": "7"}] * size

    monkeypatch.setitem(sys.modules, "reasoning_gym", Fake)
    problems = read_gsm_symbolic(2, 5)
    assert [problem.answer for problem in problems] == [7, 7]
    assert problems[0].question == "Al has 4 nuts and 3 figs. How many?"


def test_masking_and_unmasking():
    text = "Seven boys and one girl share 3 1/2 pies, $2.50 and 1,000 nuts on the 2nd day."
    masked, numbers = mask_numbers(text)
    assert masked == (
        "number0 boys and one girl share number1 pies, $number2 and number3 nuts on the 2nd day."
    )
    assert numbers == ("7", "3.5", "2.5", "1000")
    assert unmask(masked, numbers) == (
        "7 boys and one girl share 3.5 pies, $2.5 and 1000 nuts on the 2nd day."
    )


def test_equal_numbers_are_used_in_turn():
    from src.algorithms.answers import parse_infix, to_infix

    tree = parse_infix("5 * 5 + 5 - 100")
    assert to_infix(mask_equation(tree, ("5", "2", "5"))) == "number0 * number2 + number0 - 100"


def test_worked_steps_follow_gsm8k():
    steps = worked_steps("( number0 - number1 ) / number2", ("12", "2", "4"))
    assert steps == "12 - 2 = <<12-2=10>>10\n10 / 4 = <<10/4=2.5>>2.5\n#### 2.5"
    assert extract_answer(steps) == Fraction("2.5")
    third = worked_steps("number0 / number1 * number0", ("1", "3"))
    assert extract_answer(third) == evaluate_expression("1/3") == Fraction(1, 3)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".xml"])
def test_binary_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=rf"data\{suffix} is no UTF-8 text"):
        read_file(path)


def test_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no data file"):
        locate(str(tmp_path), "train")
