"""Prompts to continue, one a line of a text file, each under every scheme.

Row ``index`` is prompt ``index % num_prompts`` under scheme ``index // num_prompts``, so the rows
of a scheme follow each other in the prompts' order. A batch holds rows of one scheme:

- ``scheme`` (str), and lists of one entry a row: ``index`` (int), ``prompt_index`` (int) and
  ``prompt`` (str).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import LightningDataModule
from torch.utils.data import DataLoader


class Prompts(LightningDataModule):
    """Pairs every prompt with every scheme.

    Args:
        path: A text file in UTF-8, one prompt a line; blank lines are left out.
        schemes: Names of schemes, in the order of the rows.
        batch_size: Prompts continued at once.

    Raises:
        ValueError: If there is no scheme or one is named twice, ``batch_size`` is below 1, or (in
            ``setup``) the file holds no prompt or a line is not UTF-8.
        FileNotFoundError: In ``setup``, if there is no file.
    """

    def __init__(self, path: str, schemes: Sequence[str], batch_size: int = 20) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size is {batch_size}, expected at least 1.")
        if not schemes or len(set(schemes)) != len(schemes):
            raise ValueError(
                f"schemes is {list(schemes)}; name each scheme once, and at least one."
            )
        self.path = path
        self.schemes = list(schemes)
        self.batch_size = batch_size
        self.prompts: list[str] = []
        self._skipped: set[int] = set()

    def setup(self, stage: str) -> None:
        self.prompts = read_prompts(self.path)

    def skip(self, indices: set[int]) -> None:
        """Leave out the rows that are there already, by index."""
        self._skipped = set(indices)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of this rank's rows, each of one scheme."""
        num = len(self.prompts)
        remaining = [i for i in range(num * len(self.schemes)) if i not in self._skipped]
        rank, world = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        )
        batches: list[Any] = []
        for position, scheme in enumerate(self.schemes):
            mine = [i for i in remaining[rank::world] if i // num == position]
            for start in range(0, len(mine), self.batch_size):
                indices = mine[start : start + self.batch_size]
                batches.append(
                    {
                        "scheme": scheme,
                        "index": indices,
                        "prompt_index": [i % num for i in indices],
                        "prompt": [self.prompts[i % num] for i in indices],
                    }
                )
        return DataLoader(batches, batch_size=None)  # pyright: ignore[reportArgumentType]


def read_prompts(path: str | Path) -> list[str]:
    """Read prompts, one a line.

    Args:
        path: A text file in UTF-8.

    Returns:
        The lines that are not blank, without the line's end.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If no prompt is in it, or lines are not UTF-8: the message names them.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"data.path={path} is not a file; give a text file with one prompt a line."
        )
    prompts, broken = [], []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            broken.append(str(number))
            continue
        if text.strip():
            prompts.append(text)
    if broken:
        raise ValueError(
            f"{path}: line {', '.join(broken[:5])}{' ...' if len(broken) > 5 else ''} "
            f"({len(broken)} in all) is not UTF-8; save the file as UTF-8 or drop the line."
        )
    if not prompts:
        raise ValueError(f"{path} holds no prompt; write one a line.")
    return prompts
