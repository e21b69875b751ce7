"""Bottleneck adapters in T5 (Houlsby et al. 2019, arXiv 1902.00751)."""

from collections.abc import Mapping
from typing import Any

from src.algorithms.peft import AdapterSpec, attach
from src.modules.base import Seq2Seq


class Adapter(Seq2Seq):
    """A frozen T5 with trained bottlenecks in its sublayers: `h + s * f(z W_down) W_up`.

    Args:
        backbone: The spec of the T5.
        bottleneck_dim: Width m of the bottleneck, at least 1.
        placement: "houlsby" (after every attention and feed-forward sublayer) or "pfeiffer" (after
            the feed-forward sublayer only).
        form: "sequential" (z is the sublayer's output) or "parallel" (z is its input).
        scale: s; He et al. (2022) use 4 for the parallel form.
        nonlinearity: f: relu, gelu, silu, tanh or identity.
        init: "zero" (exactly the identity at first) or "houlsby" (near the identity).
        train_layer_norms: Whether the layer norms of the adapted sublayers are trained too.
        **training: Arguments of `Seq2Seq`.

    Raises:
        ValueError: If a value is out of its range or a choice is unknown.
    """

    method = "adapter"

    def __init__(
        self,
        backbone: Mapping[str, Any],
        bottleneck_dim: int = 64,
        placement: str = "houlsby",
        form: str = "sequential",
        scale: float = 1.0,
        nonlinearity: str = "gelu",
        init: str = "zero",
        train_layer_norms: bool = True,
        **training: Any,
    ) -> None:
        super().__init__(backbone, **training)
        self.spec = AdapterSpec(
            bottleneck_dim, placement, form, scale, nonlinearity, init, train_layer_norms
        )

    def attach(self) -> None:
        self.model = attach(self.model, self.spec)
