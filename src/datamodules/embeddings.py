"""Embeddings to invert: one row a target, from .npy, .npz, .pt or .safetensors.

Batches for prediction hold ``embedding`` (n, dim), unit rows in float32; ``index``, for each row
the list of positions in the file that hold this same embedding; and ``stored``, the name of the
file's number format, which decides how close identity must be.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".safetensors")

#: What files begin with; a pickle may pass for an array here, and is refused as what it is.
_PICKLE = b"\x80"
_BEGINNINGS = {
    ".npy": (b"\x93NUMPY", _PICKLE),
    ".npz": (b"PK", _PICKLE),
    ".pt": (b"PK", _PICKLE),
    ".pth": (b"PK", _PICKLE),
}


def read_embeddings(path: str | Path, key: str | None = None) -> Tensor:
    """Read a matrix of embeddings.

    Args:
        path: A file of one of :data:`SUFFIXES`; .pt is read with ``weights_only``, and pickled
            objects in .npy and .npz are refused.
        key: Name of the array where a file holds several; else ``embeddings``, or the only one.

    Returns:
        Shape (n, dim), in the file's floating-point format. A single vector becomes one row.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or does not hold a matrix of finite, non-zero rows.
    """
    path = Path(path)
    if not path.is_file():
        if path.is_dir():
            raise ValueError(f"data.path: {path} is a folder; give one of its files.")
        raise FileNotFoundError(f"data.path: there is no file {path}.")
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"data.path: {path.name} is not an embeddings file; give one of {', '.join(SUFFIXES)}."
        )
    with path.open("rb") as file:
        beginning = file.read(8)
    if not beginning.startswith(_BEGINNINGS.get(path.suffix, (b"",))):
        raise ValueError(
            f"data.path: {path.name} cannot be read: by its content it is no {path.suffix} file."
        )
    try:
        content = _load(path)
    except (ValueError, pickle.UnpicklingError) as error:
        if isinstance(error, pickle.UnpicklingError) or "pickle" in str(error).lower():
            raise ValueError(
                f"data.path: {path.name} holds pickled objects, which are refused since loading "
                "them can run code; save plain numbers (numpy.save of an array, safetensors)."
            ) from error
        raise ValueError(f"data.path: {path.name} cannot be read ({_first(error)}).") from error
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, Exception) as error:
        raise ValueError(f"data.path: {path.name} cannot be read ({_first(error)}).") from error
    matrix = _choose(content, key, path)
    if matrix.ndim == 1:
        matrix = matrix[None]
    if matrix.ndim != 2 or not matrix.is_floating_point():
        raise ValueError(
            f"data.path: {path.name} holds {str(matrix.dtype).removeprefix('torch.')} numbers of "
            f"shape {tuple(matrix.shape)}; expected floating-point rows of shape (n, dim)."
        )
    if len(matrix) == 0:
        raise ValueError(f"data.path: {path.name} holds no row.")
    finite = torch.isfinite(matrix.double()).all(dim=1)
    _refuse_rows(path, ~finite, "hold NaN or infinity")
    norms = matrix.double().norm(dim=1)
    _refuse_rows(path, norms < 1e-12, "are zero, so they have no direction")
    return matrix


def _load(path: Path) -> Any:
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _choose(content: Any, key: str | None, path: Path) -> Tensor:
    """Pick the array, and make it a tensor."""
    if isinstance(content, Mapping):
        arrays = {k: v for k, v in content.items() if isinstance(v, (Tensor, np.ndarray))}
        name = key or ("embeddings" if "embeddings" in arrays else None)
        if name is None and len(arrays) == 1:
            name = next(iter(arrays))
        if name is None or name not in arrays:
            raise ValueError(
                f"data.path: {path.name} holds {', '.join(map(str, arrays)) or 'no array'}; "
                "choose one with data.key=NAME."
            )
        content = arrays[name]
    if isinstance(content, (list, tuple)) and all(isinstance(v, Tensor) for v in content):
        content = torch.stack(list(content))
    if isinstance(content, np.ndarray):
        if content.dtype.kind not in "fiu":
            raise ValueError(
                f"data.path: {path.name} holds {content.dtype} values, not numbers of a matrix."
            )
        content = torch.from_numpy(np.ascontiguousarray(content.astype(content.dtype.name)))
    if not isinstance(content, Tensor):
        raise ValueError(f"data.path: {path.name} holds a {type(content).__name__}, not a matrix.")
    return content.detach()


def _refuse_rows(path: Path, bad: Tensor, what: str) -> None:
    rows = bad.nonzero().flatten().tolist()
    if rows:
        shown = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
        raise ValueError(
            f"data.path: {len(rows)} of {len(bad)} rows of {path.name} {what} (index {shown}); "
            "remove or repair them."
        )


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:160]


class Embeddings(LightningDataModule):
    """Targets for inversion; equal ones (up to their length) are solved once.

    Args:
        path: The embeddings file; see :func:`read_embeddings`.
        key: Name of the array in it.
        batch_size: Targets that are searched for together; all that remain if None.
    """

    def __init__(self, path: str, key: str | None = None, batch_size: int | None = None) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"data.batch_size is {batch_size}; it must be at least 1, or null.")
        matrix = read_embeddings(path, key)
        self.path, self.batch_size = path, batch_size
        self.stored = str(matrix.dtype).removeprefix("torch.")
        unit = matrix.double() / matrix.double().norm(dim=1, keepdim=True)
        self.embeddings = unit.float()
        self.dim, self.num_rows = matrix.shape[1], len(matrix)
        # Rows equal to six digits are one target.
        groups: dict[bytes, list[int]] = {}
        for i, row in enumerate((unit * 1e6).round().to(torch.int64)):
            groups.setdefault(row.numpy().tobytes(), []).append(i)
        self.groups = list(groups.values())
        self._done: set[int] = set()

    def skip(self, indices: Iterable[int]) -> None:
        """Leave out rows whose result is known.

        Args:
            indices: Positions in the file. A target is left out when all of its rows are.
        """
        self._done = set(indices)

    def predict_dataloader(self) -> DataLoader[Any]:
        rank, world = (0, 1)
        if self.trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
        left = [[i for i in group if i not in self._done] for group in self.groups]
        mine = [group for group in left if group][rank::world]

        def collate(groups: list[list[int]]) -> dict[str, Any]:
            return {
                "embedding": self.embeddings[[group[0] for group in groups]],
                "index": groups,
                "stored": self.stored,
            }

        size = self.batch_size or max(1, len(mine))
        return DataLoader(mine, batch_size=size, collate_fn=collate)  # pyright: ignore[reportArgumentType]
