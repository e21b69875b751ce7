import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from src.datamodules.embeddings import Embeddings, read_embeddings


def write(path: Path, matrix: torch.Tensor) -> Path:
    match path.suffix:
        case ".npy":
            np.save(path, matrix.numpy())
        case ".npz":
            np.savez(path, embeddings=matrix.numpy(), other=np.ones(3))
        case ".pt":
            torch.save({"embeddings": matrix}, path)
        case _:
            save_file({"embeddings": matrix, "thresholds": torch.ones(3)}, path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
def test_every_format_is_read(suffix: str, tmp_path: Path) -> None:
    matrix = torch.randn(4, 8)
    assert torch.equal(read_embeddings(write(tmp_path / f"e{suffix}", matrix)), matrix)


def test_rows_are_normalised_and_doubles_are_joined(tmp_path: Path) -> None:
    matrix = torch.randn(3, 8)
    rows = torch.stack([matrix[0], matrix[1] * 7, matrix[0] * 2, matrix[2], matrix[1]])
    data = Embeddings(str(write(tmp_path / "e.npy", rows)))
    assert data.groups == [[0, 2], [1, 4], [3]]
    (batch,) = data.predict_dataloader()
    assert batch["index"] == data.groups
    assert torch.allclose(batch["embedding"].norm(dim=1), torch.ones(3))
    data.skip({0, 1, 4})
    (batch,) = data.predict_dataloader()
    assert batch["index"] == [[2], [3]]
    data.skip(set(range(5)))
    assert list(data.predict_dataloader()) == []


def test_ranks_share_the_targets(tmp_path: Path) -> None:
    data = Embeddings(str(write(tmp_path / "e.pt", torch.randn(5, 4))), batch_size=2)
    seen = []
    for rank in range(2):

        class Trainer:
            global_rank, world_size = rank, 2

        data.trainer = Trainer()  # type: ignore[assignment]
        seen.append([i for batch in data.predict_dataloader() for g in batch["index"] for i in g])
    assert seen == [[0, 2, 4], [1, 3]]


def test_half_precision_is_remembered(tmp_path: Path) -> None:
    path = write(tmp_path / "e.safetensors", torch.randn(2, 4).bfloat16())
    assert Embeddings(str(path)).stored == "bfloat16"


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.tensor([[1.0, 2.0], [float("nan"), 1.0]]), r"1 of 2 rows .* NaN .*index 1"),
        (torch.tensor([[1.0, 2.0], [float("inf"), 1.0]]), r"NaN or infinity \(index 1\)"),
        (torch.tensor([[0.0, 0.0], [1.0, 1.0]]), r"are zero.*index 0"),
        (torch.ones(2, 3, dtype=torch.int64), "int64"),
        (torch.ones(2, 3, 4), r"shape \(2, 3, 4\)"),
        (torch.empty(0, 4), "no row"),
    ],
)
def test_bad_rows_are_named(matrix: torch.Tensor, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_embeddings(write(tmp_path / "e.pt", matrix))


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps([1.0, 2.0]))
    torch.save({"embeddings": Path("x")}, tmp_path / "c.pt")
    for name in ("a.npy", "b.npy", "c.pt"):
        with pytest.raises(ValueError, match="pickled objects"):
            read_embeddings(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x00garbage" * 9])
def test_broken_files_are_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"e{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"e\.\w+ (cannot be read|holds pickled)"):
        read_embeddings(path)


def test_unclear_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        read_embeddings(tmp_path / "none.npy")
    (tmp_path / "e.csv").write_text("1,2")
    with pytest.raises(ValueError, match="not an embeddings file"):
        read_embeddings(tmp_path / "e.csv")
    several: dict[str, Any] = {"a": torch.ones(2, 3), "b": torch.ones(2, 3) * 2}
    save_file(several, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match="a, b; choose one"):
        read_embeddings(tmp_path / "two.safetensors")
    assert read_embeddings(tmp_path / "two.safetensors", "b").mean() == 2
    assert read_embeddings(write(tmp_path / "one.npy", torch.ones(5))).shape == (1, 5)
    with pytest.raises(ValueError, match="batch_size"):
        Embeddings(str(tmp_path / "one.npy"), batch_size=0)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt"])
def test_text_under_another_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"e{suffix}"
    path.write_text("embeddings\n")
    with pytest.raises(ValueError, match=rf"by its content it is no \{suffix} file"):
        read_embeddings(path)
    with pytest.raises(ValueError, match="is a folder"):
        read_embeddings(tmp_path)
