"""Embeddings that are made once and kept in files, named after all that decides them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

log = logging.getLogger(__name__)


def weights_digest(model: nn.Module) -> str:
    """Tell a text encoder's weights from others of the same name: a hash of parts of them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if "visual" not in name and tensor.is_floating_point():
            flat = tensor.detach().flatten()
            part = flat[:: max(1, flat.numel() // 32)].float().cpu().contiguous()
            digest.update(name.encode() + part.numpy().tobytes())
    return digest.hexdigest()[:16]


def digest_of(*values: Any) -> str:
    """Hash texts, numbers, and lists or tuples of them."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


def read_or_encode(
    path: Path, what: str, encode: Callable[[], Mapping[str, Tensor]], *, write: bool = True
) -> dict[str, Tensor]:
    """Read tensors from a file, or make them and keep them there.

    Args:
        path: The safetensors file; its name must tell what the tensors were made of.
        what: What the tensors are, for the log.
        encode: Makes them.
        write: Whether to keep them: of several processes only one may.

    Raises:
        ValueError: If there is a file that cannot be read.
    """
    if path.is_file():
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged; remove it, and it is made anew.") from error
        log.info(f"{what}: read {path} ({path.stat().st_size / 1e6:.0f} MB)")
        return tensors
    log.info(f"{what}: encoding once ...")
    tensors = {name: tensor.contiguous().cpu() for name, tensor in encode().items()}
    if write:
        write_tensors(path, tensors)
        log.info(f"{what}: wrote {path} ({path.stat().st_size / 1e6:.0f} MB)")
    return tensors


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file whole or not at all, so that a stopped run leaves no torn one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # others may write it too
    save_file(tensors, str(temporary), metadata)
    temporary.replace(path)
