"""Exact arithmetic on text: what an equation is worth, and which answer a model has given.

Decides how an equation is written (infix or prefix, over ``number0 number1 ...`` or literals), what
it is worth as an exact rational, which number in a model's free text counts as its answer, and when
two answers are the same. Everything is a :class:`fractions.Fraction`: no rounding, and never
``eval``. Prefix order is that of the MAWPS / ASDiv-A / SVAMP files (Patel et al. 2021,
arXiv 2103.07191); the ``#### n`` marker is that of GSM8K (Cobbe et al. 2021, arXiv 2110.14168).

Left out on purpose: functions, variables other than the operands, units and their conversion.

An expression is a tree: a leaf is a string (``"number0"`` or a literal such as ``"2.5"``), a node
is ``(operator, left, right)`` with an operator out of ``+ - * / ^``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

Expression: TypeAlias = str | tuple[str, "Expression", "Expression"]

MAX_LENGTH = 512  # characters of an expression
MAX_OPERANDS = 64
MAX_DIGITS = 40  # of one literal
MAX_DEPTH = 32  # of parentheses
MAX_EXPONENT = 64
MAX_BITS = 4096  # of the numerator or denominator of any intermediate result

TARGETS = ("equation", "rationale", "answer")


class ExpressionError(ValueError):
    """An expression that is malformed, unbounded or undefined."""


# --- writing and reading expressions ---------------------------------------------------------

_LITERAL = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_TOKEN = re.compile(
    rf"\s*(?:(?P<operand>(?:number|n)\s?\d+(?!\w))|(?P<literal>{_LITERAL})"
    r"|(?P<operator>\*\*|[-+*/^()%]))"
)
# What models and people write for the operators; currency signs carry no value.
_SPELLINGS = str.maketrans(
    {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")", "{": "(", "}": ")"}
    | dict.fromkeys("$€£", " ")
)
_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 4}


def _tokenize(text: str) -> list[str]:
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"expression of {len(text)} characters, expected at most {MAX_LENGTH}"
        )
    text = re.sub(r"(?<=[\d)])\s*[xX]\s*(?=[\d(n])", "*", text.translate(_SPELLINGS)).rstrip()
    tokens: list[str] = []
    operands = position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExpressionError(
                f"unknown token at {text[position : position + 12].strip()!r}, expected numbers, "
                "operands such as number0, parentheses and + - * / ^ %"
            )
        position = match.end()
        if match["operator"]:
            tokens.append("^" if match["operator"] == "**" else match["operator"])
            continue
        operands += 1
        if operands > MAX_OPERANDS:
            raise ExpressionError(f"more than {MAX_OPERANDS} operands")
        if match["operand"]:
            tokens.append("number" + match["operand"].lstrip("number "))
        else:
            tokens.append(match["literal"].replace(",", ""))
            if sum(c.isdigit() for c in tokens[-1]) > MAX_DIGITS:
                raise ExpressionError(f"a literal of more than {MAX_DIGITS} digits")
    return tokens


class _Parser:
    """Recursive descent over ``sum > product > sign > power > percent > atom``."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.position, self.depth = tokens, 0, 0

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.position += 1
        return token

    def parse(self) -> Expression:
        tree = self.sum()
        if self.peek():
            raise ExpressionError(f"unexpected {self.peek()!r} after a complete expression")
        return tree

    def sum(self) -> Expression:
        tree = self.product()
        while self.peek() in ("+", "-"):
            tree = (self.take(), tree, self.product())
        return tree

    def product(self) -> Expression:
        tree = self.sign()
        while self.peek() in ("*", "/"):
            tree = (self.take(), tree, self.sign())
        return tree

    def sign(self) -> Expression:
        negative = False
        while self.peek() == "-":
            self.take()
            negative = not negative
        tree = self.power()
        return ("-", "0", tree) if negative else tree

    def power(self) -> Expression:
        base = self.percent()
        if self.peek() == "^":
            self.take()
            return ("^", base, self.sign())
        return base

    def percent(self) -> Expression:
        tree = self.atom()
        while self.peek() == "%":
            self.take()
            tree = ("/", tree, "100")
        return tree

    def atom(self) -> Expression:
        token = self.take()
        if token == "(":
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise ExpressionError(f"parentheses nested more than {MAX_DEPTH} deep")
            tree = self.sum()
            if self.take() != ")":
                raise ExpressionError("a parenthesis is not closed")
            self.depth -= 1
            return tree
        if not token:
            raise ExpressionError("the expression ends where a number was expected")
        if token in "+-*/^%)":
            raise ExpressionError(f"{token!r} stands where a number was expected")
        return token


def parse_infix(text: str) -> Expression:
    """Read an infix expression such as ``(number0 + 3) * 2``.

    Args:
        text: Infix with ``+ - * /``, ``^`` or ``**`` (right-associative), parentheses, unary minus,
            postfix percent (a hundredth), decimals, thousands commas, and operands ``number0`` or
            ``n0``. ``×``, ``÷``, ``x`` between operands and currency signs are understood.

    Returns:
        The expression tree; ``-e`` is read as ``0 - e`` and ``e%`` as ``e / 100``.

    Raises:
        ExpressionError: On an unknown token, a malformed or an over-long expression.
    """
    return _Parser(_tokenize(text)).parse()


def parse_prefix(text: str) -> Expression:
    """Read a prefix expression such as ``* + number0 3 2``, as the MAWPS files write it.

    Args:
        text: Tokens separated by spaces; operators are binary.

    Returns:
        The expression tree.

    Raises:
        ExpressionError: If operators and operands do not pair up, and as :func:`parse_infix`.
    """
    tokens = _tokenize(text)
    stack: list[Expression] = []
    for token in reversed(tokens):
        if token not in _BINDING:
            if token in "()%":
                raise ExpressionError(f"{token!r} has no place in a prefix expression")
            stack.append(token)
        elif len(stack) < 2:
            raise ExpressionError(f"prefix {token!r} lacks an operand in {text.strip()!r}")
        else:
            stack.append((token, stack.pop(), stack.pop()))
    if len(stack) != 1:
        raise ExpressionError(f"{text.strip()!r} is not one prefix expression")
    return stack[0]


def to_infix(tree: Expression) -> str:
    """Write a tree as infix, tokens separated by spaces, with no needless parentheses."""
    if isinstance(tree, str):
        return tree
    operator, left, right = tree
    binding = _BINDING[operator]
    left_text, right_text = to_infix(left), to_infix(right)
    # a ^ b ^ c reads to the right; everything else to the left.
    if not isinstance(left, str) and (
        _BINDING[left[0]] < binding or (operator == "^" and left[0] == "^")
    ):
        left_text = f"( {left_text} )"
    if not isinstance(right, str) and (
        _BINDING[right[0]] < binding
        or (_BINDING[right[0]] == binding and operator in "-/")
        or (_BINDING[right[0]] == binding and operator != right[0])
    ):
        right_text = f"( {right_text} )"
    return f"{left_text} {operator} {right_text}"


def to_prefix(tree: Expression) -> str:
    """Write a tree as prefix, tokens separated by spaces."""
    if isinstance(tree, str):
        return tree
    return f"{tree[0]} {to_prefix(tree[1])} {to_prefix(tree[2])}"


def skeleton(tree: Expression) -> str:
    """Write the operations of a tree in prefix with every operand as ``n``: ``- * n n n``."""
    if isinstance(tree, str):
        return "n"
    return f"{tree[0]} {skeleton(tree[1])} {skeleton(tree[2])}"


def operands(tree: Expression) -> list[str]:
    """List the leaves of a tree from left to right."""
    if isinstance(tree, str):
        return [tree]
    return operands(tree[1]) + operands(tree[2])


def map_leaves(tree: Expression, change: Callable[[str], Expression]) -> Expression:
    """Put ``change(leaf)`` in the place of every leaf."""
    if isinstance(tree, str):
        return change(tree)
    return (tree[0], map_leaves(tree[1], change), map_leaves(tree[2], change))


def _lookup(leaf: str, numbers: Sequence[str]) -> str:
    if not leaf.startswith("number"):
        return leaf
    index = int(leaf[6:])
    if index >= len(numbers):
        raise ExpressionError(f"{leaf} is not among the {len(numbers)} numbers of the problem")
    return numbers[index]


def substitute(tree: Expression, numbers: Sequence[str]) -> Expression:
    """Put the numbers in the place of ``number0 ...``.

    ``3/4`` becomes a division, ``-3`` becomes ``0 - 3``: the tree stays writable in either order.

    Raises:
        ExpressionError: If an operand has no number.
    """
    if isinstance(tree, str):
        literal = _lookup(tree, numbers)
        if literal.startswith("-"):
            return ("-", "0", substitute(literal[1:], ()))
        numerator, slash, denominator = literal.partition("/")
        return ("/", numerator, denominator) if slash else literal
    return (tree[0], substitute(tree[1], numbers), substitute(tree[2], numbers))


# --- evaluation -------------------------------------------------------------------------------


def to_fraction(literal: str) -> Fraction:
    """Read one literal (``1,234.50``, ``-3``, ``3/4``, ``1e6``, ``12.0``) exactly.

    Raises:
        ExpressionError: If it is not a number, or not a sensible one.
    """
    text = literal.strip().replace(",", "").lstrip("$€£").replace("−", "-")
    if len(text) > MAX_DIGITS + 8:
        raise ExpressionError(f"a literal of more than {MAX_DIGITS} digits")
    exponent = re.search(r"[eE]([+-]?\d+)$", text)
    if exponent and abs(int(exponent[1])) > MAX_EXPONENT:
        raise ExpressionError(f"exponent {exponent[1]} is beyond {MAX_EXPONENT}")
    try:
        return Fraction(text.rstrip(".") if text.endswith(".") else text)
    except ZeroDivisionError as error:
        raise ExpressionError("division by zero") from error
    except ValueError as error:
        raise ExpressionError(f"{literal!r} is not a number") from error


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise ExpressionError(f"an intermediate result exceeds {MAX_BITS} bits")
    return value


def evaluate(tree: Expression, numbers: Sequence[str] | None = None) -> Fraction:
    """Work out a tree exactly.

    Args:
        tree: Expression tree.
        numbers: What ``number0, number1, ...`` stand for, as literals.

    Returns:
        The value.

    Raises:
        ExpressionError: On division by zero, an operand without a number, an exponent that is not
            an integer of at most ``MAX_EXPONENT``, or a result beyond ``MAX_BITS``.
    """
    if isinstance(tree, str):
        return to_fraction(_lookup(tree, numbers or ()))
    operator, left, right = tree[0], evaluate(tree[1], numbers), evaluate(tree[2], numbers)
    if operator == "+":
        return _bounded(left + right)
    if operator == "-":
        return _bounded(left - right)
    if operator == "*":
        return _bounded(left * right)
    if operator == "/":
        if right == 0:
            raise ExpressionError("division by zero")
        return _bounded(left / right)
    if right.denominator != 1 or abs(right) > MAX_EXPONENT:
        raise ExpressionError(f"exponent {right} is not an integer of at most {MAX_EXPONENT}")
    if left == 0 and right < 0:
        raise ExpressionError("division by zero")
    bits = max(left.numerator.bit_length(), left.denominator.bit_length())
    if bits * abs(right.numerator) > MAX_BITS:
        raise ExpressionError(f"a power exceeds {MAX_BITS} bits")
    return Fraction(left**right.numerator)


def evaluate_expression(text: str, numbers: Sequence[str] | None = None) -> Fraction:
    """Work out an infix expression exactly: :func:`parse_infix`, then :func:`evaluate`.

    Args:
        text: Infix expression.
        numbers: What ``number0, number1, ...`` stand for, as literals.

    Returns:
        The value.

    Raises:
        ExpressionError: As the two functions say.
    """
    return evaluate(parse_infix(text), numbers)


def format_number(value: Fraction) -> str:
    """Write a rational as an integer, as a terminating decimal, or else as ``p/q``."""
    if value.denominator == 1:
        return str(value.numerator)
    rest, digits = value.denominator, 0
    for prime in (2, 5):
        power = 0
        while rest % prime == 0:
            rest //= prime
            power += 1
        digits = max(digits, power)
    if rest != 1 or digits > 12:
        return f"{value.numerator}/{value.denominator}"
    scaled = abs(value.numerator) * 10**digits // value.denominator
    whole, part = divmod(scaled, 10**digits)
    return f"{'-' if value < 0 else ''}{whole}.{part:0{digits}d}"


# --- numbers in prose -------------------------------------------------------------------------

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORD_VALUE = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_SMALL = (
    rf"(?:(?:{'|'.join(_TENS)})(?:[- ](?:{'|'.join(_UNITS[1:10])})\b)?|(?:{'|'.join(_UNITS)}))\b"
)
_SCALES_OF = rf"(?:\s(?:{'|'.join(_SCALES)})\b){{1,2}}"  # hundred, and hundred thousand
_WORDS = re.compile(
    rf"(?<![\w-]){_SMALL}(?:{_SCALES_OF}(?:\s(?:and\s)?{_SMALL}{_SCALES_OF})*(?:\s(?:and\s)?{_SMALL})?)?"
    r"(?!-?\w)",
    re.IGNORECASE,
)

# "no one", "each one", "the one": a pronoun, not a number.
_PRONOUN = re.compile(
    r"\b(?:no|any|every|each|the|this|that|which|another|other)\s$", re.IGNORECASE
)

_DIGITS = r"(?>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
_NUMBER = re.compile(
    r"(?<!\w)(?<!\d[.,])(?:(?<![)\]%])(?P<sign>[-−]))?(?:[$€£]\s?(?P<inner>[-−])?)?"
    rf"(?:(?P<whole>\d+)\s(?=\d+/\d))?(?P<value>{_DIGITS})(?!(?:st|nd|rd|th)\b)"
    r"(?:(?P<exponent>[eE][+-]?\d+)(?!\w)"
    r"|\s?(?:[x×*]|\\times)\s?10\s?(?:\^|\*\*)\s?[{(]?(?P<power>[-−]?\d+)[)}]?"
    rf"|\s?/\s?(?P<denominator>{_DIGITS}))?"
)
_VULGAR = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


@dataclass(frozen=True)
class NumberSpan:
    """A number found in a text: ``text[start:end]`` is worth ``value``."""

    start: int
    end: int
    value: Fraction


def _words_value(words: str) -> Fraction:
    total = group = 0
    for word in re.split(r"[-\s]+", words.lower()):
        if word in _WORD_VALUE:
            group += _WORD_VALUE[word]
        elif word == "hundred":
            group *= 100
        elif word in _SCALES:
            total, group = total + group * _SCALES[word], 0
    return Fraction(total + group)


def find_numbers(text: str, *, words: bool = False) -> list[NumberSpan]:
    """Find the numbers of a text, in order.

    Args:
        text: Prose. Understood are signs that do not stand between two operands, currency signs,
            thousands commas, decimals, fractions (``3/4``), mixed numbers (``2 1/2``), scientific
            notation (``1.2e3``, ``1.2 x 10^3``). A percentage is worth the number before its sign.
            Ordinals (``5th``) and digits inside a word (``number0``) are not numbers.
        words: Whether number words up to the millions count (``twenty-one``, ``two hundred``).

    Returns:
        Spans, left to right, without overlap.
    """
    spans: list[NumberSpan] = []
    for match in _NUMBER.finditer(text):
        literal = match["value"] + (match["exponent"] or "")
        end = match.end()
        try:
            value = to_fraction(literal)
            if match["denominator"]:
                denominator = to_fraction(match["denominator"])
                if denominator == 0:
                    end = match.end("value")
                else:
                    value /= denominator
            if match["whole"]:
                value += to_fraction(match["whole"])
            if match["power"]:
                value *= to_fraction("1e" + match["power"].replace("−", "-"))
        except ExpressionError:  # longer than any sensible number: not a number of the problem
            continue
        if match["sign"] or match["inner"]:
            value = -value
        spans.append(NumberSpan(match.start(), end, value))
    if words:
        taken = [(span.start, span.end) for span in spans]
        for match in _WORDS.finditer(text):
            if match[0].lower() == "one" and _PRONOUN.search(text, 0, match.start()):
                continue
            if not any(start < match.end() and match.start() < end for start, end in taken):
                spans.append(NumberSpan(match.start(), match.end(), _words_value(match[0])))
        spans.sort(key=lambda span: span.start)
    return spans


# --- the answer in a model's output -----------------------------------------------------------

_HASHES = re.compile(r"####\s*")
_BOXED = re.compile(r"\\boxed\s*\{")
_ANSWER_IS = re.compile(
    r"\b(?:answer|solution|result)s?\b[^.:=\n]{0,60}?"
    r"(?:\b(?:is|are|equals|would be|will be)\b:?|[:=])",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"[\s*_`$€£~≈=:({\[]*(?:(?:a total of|total|about|approximately|around|equal to|exactly|only|"
    r"just|simply|now|therefore|thus|the number)[\s*_`$€£]*)*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_ARITHMETIC = re.compile(r"[-−+*/^(). ,\d$€£×÷]+")


def _clean(text: str) -> str:
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", text)
    text = re.sub(r"(?<=10)[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: "^" + m[0].translate(_SUPERSCRIPT), text)
    for sign, fraction in _VULGAR.items():
        text = re.sub(rf"(?<=\d){sign}", f" {fraction}", text).replace(sign, fraction)
    text = re.sub(r"(?<=[\d)])\*\*(?=[\d({-])", "^", text)  # a power; else Markdown's bold
    return text.replace("**", "").replace("\\$", "$").replace("\\%", "%").replace("<<", " <<")


def _value_at_start(segment: str) -> Fraction | None:
    """Value of the number or arithmetic that the segment opens with, after filler words."""
    start = _FILLER.match(segment)
    body = segment[start.end() :] if start else segment
    body = re.sub(r"^[-−]\s+(?=[\d$€£.])", "-", body)
    spans = find_numbers(body, words=True)
    if not spans or spans[0].start > 0:
        return None
    arithmetic = _ARITHMETIC.match(body)
    if arithmetic and arithmetic.end() > spans[0].end:
        text = arithmetic[0].rstrip(" .,+-−*/^($€£×÷")
        follows = body[arithmetic.end() : arithmetic.end() + 1]
        if len(text) > spans[0].end and follows not in ("%",):
            try:
                return evaluate_expression(text)
            except ExpressionError:
                pass
    return spans[0].value


def _value_in(segment: str) -> Fraction | None:
    """Answer stated by the text behind a marker: up to the end of its sentence."""
    end = _SENTENCE_END.search(segment.lstrip())
    sentence = segment.lstrip()[: end.start()] if end else segment.lstrip()
    if "=" in sentence:
        value = _value_at_start(sentence.rsplit("=", 1)[1])
        if value is not None:
            return value
    value = _value_at_start(sentence)
    if value is not None:
        return value
    spans = find_numbers(sentence) or find_numbers(sentence, words=True)
    return spans[-1].value if spans else None


def extract_answer(text: str) -> Fraction | None:
    """Find the answer that a free text states.

    The rules, first match wins; the last occurrence of a marker counts:

    1. an explicit marker: ``#### 72``, ``\\boxed{72}``, ``the answer is 72``, ``Answer: 72``.
       Behind it, within its sentence: what follows the last ``=``, or the number or arithmetic that
       comes next, or the last number;
    2. what follows the last ``=`` that has a number behind it (``= 3/4``);
    3. the last number in digits; without any, the last number word.

    Units are ignored, ``25%`` is worth 25 (as GSM8K counts it), ``1,234.50`` and ``1.2e3`` are
    read.

    Args:
        text: Output of a model.

    Returns:
        The answer, or None where the text states none.
    """
    text = _clean(text)
    for marker in (_HASHES, _BOXED, _ANSWER_IS):
        for match in reversed(list(marker.finditer(text))):
            value = _value_in(text[match.end() :])
            if value is not None:
                return value
    for match in reversed(list(re.finditer("=", text))):
        value = _value_at_start(text[match.end() :])
        if value is not None:
            return value
    spans = find_numbers(text) or find_numbers(text, words=True)
    return spans[-1].value if spans else None


def parse_output(text: str, target: str, numbers: Sequence[str] = ()) -> Fraction | None:
    """Work out the answer that a model gives in the form it was trained on.

    Args:
        text: Decoded output.
        target: ``equation`` (infix or prefix, over literals or ``number0 ...``; of ``x = e`` and
            ``e = 12`` the side ``e`` counts), ``rationale`` or ``answer`` (:func:`extract_answer`).
        numbers: What ``number0, number1, ...`` stand for.

    Returns:
        The answer, or None where the output cannot be parsed or has no value.

    Raises:
        ValueError: If the target is none of the three.
    """
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}, expected one of {', '.join(TARGETS)}")
    if target != "equation":
        return extract_answer(text)
    sides = [side for side in text.split("=") if side.strip()]
    # "x = 3 + 4" and "3 + 4 = 7": the side with an operation is the equation.
    sides.sort(key=lambda side: not re.search(r"[\w)%]\s*[-+*/^]|^\s*[-+*/^]", side))
    for side in sides[:3]:
        for parse in (parse_infix, parse_prefix):
            try:
                return evaluate(parse(side.strip().rstrip(".")), numbers)
            except ExpressionError:
                continue
    return None


def most_plausible(values: Sequence[Fraction | None], numbers: Sequence[str]) -> int:
    """Choose among candidate answers, the likeliest first, as a careful pupil would.

    Args:
        values: What each candidate is worth; None where it is worth nothing.
        numbers: The numbers that the problem gives.

    Returns:
        The index of the first value that is not negative and, where all numbers given are whole,
        whole; of the first that is a number where none is; else 0.
    """
    given = [to_fraction(number) for number in numbers]
    is_whole = all(number.denominator == 1 for number in given)
    numeric = [i for i, value in enumerate(values) if value is not None]
    plausible = (
        i
        for i in numeric
        if (value := values[i]) is not None
        and value >= 0
        and (value.denominator == 1 or not is_whole)
    )
    return next(plausible, numeric[0] if numeric else 0)


def answers_match(
    prediction: Fraction | None, gold: Fraction, tolerance: Fraction | int = 0
) -> bool:
    """Compare two answers exactly: ``|prediction - gold| <= tolerance``; None matches nothing."""
    return prediction is not None and abs(prediction - gold) <= tolerance
