"""The frozen backbone: the lower end of the comparison."""

from collections.abc import Mapping
from typing import Any

from src.algorithms.peft import FrozenSpec, attach
from src.modules.base import Seq2Seq


class Frozen(Seq2Seq):
    """A T5 as it was pretrained: nothing is trained.

    Args:
        backbone: The spec of the T5.
        **training: Arguments of `Seq2Seq`.
    """

    method = "frozen"

    def __init__(self, backbone: Mapping[str, Any], **training: Any) -> None:
        super().__init__(backbone, **training)
        self.spec = FrozenSpec()

    def attach(self) -> None:
        self.model = attach(self.model, self.spec)
