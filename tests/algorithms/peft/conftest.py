"""Tiny random T5s of both families, and inputs with padding."""

import warnings
from collections.abc import Callable

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from src.algorithms.peft import (
    AdapterSpec,
    FrozenSpec,
    FullFineTuningSpec,
    LoRASpec,
    MethodSpec,
    PrefixSpec,
)

ALL_TARGETS = ("q", "k", "v", "o", "wi", "wo")

SPECS: dict[str, MethodSpec] = {
    "lora": LoRASpec(rank=3),
    "lora_everywhere": LoRASpec(rank=2, targets=ALL_TARGETS, use_rslora=True),
    "dora": LoRASpec(rank=3, use_dora=True),
    "adapter": AdapterSpec(bottleneck_dim=5),
    "adapter_parallel": AdapterSpec(bottleneck_dim=5, form="parallel", scale=4.0),
    "adapter_pfeiffer": AdapterSpec(
        bottleneck_dim=5, placement="pfeiffer", nonlinearity="relu", train_layer_norms=False
    ),
    "prefix": PrefixSpec(num_virtual_tokens=4, reparametrize=False),
    "prefix_mlp": PrefixSpec(num_virtual_tokens=4, mlp_dim=7),
    "prefix_one_site": PrefixSpec(4, sites=("decoder_cross",), reparametrize=False, init="normal"),
    "full": FullFineTuningSpec(),
    "frozen": FrozenSpec(),
}

# T5 1.0 (relu), and v1.1 / Flan (gated) with num_heads * d_kv != d_model.
CONFIGS = {
    "t5": {"num_heads": 4, "feed_forward_proj": "relu"},
    "v1_1": {"num_heads": 6, "feed_forward_proj": "gated-gelu"},
}


def tiny_config(kind: str, **changes: object) -> T5Config:
    sizes = {
        "vocab_size": 61,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "decoder_start_token_id": 0,
        **CONFIGS[kind],
    }
    return T5Config(**{**sizes, **changes})


@pytest.fixture(params=sorted(CONFIGS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_t5() -> Callable[..., T5ForConditionalGeneration]:
    """Return a maker of equal models: the same kind and seed give the same weights."""

    def make(kind: str = "t5", seed: int = 0, **changes: object) -> T5ForConditionalGeneration:
        torch.manual_seed(seed)
        return T5ForConditionalGeneration(tiny_config(kind, **changes)).eval()

    return make


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    """Three sources of 4, 7 and 6 tokens and three targets of 5, 3 and 4."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(2, 61, (3, 7), generator=generator)
    mask = torch.arange(7) < torch.tensor([[4], [7], [6]])
    labels = torch.randint(2, 61, (3, 5), generator=generator)
    labels[torch.arange(5) >= torch.tensor([[5], [3], [4]])] = -100
    return {"input_ids": ids * mask, "attention_mask": mask.long(), "labels": labels}


@pytest.fixture(params=sorted(SPECS))
def spec(request: pytest.FixtureRequest) -> MethodSpec:
    return SPECS[request.param]


@pytest.fixture
def specs() -> dict[str, MethodSpec]:
    return SPECS


@pytest.fixture
def perturb() -> Callable[[torch.nn.Module], None]:
    """Move every trainable weight, as training would: fresh methods are the identity."""

    def move(model: torch.nn.Module, size: float = 0.1) -> None:
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
                    weight.add_(size * noise)

    return move


@pytest.fixture
def ignore_peft_warning():
    """Stock peft reads an attribute that transformers has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        yield
