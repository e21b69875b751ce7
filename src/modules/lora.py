"""LoRA on T5 (Hu et al. 2021, arXiv 2106.09685), through peft."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.algorithms.peft import LoRASpec, attach
from src.modules.base import Seq2Seq


class LoRA(Seq2Seq):
    """A T5 whose chosen matrices are trained by low-rank updates: `x W + (alpha / r) x A B`.

    Args:
        backbone: The spec of the T5.
        rank: Width r of the update, at least 1.
        alpha: The update is scaled by `alpha / rank`.
        dropout: Dropout before A, in [0, 1).
        targets: Which of q, k, v, o, wi and wo are updated, in every layer; wi stands for both
            input matrices of a gated T5.
        use_rslora: Scale by `alpha / sqrt(rank)` instead.
        use_dora: Train the norm of every output row apart.
        **training: Arguments of `Seq2Seq`.

    Raises:
        ValueError: If a value is out of its range or a target is unknown.
    """

    method = "lora"

    def __init__(
        self,
        backbone: Mapping[str, Any],
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: Sequence[str] = ("q", "v"),
        use_rslora: bool = False,
        use_dora: bool = False,
        **training: Any,
    ) -> None:
        targets = [targets] if isinstance(targets, str) else list(targets)
        super().__init__(backbone, **training)
        self.spec = LoRASpec(rank, alpha, dropout, targets, use_rslora, use_dora)

    def attach(self) -> None:
        self.model = attach(self.model, self.spec)
