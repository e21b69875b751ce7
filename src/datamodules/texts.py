"""Texts whose scheme is asked for: a JSONL file, an array, or a folder of text files.

Decides what counts as one text and what a bad one does: it becomes a row with an ``error`` that
names its line or file, and the others go on. A batch is a list of rows, mappings with the keys

- ``index`` (int): position in the input; with several ``rates``, text ``index % num_texts`` at rate
  ``index // num_texts``; ``text_index`` (int) the former and ``rate`` (float or None) the latter;
- ``text`` (str); ``prompt`` (str or None); ``scheme`` (str or None, the known label);
- ``watermark`` (mapping or None): what the file says of how the text was marked;
- ``error`` (str or None): why there is no text to look at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningDataModule
from torch.utils.data import DataLoader

Row = dict[str, Any]

#: The labels that a file may give; any other is refused row by row.
LABELS = ("none", "no_e", "hard", "soft")


class Texts(LightningDataModule):
    """Reads texts, once or once for each rate of an attack.

    Args:
        path: A ``.jsonl`` file with at least ``text`` in each line (and ``scheme``, ``prompt``,
            ``watermark`` where known), a ``.npy`` file with an array of strings, or a folder of
            ``.txt`` files, taken in the order of their names.
        batch_size: Texts looked at together.
        attack: Name of an attack; None leaves the texts as they are.
        rates: The attack's rates, at each of which all texts are looked at.

    Raises:
        ValueError: If ``batch_size`` is below 1, or (in ``setup``) the file is of another kind, is
            empty, or would need pickle; or if rates are given and a label is missing.
        FileNotFoundError: In ``setup``, if there is nothing at ``path``.
    """

    def __init__(
        self,
        path: str,
        batch_size: int = 16,
        attack: str | None = None,
        rates: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size is {batch_size}, expected at least 1.")
        self.path = path
        self.batch_size = batch_size
        self.rates: list[float] | None = list(rates) if attack is not None else None
        self.texts: list[Row] = []
        self._skipped: set[int] = set()

    def setup(self, stage: str) -> None:
        self.texts = read_texts(self.path)
        unlabelled = [row for row in self.texts if row["scheme"] is None and not row["error"]]
        if self.rates is not None and unlabelled:
            raise ValueError(
                f"{self.path}: {len(unlabelled)} of {len(self.texts)} texts have no scheme (the "
                f"first is text {unlabelled[0]['text_index'] + 1}), and an attack's accuracy needs "
                "the labels; use a file with the field scheme, or leave attack= out."
            )

    def skip(self, indices: set[int]) -> None:
        """Leave out the rows that are there already, by index."""
        self._skipped = set(indices)

    def rows(self) -> list[Row]:
        """Return every row of the input (see the module docstring)."""
        rates: Sequence[float | None] = self.rates if self.rates is not None else [None]
        num = len(self.texts)
        return [
            {**row, "index": num * i + row["text_index"], "rate": rate}
            for i, rate in enumerate(rates)
            for row in self.texts
        ]

    def predict_dataloader(self) -> DataLoader[list[Row]]:
        """Batches of this rank's rows."""
        remaining = [row for row in self.rows() if row["index"] not in self._skipped]
        rank, world = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        )
        mine = remaining[rank::world]
        batches: Any = [
            mine[start : start + self.batch_size] for start in range(0, len(mine), self.batch_size)
        ]
        return DataLoader(batches, batch_size=None)


def read_texts(path: str | Path) -> list[Row]:
    """Read texts in any of the forms of :class:`Texts`, at least one of which can be read.

    Args:
        path: File or folder.

    Returns:
        One row a text, with every key of the module docstring but ``index`` and ``rate``.

    Raises:
        FileNotFoundError: If there is nothing at ``path``.
        ValueError: If it is of another kind, would need pickle, or holds no readable text.
    """
    path = Path(path)
    if path.is_dir():
        rows = [_from_file(file) for file in sorted(path.glob("*.txt"))]
        empty = f"{path} holds no .txt file"
    elif not path.exists():
        raise FileNotFoundError(
            f"data.path={path} does not exist; give a .jsonl or .npy file or a folder of .txt."
        )
    elif path.suffix == ".npy":
        rows = [_row(text) for text in _read_array(path)]
        empty = f"{path} holds an empty array"
    elif path.suffix in (".jsonl", ".json", ".ndjson"):
        lines = path.read_bytes().split(b"\n")
        rows = [_from_line(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
        empty = f"{path} holds no line"
    else:
        raise ValueError(
            f"data.path={path} is of no known kind; give a .jsonl file with the field text, a .npy "
            "array of strings or a folder of .txt files."
        )
    if not rows:
        raise ValueError(f"{empty}; there is nothing to look at.")
    if all(row["error"] for row in rows):
        raise ValueError(f"{path} holds no text that can be read: {rows[0]['error']}.")
    for position, row in enumerate(rows):
        row["text_index"] = position
    return rows


def _row(text: str, error: str | None = None, **known: Any) -> Row:
    # half a surrogate pair has no encoding: a reader would see the replacement character too
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return {
        "text": text,
        "prompt": None,
        "scheme": None,
        "watermark": None,
        "error": error,
        **known,
    }


def _from_file(path: Path) -> Row:
    try:
        return _row(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        return _row("", f"{path.name} is not UTF-8 (byte {error.start})")


def _from_line(number: int, line: bytes) -> Row:
    try:
        content = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return _row("", f"line {number} is not UTF-8 (byte {error.start})")
    except (json.JSONDecodeError, RecursionError) as error:
        return _row("", f"line {number} is not JSON ({error})")
    if not isinstance(content, dict) or not isinstance(content.get("text"), str):
        found = f"the fields {', '.join(content)}" if isinstance(content, dict) else "no object"
        return _row("", f"line {number} has no field text with a string, but {found}")
    scheme = content.get("scheme")
    if scheme is not None and scheme not in LABELS:
        return _row("", f"line {number} has the scheme {scheme!r}, not one of {', '.join(LABELS)}")
    mark, prompt = content.get("watermark"), content.get("prompt")
    if mark is not None and not isinstance(mark, dict):
        return _row("", f"line {number} has a watermark that is no object")
    return _row(
        content["text"],
        prompt=prompt if isinstance(prompt, str) and prompt else None,
        scheme=scheme,
        watermark=mark,
    )


def _read_array(path: Path) -> list[str]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{path} is not a plain array of strings ({error}); an array of dtype object would run "
            "code when loaded: save it with numpy.array(texts, dtype=str)."
        ) from error
    if array.dtype.kind not in "US":
        raise ValueError(
            f"{path} holds {array.dtype}, expected strings: numpy.array(texts, dtype=str)."
        )
    if array.dtype.kind == "S":
        return [value.decode("utf-8", "replace") for value in array.ravel().tolist()]
    return [str(value) for value in array.ravel()]
