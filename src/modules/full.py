"""Full fine-tuning: the upper end of the comparison."""

from collections.abc import Mapping
from typing import Any

from src.algorithms.peft import FullFineTuningSpec, attach
from src.modules.base import Seq2Seq


class FullFineTuning(Seq2Seq):
    """A T5 with every weight trained.

    Args:
        backbone: The spec of the T5.
        **training: Arguments of `Seq2Seq`.
    """

    method = "full"

    def __init__(self, backbone: Mapping[str, Any], **training: Any) -> None:
        super().__init__(backbone, **training)
        self.spec = FullFineTuningSpec()

    def attach(self) -> None:
        self.model = attach(self.model, self.spec)
