"""Exact arithmetic on text and the rules that find an answer in a model's output."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.algorithms import answers
from src.algorithms.answers import (
    ExpressionError,
    answers_match,
    evaluate,
    evaluate_expression,
    extract_answer,
    find_numbers,
    format_number,
    most_plausible,
    parse_infix,
    parse_output,
    parse_prefix,
    skeleton,
    substitute,
    to_fraction,
    to_infix,
    to_prefix,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("8 - 3 - 2", "3"),
        ("8 / 4 / 2", "1"),
        ("8 / (4 / 2)", "4"),
        ("2 ^ 3 ^ 2", "512"),
        ("2 ** 3", "8"),
        ("-2 ^ 2", "-4"),
        ("2 ^ -2", "1/4"),
        ("--3", "3"),
        ("5 - -3", "8"),
        ("25% * 80", "20"),
        ("1,234.50 + 1", "2471/2"),
        (".5 * 4", "2"),
        ("12.0 * 3.", "36"),
        ("1e3 / 4", "250"),
        ("3 x 4 × 5 ÷ 2", "30"),
        ("$5 + $2", "7"),
        ("number0 - n1", "7"),
        ("0.1 + 0.2", "3/10"),
        ("1 / 3 * 3", "1"),
    ],
)
def test_expression_has_its_exact_value(text, expected):
    assert evaluate_expression(text, ("10", "3")) == Fraction(expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / 0", "division by zero"),
        ("0 ^ -1", "division by zero"),
        ("5 / (2 - 2)", "division by zero"),
        ("", "ends where"),
        ("1 +", "ends where"),
        ("1 2", "unexpected"),
        ("* 1 2", "stands where"),
        ("(1 + 2", "not closed"),
        ("1 + 2)", "unexpected"),
        ("import os", "unknown token"),
        ("__import__('os')", "unknown token"),
        ("1 if 2 else 3", "unknown token"),
        ("number7", "not among the 2 numbers"),
        ("1" * 41, "digits"),
        ("1 + " * 64 + "1", "operands"),
        ("1" + " " * 600, "characters"),
        ("(" * 40 + "1" + ")" * 40, "deep"),
        ("2 ^ 65", "exponent"),
        ("2 ^ 0.5", "exponent"),
        ("9 ^ 9 ^ 9", "exponent"),
        ("(9 ^ 64) ^ 64", "bits"),
        ("1e99", "exponent"),
    ],
)
def test_bad_expression_is_refused_with_its_reason(text, reason):
    with pytest.raises(ExpressionError, match=reason):
        evaluate_expression(text, ("10", "3"))


@pytest.mark.parametrize(
    ("prefix", "infix"),
    [
        ("* number0 number1", "number0 * number1"),
        ("- number0 * number1 number2", "number0 - number1 * number2"),
        ("/ - number0 number1 number2", "( number0 - number1 ) / number2"),
        ("- number0 - number1 number2", "number0 - ( number1 - number2 )"),
        ("- - number0 number1 number2", "number0 - number1 - number2"),
        ("/ number0 * number1 2.0", "number0 / ( number1 * 2.0 )"),
        ("* / number0 number1 100.0", "number0 / number1 * 100.0"),
        ("* number0 / number1 4", "number0 * ( number1 / 4 )"),
        ("+ number0 + number1 number2", "number0 + number1 + number2"),
        ("^ ^ 2 3 2", "( 2 ^ 3 ) ^ 2"),
    ],
)
def test_prefix_and_infix_convert(prefix, infix):
    assert to_infix(parse_prefix(prefix)) == infix
    numbers = ("7", "3", "5")
    assert evaluate_expression(infix, numbers) == evaluate(parse_prefix(prefix), numbers)


@pytest.mark.parametrize("text", ["+ 1", "1 2", "( + 1 2 )", "", "+ 1 2 3"])
def test_malformed_prefix_is_refused(text):
    with pytest.raises(ExpressionError):
        parse_prefix(text)


_LEAVES = st.sampled_from(["number0", "number1", "3", "2.5", "100"])
_TREES = st.recursive(
    _LEAVES, lambda sub: st.tuples(st.sampled_from("+-*/"), sub, sub), max_leaves=12
)


@given(_TREES)
@settings(max_examples=300, deadline=None)
def test_trees_survive_writing_and_reading(tree):
    assert parse_prefix(to_prefix(tree)) == tree
    numbers = ("12", "7")

    def value(node):
        try:
            return evaluate(node, numbers)
        except ExpressionError as error:
            return str(error)

    # a + (b + c) is written without parentheses, so only the value must survive infix.
    assert value(parse_infix(to_infix(tree))) == value(tree)
    assert evaluate_or_none(to_prefix(parse_infix(to_infix(tree))), numbers) == evaluate_or_none(
        to_prefix(tree), numbers
    )


def evaluate_or_none(prefix, numbers):
    try:
        return evaluate(parse_prefix(prefix), numbers)
    except ExpressionError:
        return None


@given(st.text(alphabet="0123456789+-*/^().,% nx=e", max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_text_evaluates_or_raises_expression_error(text):
    with contextlib.suppress(ExpressionError):
        assert isinstance(evaluate_expression(text, ("1", "2")), Fraction)
    for target in answers.TARGETS:
        value = parse_output(text, target, ("1", "2"))
        assert value is None or isinstance(value, Fraction)


def test_substitute_keeps_fractions_and_signs_apart():
    tree = substitute(parse_infix("number0 / number1 - number2"), ("6", "3/4", "-2"))
    assert to_infix(tree) == "6 / ( 3 / 4 ) - ( 0 - 2 )"
    assert evaluate(tree) == 10
    assert evaluate(parse_prefix(to_prefix(tree))) == 10


def test_skeleton_forgets_operands():
    assert skeleton(parse_infix("(number0 - 4) * number1")) == "* - n n n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("5", "5"),
        ("-5/2", "-2.5"),
        ("1/3", "1/3"),
        ("1/8", "0.125"),
        ("1234", "1234"),
        ("1/20", "0.05"),
    ],
)
def test_format_number_is_exact(value, text):
    assert format_number(Fraction(value)) == text
    assert to_fraction(text) == Fraction(value)


# Each rule of the extraction with its cases.
EXTRACTION = [
    # the four hashes of GSM8K
    ("#### 72", "72"),
    ("He has 3 + 4 = <<3+4=7>>7 apples.\n#### 7", "7"),
    ("#### 1,234", "1234"),
    ("#### -3", "-3"),
    ("#### $18", "18"),
    ("first #### 5 then #### 6", "6"),
    # LaTeX box
    (r"So we get \boxed{42}.", "42"),
    (r"\boxed{\frac{3}{4}}", "3/4"),
    (r"\boxed{12\%}", "12"),
    # "the answer is"
    ("The answer is 1,234.50 dollars.", "2469/2"),
    ("The answer is 7. Then 12 people left.", "7"),
    ("There are 3 boxes of 4. The final answer is: 12", "12"),
    ("Answer: 12", "12"),
    ("**Answer:** **12** apples", "12"),
    ("The answer is 12 + 3 = 15.", "15"),
    ("The answer is 12 + 3.", "15"),
    ("The answer is 3/4.", "3/4"),
    ("The answer is about 2.5 km.", "5/2"),
    ("The answer is $5.", "5"),
    ("The answer is: $-5", "-5"),
    ("The answer is - 5 degrees", "-5"),
    ("The answer is 5 feet 6 inches", "5"),
    ("The answer is seven.", "7"),
    ("The answer is twenty-one pencils.", "21"),
    ("The answer to the question is 9 of the 12.", "9"),
    ("The answer is 4. No, wait. The answer is 5.", "5"),
    ("Answer: Tom had 5, got 3, so 8 apples.", "8"),
    ("The answer is unclear, but 5 + 4 = 9", "9"),
    # behind the last equals sign
    ("= 3/4", "3/4"),
    ("x = 5", "5"),
    ("5 + 3 = 8 apples, which 2 friends share", "8"),
    ("5 + 3 = 8\n8 * 2 = 16", "16"),
    ("x = 5 + 3", "8"),
    ("total = -12", "-12"),
    ("total = - 12", "-12"),
    ("5 * 2 = $10", "10"),
    ("20 / 80 = 25%", "25"),
    ("2 + 2 = 4 =", "4"),
    # the last number
    ("Tom has 5 apples and 7 pears", "7"),
    ("It costs 1,234.5 dollars", "2469/2"),
    ("He needs 12cm of tape", "12"),
    ("That makes 20%.", "20"),
    ("It fell to -4 degrees", "-4"),
    ("It fell to −4 degrees", "-4"),
    ("pages 10-15", "15"),
    ("about 1.5e3 grams", "1500"),
    ("about 1.2 x 10^3 grams", "1200"),
    ("about 1.2 × 10⁻³ grams", "3/2500"),
    ("roughly 2 1/2 cups", "5/2"),
    ("roughly 2½ cups", "5/2"),
    ("3 / 4 of a cake", "3/4"),
    ("1, 2, 3", "3"),
    ("He got 4 on the 5th floor", "4"),
    ("the price is €30", "30"),
    ("she has seven left", "7"),
    ("two hundred and five", "205"),
    ("three thousand four hundred", "3400"),
    ("one hundred thousand", "100000"),
    ("two million five hundred thousand and six", "2500006"),
    ("The answer is 2**3", "8"),
    ("Answer: 1.2 x 10**3", "1200"),
    ("**The answer is 12**", "12"),
    # none
    ("", None),
    ("I do not know.", None),
    ("number0 - number1", None),
    ("No one knows the tenth.", None),
    ("1/0", "1"),
]


@pytest.mark.parametrize(("text", "expected"), EXTRACTION)
def test_extraction_rule(text, expected):
    assert extract_answer(text) == (None if expected is None else Fraction(expected))


def test_number_spans_cover_what_they_say():
    text = "Seven boys bought 3 1/2 kg at $1,200.5 on the 5th of 10-12."
    found = [(text[s.start : s.end], s.value) for s in find_numbers(text, words=True)]
    assert found == [
        ("Seven", 7),
        ("3 1/2", Fraction(7, 2)),
        ("$1,200.5", Fraction(2401, 2)),
        ("10", 10),
        ("12", 12),
    ]


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("number0 - number1", "equation", "6"),
        ("- number0 number1", "equation", "6"),
        ("x = number0 / number1", "equation", "5/2"),
        ("10 - 4 = 6", "equation", "6"),
        ("10 - 4.", "equation", "6"),
        ("number0 / (number1 - 4)", "equation", None),
        ("number0 + number2", "equation", None),
        ("number0 number1", "equation", None),
        ("", "equation", None),
        ("+".join(["number0"] * 200), "equation", None),
        ("7", "equation", "7"),
        ("10 - 4 = <<10-4=6>>6\n#### 6", "rationale", "6"),
        ("so nothing", "rationale", None),
        ("6", "answer", "6"),
        ("2.5", "answer", "5/2"),
    ],
)
def test_parse_output(text, target, expected):
    value = parse_output(text, target, ("10", "4"))
    assert value == (None if expected is None else Fraction(expected))


def test_unknown_target_lists_the_choices():
    with pytest.raises(ValueError, match="equation, rationale, answer"):
        parse_output("1", "sum")


def test_answers_match_within_the_tolerance_only():
    third = Fraction(1, 3)
    assert answers_match(third, third)
    assert not answers_match(Fraction("0.3333"), third)
    assert answers_match(Fraction("0.3333"), third, Fraction(1, 1000))
    assert not answers_match(None, third, Fraction(10))


@pytest.mark.parametrize(
    ("values", "numbers", "chosen"),
    [
        ([Fraction(-2), Fraction(5, 2), Fraction(4)], ["7", "9"], 2),  # neither negative nor split
        ([Fraction(5, 2), Fraction(4)], ["7.5", "3"], 0),  # parts are given, so parts may come out
        ([None, Fraction(-2), Fraction(3)], ["7", "9"], 2),
        ([None, Fraction(-2), Fraction(1, 2)], ["7", "9"], 1),  # a number rather than none
        ([None, None], ["7"], 0),
        ([Fraction(0), Fraction(4)], ["7", "7"], 0),
    ],
)
def test_the_first_plausible_answer_is_chosen(values, numbers, chosen):
    assert most_plausible(values, numbers) == chosen
