"""docs/theory.md: every block of code gives what it says, and every number comes from one."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "theory.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
# A number of three significant digits or more, with thousands commas or an exponent.
NUMBER = re.compile(r"(?<![\w.^-])\d[\d,]*(?:\.\d+)?(?:e[+]?\d+)?(?![\w.]*\d)")


def blocks() -> list[str]:
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def prose() -> str:
    text = BLOCK.sub("", PAGE.read_text(encoding="utf-8"))
    text = re.sub(r"arXiv \d{4}\.\d{5}", "", text)  # identifiers, not quantities
    return re.sub(r"(?:[A-Z][a-z]+|al\.)\s(?:19|20)\d\d\b", "", text)  # years of papers


def significant(literal: str) -> str:
    return re.sub(r"e.*", "", literal).replace(",", "").replace(".", "").strip("0")


def value(literal: str) -> float:
    return float(literal.replace(",", ""))


def test_every_block_gives_what_it_says() -> None:
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner(verbose=False)
    for i, block in enumerate(blocks()):
        test = doctest.DocTestParser().get_doctest(block, names, f"block {i}", str(PAGE), 0)
        said: list[str] = []
        failed = runner.run(test, out=said.append, clear_globs=False).failed
        assert not failed, "".join(said)
        names.update(test.globs)
    assert len(blocks()) >= 8


def test_every_number_of_the_text_is_computed_or_given_in_a_block() -> None:
    """Exponents of ten and numbers below three digits (names, ranks, sections) need no block."""
    known = {value(n) for block in blocks() for n in re.findall(r"\d[\d.]*(?:e[+]?\d+)?", block)
             if n.count(".") < 2 and not n.endswith(".")}  # fmt: skip
    stated = [n.rstrip(",") for n in NUMBER.findall(prose())]
    checked = [n for n in stated if len(significant(n)) >= 3]
    for literal in checked:
        assert any(value(literal) == pytest.approx(k, rel=1e-9) for k in known), literal
    assert len(checked) >= 20


@pytest.mark.parametrize(
    "figure",
    ["1,998,720", "294,912", "2.185e10", "1.373e12", "8.185e12", "5.981e9", "0.452", "0.513",
     "4.58", "1.289e11"],
)  # fmt: skip
def test_the_worked_figures_are_there(figure: str) -> None:
    assert figure in prose()
