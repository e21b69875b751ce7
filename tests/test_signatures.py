"""Kinds of arguments, read off annotations and compared with values from a command line."""

from collections.abc import Sequence
from typing import Any

import pytest

from src.signatures import argument_kinds, as_kind, in_words, is_of_kind


class Base:
    def __init__(self, rate: float, size: int = 1) -> None: ...


class Derived(Base):
    def __init__(self, size: int | None = None, **kwargs: Any) -> None: ...


def test_derived_classes_decide_and_base_classes_add() -> None:
    kinds = argument_kinds(Derived)
    assert kinds["rate"] is float
    assert kinds["size"] == (int | None)


def test_function() -> None:
    def make(names: "Sequence[str]") -> None: ...

    assert argument_kinds(make) == {"names": Sequence[str]}


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [
        (3, int, True),
        (1e4, int, True),
        (2.5, int, False),
        ("two", int, False),
        (None, int, False),
        (None, int | None, True),
        (3, float, True),
        ("fast", float, False),
        (1, bool, True),
        ("yes", bool, False),
        (7, str, True),
        ([1], str, False),
        ([1, 2], Sequence[int], True),
        ([1, "a"], list[int], False),
        (1, list[int], False),
        ("anything", Derived, True),
    ],
)
def test_values_and_kinds(value: Any, kind: Any, fits: bool) -> None:
    assert is_of_kind(value, kind) is fits


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (16.0, int, 16),
        (1e4, int | None, 10000),
        (1.0, int | float, 1.0),
        (2.0, float, 2.0),
        (1.5, int | str, 1.5),
    ],
)
def test_whole_numbers_become_whole(value: float, kind: Any, expected: float) -> None:
    made = as_kind(value, kind)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int | None, "a whole number or null"),
        (list[int] | Sequence[int], "a list, each a whole number"),
        (Sequence[float] | None, "a list, each a number or null"),
        (bool, "true or false"),
        (Derived, "something else"),
    ],
)
def test_words(kind: Any, words: str) -> None:
    assert in_words(kind) == words
