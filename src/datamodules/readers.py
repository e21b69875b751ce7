"""Readers for the published math word problem sets, into one uniform record.

Decides how each published file is read, which numbers of a text count as its operands, and what
happens to a row that is not as it should be. The form of a file is recognised by its suffix:

- ``.jsonl``: GSM8K, ``question`` and ``answer`` with ``<<..>>`` and ``#### n``, from
  openai/grade-school-math;
- ``.json``: SVAMP, ``ID, Body, Question, Equation, Answer, Type``, from arkilpatel/SVAMP;
- ``.csv``: MAWPS, ASDiv-A and SVAMP with masked numbers, ``Question, Numbers, Equation, Answer``,
  from arkilpatel/SVAMP;
- ``.xml``: ASDiv, ``Body, Question, Answer, Formula, Solution-Type``, from
  chaochun/nlu-asdiv-dataset.

GSM8K: Cobbe et al. 2021, arXiv 2110.14168. SVAMP: Patel et al. 2021, arXiv 2103.07191. MAWPS:
Koncel-Kedziorski et al. 2016. ASDiv: Miao et al. 2020.

The masked form of a text puts ``number0 number1 ...`` in place of its numbers, in order. Digits and
number words are masked (not "one", which is mostly a pronoun); whether a number is masked never
depends on the equation, so that a test problem is masked as it would be without its solution.

Left out on purpose: systems of equations, answers that are not one number (ratios, lists, names).
"""

from __future__ import annotations

import csv
import importlib
import json
import logging
import os
import re
import socket
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from src.algorithms.answers import (
    Expression,
    ExpressionError,
    evaluate,
    find_numbers,
    format_number,
    operands,
    parse_infix,
    parse_prefix,
    to_fraction,
    to_infix,
)

log = logging.getLogger(__name__)

# Published answers of MAWPS, ASDiv and SVAMP are floats, some of them rounded to three places.
ROUNDED = Fraction(1, 1000)
EXACT = Fraction(0)

_WHERE = {
    "gsm8k": "GSM8K is published as train.jsonl and test.jsonl in github.com/openai/"
    "grade-school-math (grade_school_math/data) and on the hub as openai/gsm8k",
    "svamp": "SVAMP is published as SVAMP.json in github.com/arkilpatel/SVAMP and on the hub as "
    "ChilleD/SVAMP",
    "mawps_asdiv": "MAWPS + ASDiv-A is published as data/mawps-asdiv-a_svamp/train.csv (and SVAMP "
    "in the same form as dev.csv) in github.com/arkilpatel/SVAMP",
    "asdiv": "ASDiv is published as dataset/ASDiv.xml in github.com/chaochun/nlu-asdiv-dataset",
}
_FORMS = {".jsonl": "gsm8k", ".json": "svamp", ".csv": "mawps_asdiv", ".xml": "asdiv"}
# Hub data set -> split -> files, all of which together are the split.
_HUB = {
    "openai/gsm8k": {
        "train": ("main/train-00000-of-00001.parquet",),
        "test": ("main/test-00000-of-00001.parquet",),
    },
    "ChilleD/SVAMP": {"train": ("train.json",), "test": ("train.json", "test.json")},
}
_HUB_SOURCE = {"openai/gsm8k": "gsm8k", "ChilleD/SVAMP": "svamp"}


class DataError(ValueError):
    """A data file or row that is not as expected."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One word problem.

    Args:
        question: Text with its numbers.
        masked: Text with ``number0 number1 ...`` in their place.
        numbers: What these stand for, as literals (``"12"``, ``"2.5"``, ``"3/4"``).
        equation: Infix over ``number0 ...`` and literal constants, or None where none is given.
        rationale: Worked solution that ends in ``#### n``, or None.
        answer: The gold answer.
        tolerance: Largest difference from ``answer`` that still counts as correct.
        meta: What else is known: ``source``, ``id``, ``template``, ``variation``, ``type`` ...
    """

    question: str
    masked: str
    numbers: tuple[str, ...]
    equation: str | None
    rationale: str | None
    answer: Fraction
    tolerance: Fraction = EXACT
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class ReadReport:
    """What reading a file has left out or noticed, as counts."""

    read: int = 0
    bad_rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    equation_differs: int = 0

    def describe(self) -> str:
        """Say it in one line."""
        parts = [f"{self.read} problems read"]
        if self.bad_rows:
            parts.append(f"{self.bad_rows} malformed rows skipped")
        if self.left_out:
            kinds = ", ".join(f"{count} {why}" for why, count in self.left_out.most_common())
            parts.append(
                f"{self.left_out.total()} without one arithmetic equation left out ({kinds})"
            )
        if self.equation_differs:
            parts.append(f"{self.equation_differs} whose equation is not worth the given answer")
        return ", ".join(parts)


class _RowError(Exception):
    def __init__(self, row_field: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = row_field, reason


class _LeftOut(Exception):
    """A well-formed row, of the kind named, that states no single arithmetic equation."""


# --- masking ----------------------------------------------------------------------------------


def mask_numbers(text: str) -> tuple[str, tuple[str, ...]]:
    """Put ``number0 number1 ...`` in place of the numbers of a text.

    Args:
        text: Prose.

    Returns:
        The masked text, and the numbers as literals in order.
    """
    masked: list[str] = []
    numbers: list[str] = []
    position = 0
    for span in find_numbers(text, words=True):
        if text[span.start : span.end].lower() == "one":
            continue
        start = span.start
        if text[start] in "$€£":  # the unit stays in the text
            start += 1
        masked += [text[position:start], f"number{len(numbers)}"]
        numbers.append(format_number(span.value))
        position = span.end
    return "".join(masked) + text[position:], tuple(numbers)


def mask_equation(tree: Expression, numbers: Sequence[str]) -> Expression:
    """Replace the literals of an equation that occur among the numbers by ``numberK``.

    A number that occurs twice in the text stands for its first unused, then its first place; a
    literal that is not in the text stays.
    """
    values = [to_fraction(number) for number in numbers]
    used: set[int] = set()

    def visit(node: Expression) -> Expression:
        if not isinstance(node, str):
            left = visit(node[1])
            return (node[0], left, visit(node[2]))
        if node.startswith("number"):
            return node
        value = to_fraction(node)
        places = [i for i, number in enumerate(values) if number == value]
        if not places:
            return format_number(value) if "/" not in format_number(value) else node
        place = next((i for i in places if i not in used), places[0])
        used.add(place)
        return f"number{place}"

    return visit(tree)


def unmask(text: str, numbers: Sequence[str]) -> str:
    """Put the numbers back in the place of ``number0 number1 ...``."""
    return re.sub(r"\bnumber(\d+)\b", lambda match: numbers[int(match[1])], text)


def worked_steps(equation: str, numbers: Sequence[str]) -> str:
    """Write the evaluation of an equation as a rationale in GSM8K's form.

    Args:
        equation: Infix over ``number0 ...``.
        numbers: What these stand for.

    Returns:
        One line ``12 - 5 = <<12-5=7>>7`` an operation, then ``#### n``.

    Raises:
        ExpressionError: If the equation has no value.
    """
    lines: list[str] = []

    def visit(node: Expression) -> Fraction:
        if isinstance(node, str):
            return evaluate(node, numbers)
        left, right = visit(node[1]), visit(node[2])
        value = evaluate((node[0], format_number(left), format_number(right)))
        a, b, result = (format_number(part) for part in (left, right, value))
        b = f"({b})" if "/" in b else b
        a = f"({a})" if "/" in a else a
        lines.append(f"{a} {node[0]} {b} = <<{a}{node[0]}{b}={result}>>{result}")
        return value

    result = visit(parse_infix(equation))
    return "\n".join([*lines, f"#### {format_number(result)}"])


# --- one row of each form ---------------------------------------------------------------------


def _field(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None or not str(value).strip():
        raise _RowError(name, "is missing or empty")
    return str(value).strip()


def _number(row: Mapping[str, Any], name: str) -> Fraction:
    text = _field(row, name)
    try:
        return to_fraction(text)
    except ExpressionError as error:
        raise _RowError(name, f"is {text[:40]!r}, expected a number") from error


def _gsm8k_row(row: Mapping[str, Any]) -> Problem:
    question, rationale = _field(row, "question"), _field(row, "answer")
    head, marker, final = rationale.rpartition("####")
    if not marker:
        raise _RowError("answer", "has no '#### n' at its end")
    try:
        answer = to_fraction(final)
    except ExpressionError as error:
        raise _RowError("answer", f"ends in {final.strip()[:40]!r}, expected a number") from error
    masked, numbers = mask_numbers(question)
    return Problem(
        question=question,
        masked=masked,
        numbers=numbers,
        equation=_compose(re.findall(r"<<([^<>=]*)=", head), numbers, answer, EXACT),
        rationale=rationale,
        answer=answer,
        meta={"source": "gsm8k"},
    )


def _compose(
    steps: Sequence[str], numbers: Sequence[str], answer: Fraction, tolerance: Fraction
) -> str | None:
    """Chain the steps of a solution into one equation for the answer.

    Each intermediate value is replaced by the expression that made it. None where that does not
    yield the answer, as where a step reads a remainder.
    """
    made: dict[Fraction, Expression] = {}
    last: Expression | None = None

    def expand(node: Expression) -> Expression:
        if not isinstance(node, str):
            return (node[0], expand(node[1]), expand(node[2]))
        return made.get(to_fraction(node), node)

    try:
        for step in steps:
            last = expand(parse_infix(step))
            if len(operands(last)) > 24:
                return None
            made[evaluate(last)] = last
        if last is None or abs(evaluate(last) - answer) > tolerance:
            return None
        return to_infix(mask_equation(last, numbers))
    except ExpressionError:
        return None


def _svamp_row(row: Mapping[str, Any]) -> Problem:
    body, ask = _field(row, "Body"), _field(row, "Question")
    # The release drops the full stop or comma between a clause and the question that ends it.
    question = f"{body} {ask}" if body[-1] in ".,?!;" else f"{body}, {ask}"
    equation, answer = _field(row, "Equation"), _number(row, "Answer")
    masked, numbers = mask_numbers(question)
    try:
        tree = mask_equation(parse_infix(equation), numbers)
        evaluate(tree, numbers)
    except ExpressionError as error:
        raise _RowError("Equation", f"is {equation[:60]!r}: {error}") from error
    return Problem(
        question=question,
        masked=masked,
        numbers=numbers,
        equation=to_infix(tree),
        rationale=None,
        answer=answer,
        tolerance=ROUNDED,
        meta={"source": "svamp", "id": row.get("ID"), "type": row.get("Type")},
    )


def _tidy(text: str) -> str:
    """Undo the spaces that tokenization put before punctuation and clitics."""
    text = re.sub(r"\s+([.,?!;:%])", r"\1", text)
    return re.sub(r"\s+(n't\b|'(?:s|re|ve|ll|d|m)?\b)", r"\1", text).replace("$ ", "$").strip()


def _masked_csv_row(row: Mapping[str, Any]) -> Problem:
    masked, answer = _tidy(_field(row, "Question")), _number(row, "Answer")
    numbers: list[str] = []
    for literal in _field(row, "Numbers").split():
        try:
            numbers.append(_short(to_fraction(literal), literal))
        except ExpressionError as error:
            raise _RowError("Numbers", f"holds {literal!r}, expected numbers") from error
    used = [int(index) for index in re.findall(r"\bnumber(\d+)\b", masked)]
    if used and max(used) >= len(numbers):
        raise _RowError("Numbers", f"has {len(numbers)} numbers, the text uses number{max(used)}")
    equation = _field(row, "Equation")
    try:
        tree = mask_equation(parse_prefix(equation), ())
        evaluate(tree, numbers)
    except ExpressionError as error:
        raise _RowError("Equation", f"is {equation[:60]!r}: {error}") from error
    return Problem(
        question=unmask(masked, numbers),
        masked=masked,
        numbers=tuple(numbers),
        equation=to_infix(tree),
        rationale=None,
        answer=answer,
        tolerance=ROUNDED,
        meta={"source": "mawps_asdiv"},
    )


def _short(value: Fraction, literal: str) -> str:
    """Write 12.0 as 12, and a float such as 0.3333333333333333 as it stands."""
    return format_number(value) if "/" not in format_number(value) else literal


def _asdiv_row(row: Mapping[str, Any]) -> Problem:
    formula, answer_text = _field(row, "Formula"), _field(row, "Answer")
    question = f"{_field(row, 'Body')} {_field(row, 'Question')}"
    kind = str(row.get("Solution-Type") or "unknown")
    stated = re.match(r"\s*(-?[\d,]*\.?\d+(?:/\d+)?)\s*(?:\(|$)", answer_text)
    # "2 (dime)*10 (cent/dime) = 20 (cent); 20+5=25": without units, the left side of each step.
    parts = re.sub(r"\(\s*[A-Za-z][A-Za-z /.-]*\)", "", formula).split(";")
    steps = [part.partition("=")[0] for part in parts]
    masked, numbers = mask_numbers(question)
    try:
        answer = to_fraction(stated[1]) if stated else Fraction(0)
    except ExpressionError as error:
        raise _RowError("Answer", f"is {answer_text[:60]!r}: {error}") from error
    equation = _compose(steps, numbers, answer, ROUNDED) if stated and "=" in formula else None
    if equation is None:
        raise _LeftOut(kind)
    return Problem(
        question=question,
        masked=masked,
        numbers=numbers,
        equation=equation,
        rationale=None,
        answer=answer,
        tolerance=ROUNDED,
        meta={"source": "asdiv", "id": row.get("ID"), "type": kind, "grade": row.get("Grade")},
    )


# --- files ------------------------------------------------------------------------------------


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                yield line, {"__broken__": f"is not JSON ({error.msg})"}
                continue
            yield line, row if isinstance(row, dict) else {"__broken__": "is not an object"}


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    text = path.read_text(encoding="utf-8-sig")
    decoder = json.JSONDecoder()
    start = re.match(r"\s*\[", text)
    if start is None:  # some releases of SVAMP on the hub are JSON lines under the name .json
        yield from _jsonl_rows(path)
        return
    # Object by object, so that an error can name its line.
    position = start.end()
    while True:
        position = re.compile(r"[\s,]*").match(text, position).end()  # pyright: ignore[reportOptionalMemberAccess]
        if position >= len(text) or text[position] == "]":
            return
        line = text.count("\n", 0, position) + 1
        try:
            row, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {error.lineno}: not valid JSON ({error.msg}); "
                "expected a list of objects as SVAMP.json holds"
            ) from error
        yield line, row if isinstance(row, dict) else {"__broken__": "is not an object"}


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = {"Question", "Numbers", "Equation", "Answer"} - set(reader.fieldnames or ())
        if missing:
            raise DataError(
                f"{path}, line 1: no column {', '.join(sorted(missing))}; expected the CSV form of "
                "the SVAMP authors (Question with number0 number1 ..., Numbers, Equation such as "
                "'- number0 number1', Answer), or JSON lines with question and answer, whose last "
                f"line is '#### 42'. {_WHERE['mawps_asdiv']}."
            )
        line = 2
        for row in reader:
            yield line, row
            line = reader.line_num + 1


def _xml_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError as error:
        raise DataError(f"{path}, line {error.position[0]}: not valid XML ({error})") from error
    plain = re.sub(r"<!--.*?-->", lambda comment: " " * len(comment[0]), text, flags=re.DOTALL)
    starts = [match.start() for match in re.finditer(r"<Problem\b", plain)]
    line = position = 0
    for element, start in zip(root.iter("Problem"), starts, strict=True):
        line += text.count("\n", position, start)
        position = start
        yield line + 1, {**element.attrib, **{child.tag: child.text for child in element}}


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(
            f"{path} is a parquet file, which needs the package pyarrow (pip install pyarrow); "
            f"or pass the published file by path. {_WHERE['gsm8k']}."
        ) from error
    yield from enumerate(parquet.read_table(path).to_pylist(), start=1)


_ROWS: dict[str, Callable[[Path], Iterator[tuple[int, Mapping[str, Any]]]]] = {
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".xml": _xml_rows,
    ".parquet": _parquet_rows,
}
_PARSERS: dict[str, Callable[[Mapping[str, Any]], Problem]] = {
    "gsm8k": _gsm8k_row,
    "svamp": _svamp_row,
    "mawps_asdiv": _masked_csv_row,
    "asdiv": _asdiv_row,
}


def _parser_for(row: Mapping[str, Any], suffix: str) -> Callable[[Mapping[str, Any]], Problem]:
    """Choose by the fields of a row: releases name the same form .json here and .jsonl there."""
    if suffix in (".json", ".jsonl", ".parquet"):
        if "question" in row and "answer" in row:
            return _gsm8k_row
        if "Body" in row or "Equation" in row:
            return _svamp_row
        return _PARSERS["svamp" if suffix == ".json" else "gsm8k"]
    return _PARSERS[_FORMS[suffix]]


def read_file(path: str | Path, on_bad_row: str = "error") -> tuple[list[Problem], ReadReport]:
    """Read one published file, its form recognised by suffix and fields.

    Args:
        path: The file.
        on_bad_row: ``error`` stops at the first malformed row, ``skip`` counts them.

    Returns:
        The problems in file order, and counts of what was left out.

    Raises:
        FileNotFoundError: If there is no such file; the message says who publishes the data.
        DataError: If the form is unknown, the file holds nothing, or a row is malformed and
            ``on_bad_row`` is ``error``; the message names file, line and field.
    """
    path = Path(path)
    if on_bad_row not in ("error", "skip"):
        raise ValueError(f"on_bad_row is {on_bad_row!r}, expected error or skip")
    if not path.is_file():
        raise FileNotFoundError(missing_message(path, _FORMS.get(path.suffix.lower())))
    suffix = path.suffix.lower()
    if suffix not in _ROWS:
        raise DataError(
            f"{path} has the suffix {suffix or 'none'!r}, expected one of {', '.join(_ROWS)}"
        )
    problems: list[Problem] = []
    report = ReadReport()
    for line, row in _decoded(path, _ROWS[suffix](path)):
        try:
            if "__broken__" in row:
                raise _RowError("row", row["__broken__"])
            problem = _parser_for(row, suffix)(row)
        except _LeftOut as error:
            report.left_out[str(error)] += 1
            continue
        except _RowError as error:
            message = f"{path}, line {line}, field {error.field}: {error.reason}"
            if on_bad_row == "error":
                raise DataError(
                    f"{message}; mend the row, or pass data.on_bad_row=skip to leave such rows out"
                ) from error
            log.warning("skipped: %s", message)
            report.bad_rows += 1
            continue
        problems.append(problem)
        if problem.equation is not None:
            value = evaluate(parse_infix(problem.equation), problem.numbers)
            report.equation_differs += abs(value - problem.answer) > problem.tolerance
    report.read = len(problems)
    if not problems:
        raise DataError(f"{path} holds no usable problem ({report.describe()})")
    log.info("%s: %s", path, report.describe())
    return problems, report


def _decoded(
    path: Path, rows: Iterator[tuple[int, Mapping[str, Any]]]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        yield from rows
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no UTF-8 text (byte {error.object[error.start]:#04x}); give the published "
            "file itself, unpacked, or save it as UTF-8"
        ) from error


def missing_message(path: str | Path, source: str | None) -> str:
    """Say that a path does not exist and how to get the data that belong there."""
    where = _WHERE.get(source or "", "Known forms: " + "; ".join(_WHERE.values()))
    return f"there is no data file {path}. {where}; download it and pass its path."


def locate(path: str, split: str, source: str | None = None) -> list[Path]:
    """Find the files that a path, a folder or a hub name stands for.

    Args:
        path: A file; a folder that holds one data file, or one named after the split; or a hub
            data set, ``owner/name`` or ``owner/name/path/in/it.json``.
        split: ``train``, ``val`` or ``test``.
        source: Data set that is expected, for the message.

    Returns:
        Files, in reading order.

    Raises:
        FileNotFoundError: If nothing is there; the message says who publishes the data.
        DataError: If a folder holds several candidates, or the hub cannot be reached.
    """
    local = Path(path).expanduser()
    if local.is_file():
        return [local]
    if local.is_dir():
        return [_in_folder(local, split, source)]
    parts = path.split("/")
    repository = "/".join(parts[:2])
    hub_like = not path.startswith((".", "/", "~")) and (
        repository in _HUB
        or (len(parts) > 2 and Path(path).suffix in _ROWS and not Path(parts[0]).exists())
    )
    if not hub_like:
        raise FileNotFoundError(
            missing_message(path, _FORMS.get(local.suffix.lower()) if local.suffix else source)
        )
    if len(parts) > 2:
        files: tuple[str, ...] = ("/".join(parts[2:]),)
    else:
        splits = _HUB[repository]
        if split not in splits:
            raise DataError(
                f"{repository} publishes no split {split}: leave data.{split} out, a share of the "
                "training problems is then held out (data.val_fraction)"
            )
        files = splits[split]
    return [_download(repository, file, source or _HUB_SOURCE.get(repository)) for file in files]


def _in_folder(folder: Path, split: str, source: str | None) -> Path:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _ROWS)
    names = {"train": ("train",), "val": ("val", "dev", "valid"), "test": ("test", "svamp", "dev")}
    for stem in names[split]:
        named = [file for file in files if file.stem.lower() == stem]
        if len(named) == 1:
            return named[0]
    others = {stem for other in names if other != split for stem in names[other]}
    if len(files) == 1 and files[0].stem.lower() not in others:
        return files[0]
    if not files:
        where = _WHERE.get(source or "", "Known forms: " + "; ".join(_WHERE.values()))
        raise FileNotFoundError(
            f"the folder {folder} holds no data file ({', '.join(_ROWS)}). {where}; download it "
            "and pass its path."
        )
    raise DataError(
        f"{folder} holds {len(files)} data file{'s' if len(files) > 1 else ''} "
        f"({', '.join(file.name for file in files[:6])}) and none named after the split {split}: "
        "pass the file itself"
    )


def _download(repository: str, file: str, source: str | None) -> Path:
    from huggingface_hub import constants, hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, repo_type="dataset", local_files_only=True))
    except OSError:
        pass  # not in the cache of earlier downloads: ask the hub
    try:
        if constants.is_offline_mode():
            raise OSError("HF_HUB_OFFLINE is set")
        if not (os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")):
            # Fail at once where there is no network, not after the client's many retries.
            endpoint = urlsplit(constants.ENDPOINT)
            port = endpoint.port or (443 if endpoint.scheme == "https" else 80)
            socket.create_connection((endpoint.hostname or "", port), timeout=10).close()
        return Path(hf_hub_download(repository, file, repo_type="dataset"))
    except Exception as error:  # every failure of the network ends in the same advice
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        where = _WHERE.get(source or "", "")
        raise DataError(
            f"cannot get {file} of the data set {repository} from the hub ({reason}). "
            f"{where + '; p' if where else 'P'}ass a local file by path, or use data=procedural, "
            "which needs no download."
        ) from error


def read(
    path: str, split: str, source: str | None = None, on_bad_row: str = "error"
) -> tuple[list[Problem], ReadReport]:
    """Read all files that a path stands for: :func:`locate`, then :func:`read_file` on each."""
    problems: list[Problem] = []
    total = ReadReport()
    for file in locate(path, split, source):
        part, report = read_file(file, on_bad_row)
        problems += part
        total.read += report.read
        total.bad_rows += report.bad_rows
        total.left_out += report.left_out
        total.equation_differs += report.equation_differs
    return problems, total


def read_gsm_symbolic(num_problems: int, seed: int) -> list[Problem]:
    """Draw problems of reasoning_gym's gsm_symbolic, an optional extra.

    Raises:
        DataError: If the package ``reasoning_gym`` is not installed.
    """
    try:
        reasoning_gym = importlib.import_module("reasoning_gym")
    except ImportError as error:
        raise DataError(
            "data=gsm_symbolic needs the package reasoning-gym, which is not installed: "
            "pip install reasoning-gym, or use data=procedural"
        ) from error
    problems = []
    for entry in reasoning_gym.create_dataset("gsm_symbolic", size=num_problems, seed=seed):
        question = entry["question"].split("Give the result as")[0].strip()
        masked, numbers = mask_numbers(question)
        problems.append(
            Problem(
                question=question,
                masked=masked,
                numbers=numbers,
                equation=None,
                rationale=None,
                answer=to_fraction(str(entry["answer"])),
                meta={"source": "gsm_symbolic"},
            )
        )
    return problems
