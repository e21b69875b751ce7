"""Where a T5 can be wrapped: its stacks, its residual sublayers, its attention modules.

Everything that this package relies on in transformers' T5 (attribute names, the order of the
sublayers, the way keyword arguments travel to the attention function) is written down here or in
`prefix.py`, and `tests/algorithms/peft/test_contract.py` names it, so that a new minor version of
transformers fails in one place.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

Model = Any
"""A `T5ForConditionalGeneration`, or a peft model around one."""

STACKS = ("encoder", "decoder")
SUBLAYERS = ("self_attention", "cross_attention", "feed_forward")


@dataclass(frozen=True, order=True)
class Site:
    """One residual sublayer of a T5: `encoder.3.feed_forward`."""

    stack: str
    layer: int
    sublayer: str

    def __str__(self) -> str:
        return f"{self.stack}.{self.layer}.{self.sublayer}"


@dataclass(frozen=True)
class Dims:
    """The sizes of a T5 that parameter counts depend on.

    `num_heads * d_kv` need not equal `d_model` (flan-t5-small, T5 v1.1 small, t5-3b, t5-11b).
    """

    d_model: int
    d_kv: int
    d_ff: int
    num_heads: int
    num_layers: int
    num_decoder_layers: int
    vocab_size: int
    is_gated: bool
    num_buckets: int = 32
    has_tied_head: bool = True

    @property
    def inner_dim(self) -> int:
        """Width of q, k and v: `H * d_kv`."""
        return self.num_heads * self.d_kv

    @classmethod
    def of(cls, config: Any) -> Self:
        """Read the sizes from a `T5Config` or a plain mapping in the format of a T5's config.json.

        Args:
            config: a `transformers.T5Config`, a mapping with the same names, or a `Dims`.

        Raises:
            ValueError: a size is missing or below one.
        """
        if isinstance(config, cls):
            return config
        is_mapping = isinstance(config, Mapping)
        given = dict(config) if is_mapping else config.to_dict()
        required = ("d_model", "d_kv", "d_ff", "num_heads", "num_layers", "vocab_size")
        missing = [name for name in required if given.get(name) is None]
        if missing:
            raise ValueError(
                f"a T5 config needs {', '.join(required)}; missing: {', '.join(missing)}"
            )
        sizes = {name: int(given[name]) for name in required}
        sizes["num_decoder_layers"] = int(given.get("num_decoder_layers") or sizes["num_layers"])
        for name, size in sizes.items():
            check_at_least_one(name, size)
        if is_mapping:
            has_tied_head = given.get("tie_word_embeddings", True) is not False
        else:
            # T5Config overwrites `tie_word_embeddings` with True; this keeps what config.json said.
            has_tied_head = bool(getattr(config, "scale_decoder_outputs", True))
        return cls(
            **sizes,
            is_gated=str(given.get("feed_forward_proj", "relu")).startswith("gated"),
            num_buckets=int(given.get("relative_attention_num_buckets", 32)),
            has_tied_head=has_tied_head,
        )

    def sites(self) -> Iterator[Site]:
        """Every residual sublayer in the order of the forward pass."""
        for layer in range(self.num_layers):
            yield Site("encoder", layer, "self_attention")
            yield Site("encoder", layer, "feed_forward")
        for layer in range(self.num_decoder_layers):
            for sublayer in SUBLAYERS:
                yield Site("decoder", layer, sublayer)


def unwrap(model: Model) -> Any:
    """Return the T5 inside a peft model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def stacks(model: Model) -> Iterator[tuple[str, Any]]:
    """Yield `("encoder", stack)` and `("decoder", stack)` of a T5."""
    for name in STACKS:
        yield name, getattr(unwrap(model), name)


def sublayers(model: Model) -> Iterator[tuple[Site, Any]]:
    """Yield each residual sublayer (it owns `layer_norm` and `dropout`) with its site, in forward
    order.
    """
    for stack, module in stacks(model):
        names = SUBLAYERS if stack == "decoder" else ("self_attention", "feed_forward")
        for index, block in enumerate(module.block):
            for name, sublayer in zip(names, block.layer, strict=True):
                yield Site(stack, index, name), sublayer


def core(sublayer: Any) -> Any:
    """Return the attention or feed-forward module inside a residual sublayer: the owner of q, k, v,
    o or wi, wo.
    """
    for name in ("SelfAttention", "EncDecAttention", "DenseReluDense"):
        if hasattr(sublayer, name):
            return getattr(sublayer, name)
    raise TypeError(f"{type(sublayer).__name__} is no sublayer of a T5 block")


def check_at_least_one(name: str, value: int) -> int:
    """Return `value`, or say that a size must be a whole number of at least one.

    Raises:
        ValueError: `value` is not an integer or is below one.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    return value


def check_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """Return `value`, or list the choices.

    Raises:
        ValueError: `value` is none of `choices`.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of: {', '.join(choices)}")
    return value


def check_choices(
    name: str, values: Sequence[str] | str, choices: Sequence[str]
) -> tuple[str, ...]:
    """Return `values` in the order of `choices`, each once, or list the choices.

    Raises:
        ValueError: `values` is empty or holds a name that is none of `choices`.
    """
    given = [values] if isinstance(values, str) else [str(value) for value in values]
    unknown = [value for value in given if value not in choices]
    if unknown or not given:
        what = f"holds {', '.join(map(repr, unknown))}" if unknown else "is empty"
        raise ValueError(f"{name} {what}; choose at least one of: {', '.join(choices)}")
    return tuple(choice for choice in choices if choice in given)
