from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from src.modules import embedding_cache
from src.modules.embedding_cache import digest_of, read_or_encode


def once(value: float) -> dict[str, Tensor]:
    return {"z": torch.full((2,), value)}


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.safetensors"
    assert read_or_encode(path, "a", lambda: once(1.0))["z"].tolist() == [1, 1]
    assert read_or_encode(path, "a", lambda: once(2.0))["z"].tolist() == [1, 1]
    other = path.with_name("b.safetensors")
    assert read_or_encode(other, "b", lambda: once(3.0), write=False)["z"].tolist() == [3, 3]
    assert not other.exists()


def test_a_stopped_write_leaves_nothing_that_is_read(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.safetensors"

    def torn(tensors: dict[str, Tensor], filename: str, metadata: None) -> None:
        Path(filename).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedding_cache, "save_file", torn)
        with pytest.raises(KeyboardInterrupt):
            read_or_encode(path, "a", lambda: once(1.0))
    assert read_or_encode(path, "a", lambda: once(2.0))["z"].tolist() == [2, 2]
    assert load_file(path)["z"].tolist() == [2, 2]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"a\.safetensors is damaged; remove it"):
        read_or_encode(path, "a", lambda: once(1.0))


def test_a_digest_tells_order_and_grouping_apart() -> None:
    inputs = [[(1, 2), (3,)], [(3,), (1, 2)], [(1,), (2, 3)]]
    assert len({digest_of(value, "float32") for value in inputs}) == 3
    assert digest_of(inputs[0], "float32") != digest_of(inputs[0], "bfloat16")
    assert digest_of(inputs[0]) == digest_of([(1, 2), (3,)])
