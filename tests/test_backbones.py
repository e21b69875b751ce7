"""Loading backbones: what a spec changes, and what it leaves alone."""

import pytest
import torch
from torch import nn

from src.backbones import load_t5

TINY = {
    "name": "tiny", "family": "t5", "random": True,
    "config": {"vocab_size": 32, "d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1,
               "num_heads": 2, "dropout_rate": 0.0},
}  # fmt: skip
SHIPPED = {"name": "t5_mini", "family": "t5", "path": "assets/t5_mini"}


@pytest.mark.parametrize("spec", [TINY, SHIPPED], ids=lambda spec: spec["name"])
def test_dropout_is_the_specs_and_the_weights_are_not(spec: dict) -> None:
    plain, dropped = load_t5(spec), load_t5({**spec, "dropout_rate": 0.25})
    rates = {
        m.p for m in dropped.encoder.modules() if isinstance(m, nn.Dropout)
    } | {m.dropout for m in dropped.modules() if type(m).__name__ == "T5Attention"}  # fmt: skip
    assert rates == {0.25}
    assert {m.p for m in plain.encoder.modules() if isinstance(m, nn.Dropout)} == {0.0}
    for a, b in zip(plain.parameters(), dropped.parameters(), strict=True):
        assert torch.equal(a, b)
    batch = {"input_ids": torch.tensor([[5, 6, 1]]), "labels": torch.tensor([[7, 1]])}
    with torch.no_grad():
        assert torch.equal(plain(**batch).loss, dropped(**batch).loss), "none in evaluation"
        torch.manual_seed(0)
        assert not torch.equal(plain(**batch).loss, dropped.train()(**batch).loss)


def test_an_unset_rate_keeps_the_models_own() -> None:
    spec = {**TINY, "config": {**TINY["config"], "dropout_rate": 0.1}, "dropout_rate": None}
    assert load_t5(spec).config.dropout_rate == 0.1


@pytest.mark.parametrize("rate", ["x", 1.0, -0.1])
def test_a_rate_that_is_none_is_refused(rate: object) -> None:
    with pytest.raises(ValueError, match=r"backbone\.dropout_rate is .*expected a number"):
        load_t5({**TINY, "dropout_rate": rate})
