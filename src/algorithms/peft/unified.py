"""The unified view `h <- alpha * h + lambda * dh`, read off a running model.

He et al. (2022, arXiv 2110.04366) write adapters, LoRA and prefix-tuning as one modification of a
hidden state h. This file does not compute that form apart from the model: it watches a forward
pass, takes h, dh and the output from the modules that made them, and so can show that the wrapped
model really equals its formula. What h is differs by method: for an adapter what the sublayer adds
to the residual stream; for LoRA the output of one matrix; for a prefix the attention over the real
positions, head by head, before the output projection. Full fine-tuning has no such form.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from src.algorithms.peft.adapter import HoulsbyAdapter
from src.algorithms.peft.prefix import Decomposition, prefix_sites
from src.algorithms.peft.t5 import Model, Site, core, sublayers, unwrap


@dataclass(frozen=True)
class Formula:
    """Alpha, lambda and dh of a method, as text."""

    alpha: str
    lam: str
    delta: str


FORMULAS = {
    "lora": Formula("1", "alpha_lora / r", "x A B"),
    "lora (rsLoRA)": Formula("1", "alpha_lora / sqrt(r)", "x A B"),
    "lora (DoRA)": Formula("m / ||W + s B A||", "alpha * s, s = alpha_lora / r", "x A B"),
    "adapter": Formula("1", "s", "f(z W_down + b_down) W_up + b_up"),
    "prefix_tuning": Formula("1 - lambda(x)", "sum_P exp(s) / sum_[P;C] exp(s)", "Attn(x; P)"),
}


@dataclass(frozen=True)
class Observation:
    """One site of one forward pass: `output = alpha * h + lam * delta`.

    Attributes:
        site: the sublayer.
        part: the matrix (q, k, v, o, wi, wi_0, wi_1, wo) for LoRA, else "".
        alpha: a number, or a tensor that broadcasts against h.
        lam: likewise; for a prefix the gate lambda(x), (B, H, Q, 1).
        h: (B, T, d), or (B, H, Q, d_kv) for a prefix.
        delta: as h.
        output: what the wrapped module returned, as h.
    """

    site: Site
    part: str
    alpha: Tensor | float
    lam: Tensor | float
    h: Tensor
    delta: Tensor
    output: Tensor

    @property
    def name(self) -> str:
        """`encoder.0.self_attention.q`."""
        return f"{self.site}.{self.part}" if self.part else str(self.site)

    @property
    def reads_source(self) -> bool:
        """Whether its tokens are those of the encoder's input."""
        is_memory = self.site.sublayer == "cross_attention" and self.part in ("k", "v")
        return self.site.stack == "encoder" or is_memory

    def error(self) -> float:
        """Return `max |alpha h + lam dh - output|`, relative to the largest output."""
        rebuilt = self.alpha * self.h + self.lam * self.delta
        size = self.output.abs().max().clamp_min(torch.finfo(self.output.dtype).tiny)
        return float((rebuilt - self.output).abs().max() / size)

    def norms(self) -> tuple[Tensor, Tensor]:
        """Return `||lam dh||` and `||h||` of every token, each (B, T)."""
        change, h = self.lam * self.delta, self.h
        if h.ndim == 4:  # (B, H, Q, d_kv): a token's heads count together
            change, h = change.transpose(1, 2).flatten(2), h.transpose(1, 2).flatten(2)
        return change.float().norm(dim=-1), h.float().norm(dim=-1)


Sink = Callable[[Observation], None]


class UnifiedView:
    """Context manager that shows `sink` every site of every forward pass, as it happens.

    Outside the context nothing is hooked and a forward pass costs what it did before.

    Args:
        model: a model with a method attached.
        sink: called in forward order, without gradients, once per site and pass.

    Note:
        Dropout inside a LoRA branch is seen as it fell; DoRA with dropout in training mode draws
        two masks and is exact in evaluation mode only.
    """

    def __init__(self, model: Model, sink: Sink) -> None:
        self.model = model
        self.sink = sink
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for site, sublayer in sublayers(self.model):
            if isinstance(sublayer.dropout, HoulsbyAdapter):
                adapter = sublayer.dropout
                self._watch(
                    site, "", adapter, adapter.dropout, adapter.up, lambda a: (1.0, a.scale)
                )
            for part, module in core(sublayer).named_children():
                if isinstance(module, LoraLayer) and module.active_adapters:
                    branch = module.lora_B[module.active_adapters[0]]
                    self._watch(site, part, module, module.base_layer, branch, _lora_factors)
        for sites in prefix_sites(self.model):
            sites.observer = self._prefix
        return self

    def __exit__(self, *exception: Any) -> None:
        while self._handles:
            self._handles.pop().remove()
        for sites in prefix_sites(self.model):
            sites.observer = None

    def _watch(
        self,
        site: Site,
        part: str,
        whole: Any,
        frozen: Any,
        added: Any,
        factors: Callable[[Any], tuple[Tensor | float, Tensor | float]],
    ) -> None:
        seen: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, output: Tensor) -> None:
                seen[name] = output.detach()

            return hook

        def show(module: nn.Module, args: Any, output: Tensor) -> None:
            with torch.no_grad():
                h, delta = seen.pop("h"), seen.pop("delta")
                alpha, lam = factors(module)
                self.sink(Observation(site, part, alpha, lam, h, delta, output.detach()))

        self._handles += [
            frozen.register_forward_hook(keep("h")),
            added.register_forward_hook(keep("delta")),
            whole.register_forward_hook(show),
        ]

    def _prefix(self, site: Site, parts: Decomposition, output: Tensor) -> None:
        gate = parts.gate
        self.sink(Observation(site, "", 1 - gate, gate, parts.h, parts.delta, output.detach()))


def _lora_factors(layer: Any) -> tuple[Tensor | float, Tensor | float]:
    """Return alpha and lambda of a LoRA layer; with DoRA one number for each output feature."""
    name = layer.active_adapters[0]
    scale = layer.scaling[name]
    if name not in layer.lora_magnitude_vector:
        return 1.0, scale
    dora = layer.lora_magnitude_vector[name]
    update = layer.lora_B[name].weight @ layer.lora_A[name].weight
    norm = dora.get_weight_norm(layer.base_layer.weight, update, scale)
    alpha = dora.weight / norm
    return alpha, alpha * scale


@torch.no_grad()
def examine(model: Model, inputs: Mapping[str, Tensor]) -> list[Observation]:
    """Run one forward pass in evaluation mode and return all its observations.

    Args:
        model: a model with a method attached.
        inputs: arguments of the model's forward, such as `input_ids`, `attention_mask`, `labels`.

    Returns:
        In forward order, one observation for each site and part.

    Raises:
        ValueError: the method has no form `alpha * h + lambda * dh` here: full, frozen or merged.
    """
    observations: list[Observation] = []
    was_training = model.training
    model.eval()
    try:
        with UnifiedView(model, observations.append):
            model(**inputs)
    finally:
        model.train(was_training)
    if not observations:
        record = getattr(unwrap(model), "method_record", None)
        name = record.spec.method if record else "a bare backbone"
        raise ValueError(
            f"{name} has nothing of the form alpha*h + lambda*dh; use lora, adapter or "
            "prefix_tuning, not merged"
        )
    return observations
