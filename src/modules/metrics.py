"""Answer accuracy over problems, with unparsable outputs counted apart.

Decides what "accuracy" means everywhere in the project: the share of problems whose answer equals
the gold answer as an exact rational, up to the tolerance of the data set. An output without an
answer is wrong, and also counted as unparsable. The functional twin is
:func:`src.algorithms.answers.answers_match`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor
from torchmetrics import Metric

from src.algorithms.answers import answers_match


class AnswerAccuracy(Metric):
    """Share of problems answered correctly; states are integer counts that add up over ranks.

    ``compute`` returns the accuracy and the share of outputs without an answer, both in [0, 1] and
    both 0 before any update.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    correct: Tensor
    unparsable: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("correct", "unparsable", "total"):
            self.add_state(name, default=torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        predictions: Sequence[Fraction | None],
        golds: Sequence[Fraction | str],
        tolerances: Sequence[Fraction | str] | None = None,
    ) -> None:
        """Count a batch.

        Args:
            predictions: Parsed answers; None where the output had none.
            golds: Gold answers, as fractions or as strings that :class:`Fraction` reads.
            tolerances: Largest difference that counts as correct, one a problem; 0 if not given.

        Raises:
            ValueError: If the three are not equally long.
        """
        if tolerances is None:
            tolerances = [Fraction(0)] * len(golds)
        if not len(predictions) == len(golds) == len(tolerances):
            raise ValueError(
                f"{len(predictions)} predictions, {len(golds)} golds and {len(tolerances)} "
                "tolerances, expected one of each a problem"
            )
        self.correct += sum(
            answers_match(prediction, Fraction(gold), Fraction(tolerance))
            for prediction, gold, tolerance in zip(predictions, golds, tolerances, strict=True)
        )
        self.unparsable += sum(prediction is None for prediction in predictions)
        self.total += len(predictions)

    def compute(self) -> dict[str, Tensor]:
        """Return ``accuracy`` and ``unparsable``, scalars in [0, 1]."""
        total = self.total.clamp(min=1)
        return {"accuracy": self.correct / total, "unparsable": self.unparsable / total}
