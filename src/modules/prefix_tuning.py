"""Prefix-tuning of T5 (Li & Liang 2021, arXiv 2101.00190)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from src.algorithms.peft import PrefixSpec, attach
from src.algorithms.peft.prefix import SITES
from src.modules.base import Seq2Seq


class PrefixTuning(Seq2Seq):
    """A frozen T5 whose attention also sees trained keys and values: `Attn(x; [P; C])`.

    Args:
        backbone: The spec of the T5.
        num_virtual_tokens: Length l of the prefix, at least 1.
        sites: Which attention gets one: any of encoder_self, decoder_self, decoder_cross.
        reparametrize: Whether the prefix is trained as the output of an MLP, which is dropped
            when the adapter is exported.
        mlp_dim: Width of that MLP's hidden layer, at least 1.
        init: How a free prefix starts: "activations" (keys and values of tokens) or "normal".
        init_text: The text of those tokens, with which the prefix begins; null takes random ones.
        **training: Arguments of `Seq2Seq`.

    Raises:
        ValueError: If a value is out of its range, a choice is unknown, or nothing would start from
            ``init_text``.
    """

    method = "prefix_tuning"

    def __init__(
        self,
        backbone: Mapping[str, Any],
        num_virtual_tokens: int = 20,
        sites: Sequence[str] = SITES,
        reparametrize: bool = True,
        mlp_dim: int = 512,
        init: str = "activations",
        init_text: str | None = None,
        **training: Any,
    ) -> None:
        sites = [sites] if isinstance(sites, str) else list(sites)
        super().__init__(backbone, **training)
        if init_text is not None and (reparametrize or init != "activations"):
            raise ValueError(
                f"model.init_text={init_text!r} needs model.reparametrize=false and "
                "model.init=activations: no other prefix starts from a text."
            )
        self.spec = PrefixSpec(num_virtual_tokens, sites, reparametrize, mlp_dim, init)

    def attach(self) -> None:
        if self.hparams["init_text"] is not None:
            ids = self.tokenizer(self.hparams["init_text"], add_special_tokens=False)["input_ids"]
            self.spec = replace(self.spec, init_ids=tuple(ids))
        self.model = attach(self.model, self.spec)
