"""Bottleneck adapters in T5's residual sublayers (Houlsby et al. 2019, arXiv 1902.00751).

`h <- h + s * (f(z W_down + b_down) W_up + b_up)` where h is what a sublayer is about to add to the
residual stream. Sequential adapters read h itself (z = h); the parallel form of He et al. (2022,
arXiv 2110.04366) reads the sublayer's input. Houlsby places one after every attention and
feed-forward sublayer, Pfeiffer et al. (2021, arXiv 2005.00247) after the feed-forward sublayer
only. AdapterFusion, adapter dropping and sharing are left out.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from src.algorithms.peft.spec import MethodSpec
from src.algorithms.peft.t5 import Model, check_at_least_one, check_choice, sublayers

PLACEMENTS = ("houlsby", "pfeiffer")
FORMS = ("sequential", "parallel")
INITS = ("zero", "houlsby")
NONLINEARITIES = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}


class HoulsbyAdapter(nn.Module):
    """`h <- h + scale * (f(z W_down + b_down) W_up + b_up)`, after the sublayer's own dropout.

    It takes the place of a sublayer's dropout module, the last thing that T5 applies before the
    residual addition, so no name of a pretrained weight changes.

    Args:
        dropout: the dropout module whose place it takes.
        d_model: width d of h.
        bottleneck_dim: width m between the projections.
        nonlinearity: f, a key of `NONLINEARITIES`.
        init: "zero" sets W_up and its bias to zero, so that the fresh adapter is exactly the
            identity; "houlsby" draws both matrices from a normal distribution of standard deviation
            0.01 truncated at two deviations.
        scale: s.
        like: a tensor whose device and dtype the weights take.
    """

    def __init__(
        self,
        dropout: nn.Module,
        d_model: int,
        bottleneck_dim: int,
        nonlinearity: str = "gelu",
        init: str = "zero",
        scale: float = 1.0,
        like: Tensor | None = None,
    ) -> None:
        super().__init__()
        factory = {} if like is None else {"device": like.device, "dtype": like.dtype}
        self.dropout = dropout
        self.down = nn.Linear(d_model, bottleneck_dim, **factory)
        self.activation = NONLINEARITIES[nonlinearity]()
        self.up = nn.Linear(bottleneck_dim, d_model, **factory)
        self.scale = scale
        self._input: Tensor | None = None
        if init == "zero":
            nn.init.zeros_(self.up.weight)
        else:
            for linear in (self.down, self.up):
                nn.init.trunc_normal_(linear.weight, std=0.01, a=-0.02, b=0.02)
            nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.bias)

    def listen(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """Forward hook on the sublayer's layer norm: keep what the parallel form reads."""
        self._input = output

    def delta(self, z: Tensor) -> Tensor:
        """Return dh of the unified view, `f(z W_down + b_down) W_up + b_up`; z and dh (..., d)."""
        return self.up(self.activation(self.down(z)))

    def forward(self, h: Tensor) -> Tensor:
        """Add the bottleneck's output to the sublayer's, (..., d) to (..., d)."""
        z, self._input = self._input, None
        h = self.dropout(h)
        # torch.add fuses the scale: one pass over the activations instead of two.
        return torch.add(h, self.delta(h if z is None else z), alpha=self.scale)


@dataclass(frozen=True)
class AdapterSpec(MethodSpec):
    """Hyperparameters of adapters.

    Args:
        bottleneck_dim: width m of the bottleneck, at least 1.
        placement: "houlsby" (after each attention and feed-forward sublayer, cross-attention
            included) or "pfeiffer" (after the feed-forward sublayer only).
        form: "sequential" or "parallel".
        scale: s of the unified view; He et al. use 4 for the parallel form.
        nonlinearity: a key of `NONLINEARITIES`.
        init: "zero" (exactly the identity at first) or "houlsby" (near the identity).
        train_layer_norms: also train the layer norm of every adapted sublayer, as Houlsby et al.
            do.

    Note:
        T5 normalises before a sublayer, so the norm trained with an adapter is the one at the
        sublayer's input, and the parallel form reads the normalised input; the two final norms of
        the stacks stay frozen.

    Raises:
        ValueError: a size below one, an unknown choice, a scale that is not above zero.
    """

    method: ClassVar[str] = "adapter"

    bottleneck_dim: int = 64
    placement: str = "houlsby"
    form: str = "sequential"
    scale: float = 1.0
    nonlinearity: str = "gelu"
    init: str = "zero"
    train_layer_norms: bool = True

    def __post_init__(self) -> None:
        check_at_least_one("bottleneck_dim", self.bottleneck_dim)
        check_choice("placement", self.placement, PLACEMENTS)
        check_choice("form", self.form, FORMS)
        check_choice("nonlinearity", self.nonlinearity, tuple(NONLINEARITIES))
        check_choice("init", self.init, INITS)
        if not self.scale > 0:
            raise ValueError(f"scale is {self.scale!r}; it must be above 0")

    def adapts(self, sublayer: str) -> bool:
        """Whether a sublayer of that name gets an adapter."""
        return self.placement == "houlsby" or sublayer == "feed_forward"

    def attach(self, model: Model) -> Model:
        model.requires_grad_(False)
        for site, sublayer in sublayers(model):
            if not self.adapts(site.sublayer):
                continue
            norm = sublayer.layer_norm
            adapter = HoulsbyAdapter(
                sublayer.dropout,
                model.config.d_model,
                self.bottleneck_dim,
                self.nonlinearity,
                self.init,
                self.scale,
                like=norm.weight,
            )
            sublayer.dropout = adapter
            if self.form == "parallel":
                norm.register_forward_hook(adapter.listen)
            norm.requires_grad_(self.train_layer_norms)
        return model
