"""A tiny random backbone for the methods' modules, with nothing read from disk."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from src.modules.base import Seq2Seq

BACKBONE = {
    "name": "tiny",
    "family": "t5",
    "random": True,
    "seed": 0,
    "config": {
        "vocab_size": 61,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 2,
        "dropout_rate": 0.0,
        "feed_forward_proj": "gated-gelu",
        "decoder_start_token_id": 0,
    },
}


class Tokens:
    """Stands in for a tokenizer: its length is all that building a model reads."""

    def __len__(self) -> int:
        return 61


@pytest.fixture
def method_module(monkeypatch) -> Callable[..., Seq2Seq]:
    """Return a maker of modules with the model built."""
    monkeypatch.setattr("src.modules.base.load_tokenizer", lambda spec: Tokens())

    def make(method: type[Seq2Seq], **options: Any) -> Seq2Seq:
        module = method(backbone=BACKBONE, **options)
        module.configure_model()
        return module

    return make


@pytest.fixture
def one_step() -> Callable[..., None]:
    """Take a few steps on one batch: the loss falls, and a frozen weight does not move."""

    def run(module: Seq2Seq, frozen: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        batch = {
            "input_ids": torch.randint(2, 61, (2, 6), generator=generator),
            "attention_mask": torch.ones(2, 6, dtype=torch.long),
            "labels": torch.randint(2, 61, (2, 4), generator=generator),
        }
        kept = {n: p.clone() for n, p in module.named_parameters() if not p.requires_grad}
        assert bool(kept) == frozen
        trained = [p for p in module.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=1e-2)
        losses = []
        for _ in range(6):
            loss = module.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        now = dict(module.named_parameters())
        assert all(torch.equal(now[name], value) for name, value in kept.items())

    return run


@pytest.fixture
def plain() -> Callable[[Any], None]:
    """Check that a value is made of numbers, strings, lists and mappings only."""

    def check(value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                assert isinstance(key, str)
                check(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                check(item)
        else:
            assert value is None or type(value) in (bool, int, float, str)

    return check
