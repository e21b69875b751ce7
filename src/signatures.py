"""What a function's signature asks of its arguments, for values that a user wrote.

A configuration's values come from a command line, where ``two`` and ``2.5`` look as good as ``2``.
Annotations say which kind each argument is; comparing both before anything is made turns a failure
deep inside a run into a sentence.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any, Union, get_args, get_origin


def argument_kinds(made: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotation of every named argument, those of base classes included.

    Args:
        made: A function, or a class, of which ``__init__`` counts.
    """
    functions = [c.__init__ for c in reversed(made.__mro__)] if isinstance(made, type) else [made]
    kinds: dict[str, Any] = {}
    for function in functions:
        if inspect.isfunction(function):
            parameters = inspect.signature(function, eval_str=True).parameters.values()
            kinds |= {p.name: p.annotation for p in parameters}
    return kinds


def is_of_kind(value: Any, kind: Any) -> bool:
    """Say whether a value is a number, text, or list of these, where ``kind`` asks for one.

    What YAML may read either way passes: 1e4 as a whole number, a whole number as true or false
    (and back), 7 as a text. An annotation of any other kind takes every value.

    Args:
        value: A value as YAML gives it.
        kind: An annotation.
    """
    if _is_union(kind):
        return any(is_of_kind(value, choice) for choice in get_args(kind))
    if kind in (None, type(None)):
        return value is None
    if kind is int:
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if kind is float:
        return isinstance(value, (int, float))
    if kind is bool:
        return isinstance(value, (bool, int))
    if kind is str:
        return isinstance(value, (str, int, float))
    if get_origin(kind) in (list, Sequence):
        return isinstance(value, list) and all(is_of_kind(v, get_args(kind)[0]) for v in value)
    return True


def as_kind(value: Any, kind: Any) -> Any:
    """Return 1e4, which YAML reads as 10000.0, as the whole number that ``kind`` asks for."""
    choices = get_args(kind) if _is_union(kind) else (kind,)
    is_wanted = int in choices and float not in choices
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole and is_wanted else value


def in_words(kind: Any) -> str:
    """Name a kind as a sentence to a user does: ``a whole number or null``."""
    if _is_union(kind):
        return " or ".join(dict.fromkeys(map(in_words, get_args(kind))))
    if get_origin(kind) in (list, Sequence):
        return f"a list, each {in_words(get_args(kind)[0])}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(kind, "null" if kind in (None, type(None)) else "something else")


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)
