"""What each method trains and costs, in closed form and as measured.

The closed forms are those of the papers with T5's shapes put in: `H * d_kv` need not equal d, a
decoder layer has two attention sites, layer norms have a scale and no shift, a gated feed-forward
network has two input matrices. `measure` builds the model on the meta device, where it costs no
memory, and counts; the two must agree.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration

from src.algorithms.peft.adapter import AdapterSpec
from src.algorithms.peft.lora import LoRASpec
from src.algorithms.peft.prefix import PrefixSpec
from src.algorithms.peft.spec import FrozenSpec, FullFineTuningSpec, MethodSpec
from src.algorithms.peft.storage import attach
from src.algorithms.peft.t5 import STACKS, Dims, Site

Spec = TypeVar("Spec", bound=MethodSpec)

UNITS = {"lora": "rank", "adapter": "bottleneck_dim", "prefix_tuning": "num_virtual_tokens"}
"""The hyperparameter that sets the size of a method; counts are affine in it."""


@dataclass(frozen=True)
class Count:
    """Trainable parameters at one place.

    Attributes:
        stack: "encoder", "decoder", or "shared" for the embedding.
        layer: index of the layer; None for what all layers of a stack share.
        sublayer: "self_attention", "cross_attention", "feed_forward"; "" outside the layers.
        part: which tensors, such as "q", "adapter", "layer_norm", "prefix", "mlp".
        count: number of parameters.
    """

    stack: str
    layer: int | None
    sublayer: str
    part: str
    count: int


@dataclass(frozen=True)
class Flops:
    """Floating-point operations that a method adds; a multiply-add counts as two.

    Matrix products only, as is the custom; biases, norms and non-linearities are left out.

    Attributes:
        source: for each token of the encoder's input.
        target: for each token of the decoder.
        step: for each forward and backward pass, whatever its number of tokens.
    """

    source: int
    target: int
    step: int = 0


def matrices(dims: Dims, sublayer: str) -> dict[str, tuple[int, int]]:
    """Return the matrices of a sublayer with their (d_in, d_out)."""
    d, inner, d_ff = dims.d_model, dims.inner_dim, dims.d_ff
    if sublayer != "feed_forward":
        return {"q": (d, inner), "k": (d, inner), "v": (d, inner), "o": (inner, d)}
    inputs = ("wi_0", "wi_1") if dims.is_gated else ("wi",)
    return {**dict.fromkeys(inputs, (d, d_ff)), "wo": (d_ff, d)}


def count(spec: MethodSpec, config: Any) -> list[Count]:
    """Return the trainable parameters of a method by stack, layer, sublayer and part.

    - LoRA: `r (d_in + d_out)` a matrix, and d_out more with DoRA;
    - adapter: `2 d m + d + m` a sublayer, and d for its layer norm;
    - prefix-tuning: `2 l H d_kv` a layer and site, or with the reparametrisation
      `l d + (d d' + d') + (d' + 1) 2 N H d_kv` a site;
    - full: everything.

    Args:
        spec: the method.
        config: a `T5Config`, a mapping in its format, or `Dims`.

    Returns:
        In forward order; empty for the frozen model.
    """
    return list(_counts(spec, Dims.of(config)))


def total(counts: Iterable[Count]) -> int:
    """Return the sum of the counts."""
    return sum(item.count for item in counts)


def _counts(spec: MethodSpec, dims: Dims) -> Iterator[Count]:
    if isinstance(spec, LoRASpec):
        for site, part, d_in, d_out in _lora_matrices(spec, dims):
            size = spec.rank * (d_in + d_out) + (d_out if spec.use_dora else 0)
            yield _at(site, part, size)
    elif isinstance(spec, AdapterSpec):
        d, m = dims.d_model, spec.bottleneck_dim
        for site in dims.sites():
            if spec.adapts(site.sublayer):
                yield _at(site, "adapter", 2 * d * m + d + m)
                if spec.train_layer_norms:
                    yield _at(site, "layer_norm", d)
    elif isinstance(spec, PrefixSpec):
        yield from _prefix_counts(spec, dims)
    elif isinstance(spec, FullFineTuningSpec):
        yield from _backbone_counts(dims)
    elif not isinstance(spec, FrozenSpec):
        raise TypeError(f"no closed form for {type(spec).__name__}")


def _at(site: Site, part: str, size: int) -> Count:
    return Count(site.stack, site.layer, site.sublayer, part, size)


def _lora_matrices(spec: LoRASpec, dims: Dims) -> Iterator[tuple[Site, str, int, int]]:
    for site in dims.sites():
        for part, (d_in, d_out) in matrices(dims, site.sublayer).items():
            if part.split("_")[0] in spec.targets:
                yield site, part, d_in, d_out


def _prefix_counts(spec: PrefixSpec, dims: Dims) -> Iterator[Count]:
    length, hidden = spec.num_virtual_tokens, spec.mlp_dim
    for stack in STACKS:
        num_layers = dims.num_layers if stack == "encoder" else dims.num_decoder_layers
        for sublayer in spec.sublayers(stack):
            if spec.reparametrize:
                shared = length * dims.d_model + dims.d_model * hidden + hidden
                yield Count(stack, None, sublayer, "mlp", shared)
                size = (hidden + 1) * 2 * dims.inner_dim
            else:
                size = 2 * length * dims.inner_dim
            for layer in range(num_layers):
                yield Count(stack, layer, sublayer, "prefix", size)


def _backbone_counts(dims: Dims) -> Iterator[Count]:
    yield Count("shared", None, "", "embedding", dims.vocab_size * dims.d_model)
    for site in dims.sites():
        for part, (d_in, d_out) in matrices(dims, site.sublayer).items():
            yield _at(site, part, d_in * d_out)
        yield _at(site, "layer_norm", dims.d_model)
        if site.layer == 0 and site.sublayer == "self_attention":
            yield _at(site, "relative_bias", dims.num_buckets * dims.num_heads)
    for stack in STACKS:
        yield Count(stack, None, "", "final_layer_norm", dims.d_model)
    if not dims.has_tied_head:
        yield Count("decoder", None, "", "lm_head", dims.vocab_size * dims.d_model)


def backbone_size(config: Any) -> int:
    """Return the number of parameters of a T5 without any method."""
    return total(_backbone_counts(Dims.of(config)))


def meta_backbone(config: Any) -> T5ForConditionalGeneration:
    """Build a T5 of the given sizes on the meta device: shapes, and no memory.

    Args:
        config: a `T5Config`, a mapping in its format, or `Dims`.
    """
    dims = Dims.of(config)
    config = T5Config(
        vocab_size=dims.vocab_size,
        d_model=dims.d_model,
        d_kv=dims.d_kv,
        d_ff=dims.d_ff,
        num_heads=dims.num_heads,
        num_layers=dims.num_layers,
        num_decoder_layers=dims.num_decoder_layers,
        feed_forward_proj="gated-gelu" if dims.is_gated else "relu",
        relative_attention_num_buckets=dims.num_buckets,
    )
    with torch.device("meta"):
        model = T5ForConditionalGeneration(config)
        if not dims.has_tied_head:
            model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
    return model


def measure(spec: MethodSpec, config: Any) -> tuple[int, int]:
    """Attach the method to a T5 on the meta device and count.

    Args:
        spec: the method.
        config: a `T5Config`, a mapping in its format, or `Dims`.

    Returns:
        Trainable parameters, and all parameters with the method's own.
    """
    sizes = [(p.numel(), p.requires_grad) for p in attach(meta_backbone(config), spec).parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def added_flops(spec: MethodSpec, config: Any, is_training: bool, is_merged: bool = True) -> Flops:
    """Return the operations that a method adds to the frozen backbone's.

    The backward pass of an added product costs two more of its size, one for its input and one for
    its weight, so training adds three times the forward. Full fine-tuning adds no product, but in
    training the gradient of every weight, one product of its size, that the other methods save.

    Args:
        spec: the method.
        config: a `T5Config`, a mapping in its format, or `Dims`.
        is_training: forward and backward pass instead of the forward alone.
        is_merged: whether inference runs a merged LoRA and a prefix without its MLP.
    """
    dims = Dims.of(config)
    source = target = step = 0
    if isinstance(spec, LoRASpec) and (is_training or not is_merged):
        for site, part, d_in, d_out in _lora_matrices(spec, dims):
            size = 2 * spec.rank * (d_in + d_out)
            # Keys and values of cross-attention are computed from the encoder's output.
            if site.stack == "encoder" or (site.sublayer == "cross_attention" and part in "kv"):
                source += size
            else:
                target += size
            # DoRA forms B A to take the norms of W + s B A.
            step += 2 * spec.rank * d_in * d_out if spec.use_dora else 0
    elif isinstance(spec, AdapterSpec):
        size = 4 * dims.d_model * spec.bottleneck_dim
        for site in dims.sites():
            if spec.adapts(site.sublayer):
                source += size * (site.stack == "encoder")
                target += size * (site.stack == "decoder")
    elif isinstance(spec, PrefixSpec):
        # q P_k^T and the weighted sum of P_v.
        size = 4 * spec.num_virtual_tokens * dims.inner_dim
        source = size * dims.num_layers * len(spec.sublayers("encoder"))
        target = size * dims.num_decoder_layers * len(spec.sublayers("decoder"))
        if spec.reparametrize and (is_training or not is_merged):
            length, hidden = spec.num_virtual_tokens, spec.mlp_dim
            for stack in STACKS:
                num_layers = dims.num_layers if stack == "encoder" else dims.num_decoder_layers
                outputs = 2 * num_layers * dims.inner_dim
                products = 2 * length * hidden * (dims.d_model + outputs)
                step += products * len(spec.sublayers(stack))
    elif isinstance(spec, FullFineTuningSpec) and is_training:
        for site in dims.sites():
            for part, (d_in, d_out) in matrices(dims, site.sublayer).items():
                if site.stack == "encoder" or (site.sublayer == "cross_attention" and part in "kv"):
                    source += 2 * d_in * d_out
                else:
                    target += 2 * d_in * d_out
        return Flops(source, target + 2 * dims.vocab_size * dims.d_model)
    factor = 3 if is_training else 1
    return Flops(source * factor, target * factor, step * factor)


def fit_to_budget(spec: Spec, config: Any, budget: int) -> Spec:
    """Return the spec with the rank, bottleneck or prefix length that comes closest to a budget.

    Args:
        spec: a LoRA, adapter or prefix spec; all its other hyperparameters are kept.
        config: a `T5Config`, a mapping in its format, or `Dims`.
        budget: trainable parameters to come close to.

    Raises:
        ValueError: the method has no size to choose, its smallest form exceeds the budget, or the
            budget exceeds the backbone.
    """
    unit = UNITS.get(spec.method)
    if unit is None:
        raise ValueError(
            f"{spec.method} has no size to fit to a budget; choose one of: {', '.join(UNITS)}"
        )
    smallest = total(count(replace(spec, **{unit: 1}), config))
    if budget < smallest:
        raise ValueError(
            f"a budget of {budget:,} parameters is below the smallest {spec.method} "
            f"({unit} 1: {smallest:,}); raise the budget"
        )
    if budget > backbone_size(config):
        raise ValueError(
            f"a budget of {budget:,} parameters is more than the backbone has "
            f"({backbone_size(config):,}); lower the budget"
        )
    slope = total(count(replace(spec, **{unit: 2}), config)) - smallest
    return replace(spec, **{unit: 1 + round((budget - smallest) / slope)})


def meet_budget(spec: Spec, config: Any, budget: int) -> Spec:
    """Return the spec whose stored parameters come closest to a budget.

    As `fit_to_budget`, but a reparametrised prefix is measured by the keys and values that it
    keeps: its MLP, which alone exceeds most budgets, is dropped after training.

    Args:
        spec: a LoRA, adapter or prefix spec.
        config: a `T5Config`, a mapping in its format, or `Dims`.
        budget: stored parameters to come close to.

    Raises:
        ValueError: as `fit_to_budget`.
    """
    kept = spec.materialized() if isinstance(spec, PrefixSpec) else spec
    unit = UNITS.get(spec.method, "")
    return replace(spec, **{unit: getattr(fit_to_budget(kept, config, budget), unit)})
