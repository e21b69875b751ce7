"""Prefix-tuning: trained keys and values in T5's attention (Li & Liang 2021, arXiv 2101.00190).

`h <- Attn(x; [P; C])`: every query may also attend to l trained pairs (P_k, P_v), at encoder
self-attention, decoder self-attention and decoder cross-attention. He et al. (2022, arXiv
2110.04366) rewrite it as `h <- (1 - lambda(x)) h + lambda(x) softmax(q P_k^T) P_v`, with lambda(x)
the attention mass on the prefix.

How the prefix gets there: a hook on each stack hands the prefixes to `forward` as a keyword
argument, which transformers passes on to the attention function; `prefix_attention`, registered
under `ATTENTION`, concatenates them to keys and values that have already been through the cache.
So no cache ever holds a prefix, positions and cache lengths stay those of the real tokens, and
beam search reorders what it should. The prefix has no position: its columns of relative bias and
mask are zero. T5 does not scale its scores, and neither do we.

Left out: prefixes in the input space that the frozen W_k and W_v project (prompt tuning at every
layer), and peft's own prefix-tuning, which needs `num_heads * d_kv == d_model`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from src.algorithms.peft.spec import MethodSpec
from src.algorithms.peft.t5 import (
    Dims,
    Model,
    Site,
    check_at_least_one,
    check_choice,
    check_choices,
    core,
    stacks,
    sublayers,
)

ATTENTION = "prefix"
"""Name of the attention function and of its mask function in transformers' registries."""

SITES = ("encoder_self", "decoder_self", "decoder_cross")
INITS = ("activations", "normal")
NEAR_ZERO = 0.1
"""Standard deviation of what a prefix that starts from given tokens has beyond them."""


class Decomposition(NamedTuple):
    """Attention with a prefix, taken apart: `output = (1 - gate) * h + gate * delta`.

    Attributes:
        gate: lambda(x), the attention mass on the prefix, (B, H, Q, 1).
        h: attention over the real positions alone, (B, H, Q, d_kv).
        delta: attention over the prefix alone, (B, H, Q, d_kv).
    """

    gate: Tensor
    h: Tensor
    delta: Tensor


Observer = Callable[[Site, Decomposition, Tensor], None]
"""Called with a site, its decomposition, and what attention really returned, (B, H, Q, d_kv)."""


class Prefix(nn.Module):
    """Free keys and values of one attention site for all layers of its stack.

    Args:
        num_layers: N of the stack.
        num_heads: H.
        num_virtual_tokens: l, the length of the prefix.
        d_kv: width of a head.
        like: a tensor whose device and dtype the weights take.
    """

    def __init__(
        self, num_layers: int, num_heads: int, num_virtual_tokens: int, d_kv: int, like: Tensor
    ) -> None:
        super().__init__()
        shape = (num_layers, num_heads, num_virtual_tokens, d_kv)
        self.key = nn.Parameter(torch.empty(shape, device=like.device, dtype=like.dtype).normal_())
        self.value = nn.Parameter(
            torch.empty(shape, device=like.device, dtype=like.dtype).normal_()
        )

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return P_k and P_v, each (N, H, l, d_kv)."""
        return self.key, self.value


class ReparametrizedPrefix(nn.Module):
    """Keys and values as the output of an MLP: `[P_k; P_v] = tanh(E W_1 + b_1) W_2 + b_2`.

    One embedding E (l x d) and one MLP for all layers of a site (Li & Liang Sec. 4.3). It only
    eases training; `materialize` replaces it by what it computes.

    Args:
        num_layers: N of the stack.
        num_heads: H.
        num_virtual_tokens: l.
        d_kv: width of a head.
        d_model: width d of the embedding.
        mlp_dim: d', width of the hidden layer.
        like: a tensor whose device and dtype the weights take.
    """

    def __init__(
        self,
        num_layers: int,
        num_heads: int,
        num_virtual_tokens: int,
        d_kv: int,
        d_model: int,
        mlp_dim: int,
        like: Tensor,
    ) -> None:
        super().__init__()
        self.shape = (num_virtual_tokens, 2, num_layers, num_heads, d_kv)
        factory: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.embedding = nn.Parameter(torch.empty(num_virtual_tokens, d_model, **factory).normal_())
        self.down = nn.Linear(d_model, mlp_dim, **factory)
        self.up = nn.Linear(mlp_dim, 2 * num_layers * num_heads * d_kv, **factory)
        self._frozen: tuple[Any, tuple[Tensor, Tensor]] | None = None

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return P_k and P_v, each (N, H, l, d_kv)."""
        if torch.is_grad_enabled():
            self._frozen = None
            return self._compute()
        # Generation calls this once a token while the weights stand still: compute it once.
        state = tuple((p.data_ptr(), p._version) for p in self.parameters())
        if self._frozen is None or self._frozen[0] != state:
            self._frozen = (state, self._compute())
        return self._frozen[1]

    def _compute(self) -> tuple[Tensor, Tensor]:
        flat = self.up(torch.tanh(self.down(self.embedding)))
        # (l, 2, N, H, d_kv) -> (2, N, H, l, d_kv)
        key, value = flat.view(self.shape).permute(1, 2, 3, 0, 4).unbind(0)
        return key, value

    def materialize(self) -> Prefix:
        """Return the free prefix that this MLP computes now."""
        length, _, num_layers, num_heads, d_kv = self.shape
        prefix = Prefix(num_layers, num_heads, length, d_kv, like=self.embedding)
        with torch.no_grad():
            key, value = self._compute()
            prefix.key.copy_(key)
            prefix.value.copy_(value)
        return prefix


class PrefixStates:
    """The prefixes of one forward pass of one stack, as they travel to the attention functions.

    T5 computes its relative bias once and shares it, and the mask, between all layers of a stack;
    padded with the prefix's zero columns they are shared here too, one tensor for all layers.
    """

    def __init__(
        self,
        pairs: dict[str, list[tuple[Tensor, Tensor]]],
        stack: str,
        observer: Observer | None,
    ) -> None:
        self.pairs = pairs
        self.stack = stack
        self.observer = observer
        self._bias: dict[str, tuple[Tensor | None, Tensor | None, Tensor]] = {}

    def bias(
        self,
        sublayer: str,
        query: Tensor,
        num_virtual_tokens: int,
        num_keys: int,
        position_bias: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Return relative bias plus mask with l zero columns in front, (1 or B, H, Q, l + K)."""
        known = self._bias.get(sublayer)
        if known is not None and known[0] is position_bias and known[1] is mask:
            return known[2]
        bias = additive_bias(query, num_keys, position_bias, mask)
        bias = pad(bias, (num_virtual_tokens, 0))
        self._bias[sublayer] = (position_bias, mask, bias)
        return bias


def additive_bias(
    query: Tensor, num_keys: int, position_bias: Tensor | None, mask: Tensor | None
) -> Tensor:
    """Return relative position bias and mask as one additive tensor of the query's dtype.

    Args:
        query: (B, H, Q, d_kv).
        num_keys: K.
        position_bias: (1, H, Q, K) or None.
        mask: boolean, True where attention is allowed, or additive, (B, 1, Q, K); or None.

    Returns:
        (1 or B, H, Q, K).
    """
    if position_bias is None:
        position_bias = query.new_zeros(1, query.shape[1], query.shape[2], num_keys)
    bias = position_bias.to(query.dtype)
    if mask is None:
        return bias
    if mask.dtype == torch.bool:
        return torch.where(mask, bias, torch.finfo(query.dtype).min)
    return bias + mask.to(query.dtype)


def decompose(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, prefix: tuple[Tensor, Tensor]
) -> Decomposition:
    """Split attention over `[P; C]` into its two parts, in the dtype of the query.

    `Attn(x; [P; C]) = (1 - lambda) Attn(x; C) + lambda Attn(x; P)` with
    `lambda = sum_P exp(s) / (sum_P exp(s) + sum_C exp(s))` (He et al. 2022, Eq. 7), computed from
    the logarithms of both sums, so that no large score overflows.

    Args:
        query: (B, H, Q, d_kv).
        key: keys of the real positions, (B, H, K, d_kv).
        value: values of the real positions, (B, H, K, d_kv).
        bias: relative bias plus mask of the real positions, (1 or B, H, Q, K).
        prefix: P_k and P_v, each (H, l, d_kv).
    """
    prefix_key, prefix_value = (states.to(query.dtype) for states in prefix)
    scores = query @ key.transpose(-1, -2) + bias
    prefix_scores = query @ prefix_key.transpose(-1, -2)
    gate = torch.sigmoid(
        prefix_scores.logsumexp(-1, keepdim=True) - scores.logsumexp(-1, keepdim=True)
    )
    return Decomposition(gate, scores.softmax(-1) @ value, prefix_scores.softmax(-1) @ prefix_value)


def prefix_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float = 1.0,
    position_bias: Tensor | None = None,
    prefix_states: PrefixStates | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend to the prefix and to the real positions: transformers' attention interface.

    Args:
        module: the `T5Attention` that calls; its layer and kind pick the prefix.
        query: (B, H, Q, d_kv).
        key: keys after the cache update, (B, H, K, d_kv).
        value: values after the cache update, (B, H, K, d_kv).
        attention_mask: see `additive_bias`.
        dropout: probability of dropping an attention weight.
        scaling: factor on the scores; T5 passes 1.
        position_bias: (1, H, Q, K) or None.
        prefix_states: what the hook on the stack made; None where a stack has no prefix.
        **kwargs: the rest of transformers' interface; only `output_attentions` is read.

    Returns:
        The output (B, Q, H, d_kv), and the weights (B, H, Q, l + K) if they were asked for.
    """
    is_cross = module.is_decoder and not module.is_causal
    sublayer = "cross_attention" if is_cross else "self_attention"
    if prefix_states is None or sublayer not in prefix_states.pairs:
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            position_bias=position_bias,
            **kwargs,
        )
    prefix = prefix_states.pairs[sublayer][module.layer_idx]
    num_virtual_tokens, num_keys = prefix[0].shape[-2], key.shape[-2]
    bias = prefix_states.bias(
        sublayer, query, num_virtual_tokens, num_keys, position_bias, attention_mask
    )
    both = [p.to(key.dtype).expand(len(query), -1, -1, -1) for p in prefix]
    all_keys, all_values = torch.cat([both[0], key], 2), torch.cat([both[1], value], 2)
    weights = None
    if kwargs.get("output_attentions"):
        weights = (query @ all_keys.transpose(-1, -2) * scaling + bias).softmax(-1)
        weights = nn.functional.dropout(weights, p=dropout, training=module.training)
        output = weights @ all_values
    else:
        output = scaled_dot_product_attention(
            query, all_keys, all_values, attn_mask=bias, dropout_p=dropout, scale=scaling
        )
    if prefix_states.observer is not None:
        with torch.no_grad():
            site = Site(prefix_states.stack, module.layer_idx, sublayer)
            real = bias[..., num_virtual_tokens:]
            parts = decompose(query * scaling, key, value, real, prefix)
            prefix_states.observer(site, parts, output)
    return output.transpose(1, 2).contiguous(), weights


def prefix_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Make the boolean mask that `prefix_attention` needs: never left to SDPA's causal flag.

    The flag would forbid the columns of the prefix to the first queries.
    """
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


# An attention function without a mask function of the same name gets no mask at all, silently.
AttentionInterface.register(ATTENTION, prefix_attention)
AttentionMaskInterface.register(ATTENTION, prefix_mask)


class PrefixSites(nn.ModuleDict):
    """The prefixes of one stack, by sublayer; `observer`, while it is set, sees each forward."""

    def __init__(self, stack: str, prefixes: dict[str, nn.Module]) -> None:
        super().__init__(prefixes)
        self.stack = stack
        self.observer: Observer | None = None

    def states(self) -> PrefixStates:
        """Return the prefixes for one forward pass, layer by layer."""
        pairs = {
            sublayer: list(zip(*(states.unbind(0) for states in prefix()), strict=True))
            for sublayer, prefix in self.items()
        }
        return PrefixStates(pairs, self.stack, self.observer)


def _hand_over(
    stack: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Forward pre-hook of a stack; it holds no reference, so a deep copy of the model works."""
    return args, {**kwargs, "prefix_states": stack.prefix.states()}


def prefix_sites(model: Model) -> Iterator[PrefixSites]:
    """Yield the prefixes of both stacks, where there are any."""
    for _, stack in stacks(model):
        if isinstance(getattr(stack, "prefix", None), PrefixSites):
            yield stack.prefix


def materialize(model: Model) -> Model:
    """Replace every reparametrised prefix by the keys and values that it computes."""
    for sites in prefix_sites(model):
        for sublayer, prefix in sites.items():
            if isinstance(prefix, ReparametrizedPrefix):
                sites[sublayer] = prefix.materialize()
    return model


@dataclass(frozen=True)
class PrefixSpec(MethodSpec):
    """Hyperparameters of prefix-tuning.

    Args:
        num_virtual_tokens: l, the length of the prefix, at least 1.
        sites: where prefixes go: any of `SITES`.
        reparametrize: train an embedding and an MLP whose output is the prefix.
        mlp_dim: d', width of that MLP's hidden layer, at least 1.
        init: how a free prefix starts: "activations" takes the keys and values that the frozen
            model computes for tokens (Li & Liang Sec. 7.4), "normal" draws from a standard normal
            distribution. A reparametrised prefix starts from random weights.
        init_ids: those tokens, at most l; the rest of the prefix then starts near zero, so that at
            first it takes little attention. None draws l tokens from the vocabulary.

    Raises:
        ValueError: a size below one, an unknown site or init, or `init_ids` that are too many or
            that nothing would start from.
    """

    method: ClassVar[str] = "prefix_tuning"

    num_virtual_tokens: int = 20
    sites: Sequence[str] = SITES
    reparametrize: bool = True
    mlp_dim: int = 512
    init: str = "activations"
    init_ids: Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_at_least_one("num_virtual_tokens", self.num_virtual_tokens)
        check_at_least_one("mlp_dim", self.mlp_dim)
        check_choice("init", self.init, INITS)
        object.__setattr__(self, "sites", check_choices("sites", self.sites, SITES))
        if self.init_ids is None:
            return
        if self.reparametrize or self.init != "activations":
            raise ValueError(
                "a prefix starts from given tokens only where reparametrize is false and init is "
                '"activations".'
            )
        if not 0 < len(self.init_ids) <= self.num_virtual_tokens:
            raise ValueError(
                f"a prefix of num_virtual_tokens={self.num_virtual_tokens} cannot start from "
                f"{len(self.init_ids)} tokens; give it at least one, and no more than it has."
            )

    def sublayers(self, stack: str) -> tuple[str, ...]:
        """Return the names of the sublayers of a stack that get a prefix."""
        kinds = {"self": "self_attention", "cross": "cross_attention"}
        pairs = (site.split("_") for site in self.sites)
        return tuple(kinds[kind] for where, kind in pairs if where == stack)

    def materialized(self) -> "PrefixSpec":
        """Return the spec of the same prefix without its MLP."""
        return replace(self, reparametrize=False)

    def _initial_ids(self, model: Model) -> Tensor:
        if self.init_ids is not None:
            return torch.tensor(self.init_ids)
        return torch.randint(2, model.config.vocab_size, (self.num_virtual_tokens,))

    def attach(self, model: Model) -> Model:
        model.requires_grad_(False)
        dims = Dims.of(model.config)
        like = model.shared.weight
        for name, stack in stacks(model):
            num_layers = dims.num_layers if name == "encoder" else dims.num_decoder_layers
            shape = (num_layers, dims.num_heads, self.num_virtual_tokens, dims.d_kv)
            prefixes: dict[str, nn.Module] = {}
            for sublayer in self.sublayers(name):
                if self.reparametrize:
                    prefixes[sublayer] = ReparametrizedPrefix(
                        *shape, dims.d_model, self.mlp_dim, like
                    )
                else:
                    prefixes[sublayer] = Prefix(*shape, like)
            if not prefixes:
                continue
            if self.init == "activations" and not self.reparametrize and not like.is_meta:
                _copy_activations(model, name, prefixes, self._initial_ids(model))
            stack.prefix = PrefixSites(name, prefixes)
            stack.register_forward_pre_hook(_hand_over, with_kwargs=True)
        model.set_attn_implementation(ATTENTION)
        return model

    def merge(self, model: Model) -> Model:
        return materialize(model)


@torch.no_grad()
def _copy_activations(
    model: Model, stack: str, prefixes: dict[str, nn.Module], ids: Tensor
) -> None:
    """Start free prefixes with the keys and values of tokens (at most l,), the rest near zero."""
    seen: dict[Site, dict[str, Tensor]] = {}
    handles = []
    for site, sublayer in sublayers(model):
        if site.stack != stack or site.sublayer not in prefixes:
            continue
        attention, found = core(sublayer), seen.setdefault(site, {})
        for name, target in (("k", "key"), ("v", "value")):

            def keep(module: nn.Module, args: Any, output: Tensor, *, into=found, under=target):
                into[under] = output

            handles.append(getattr(attention, name).register_forward_hook(keep))
    ids = ids[None].to(model.shared.weight.device)
    was_training = model.training
    try:
        model.eval()(input_ids=ids, decoder_input_ids=ids, use_cache=False)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    for site, states in seen.items():
        for target, output in states.items():
            weight = getattr(prefixes[site.sublayer], target)
            _, num_heads, _, d_kv = weight.shape
            # (1, tokens, H * d_kv) -> (H, tokens, d_kv)
            states = output.view(-1, num_heads, d_kv).transpose(0, 1)
            # Not zero: equal keys and values would have equal gradients for ever.
            weight[site.layer].normal_(std=NEAR_ZERO)[:, : states.shape[1]].copy_(states)
