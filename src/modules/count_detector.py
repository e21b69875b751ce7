"""Attribution by counting green tokens and letters e: a tokenizer, and no language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from src.algorithms.watermark.detection import count_log_likelihoods, evaluate_counts
from src.algorithms.watermark.green_lists import Watermark
from src.modules.attribution import Attribution, Row


class CountDetector(Attribution):
    """Attributes by the numbers of green pairs and of letters e (see ``count_log_likelihoods``).

    Args:
        **kwargs: See :class:`Attribution`.
    """

    def log_likelihoods(
        self, ids: Sequence[int], prompt_ids: Sequence[int], mark: Watermark, evidence: Row
    ) -> NDArray[np.float64]:
        probability = self._lists[mark].probability
        counts = evaluate_counts(
            np.array([evidence["num_scored"]]), np.array([evidence["num_green"]]), probability
        )
        return count_log_likelihoods(
            counts,
            [evidence["num_e"]],
            [evidence["num_letters"]],
            probability,
            self._bias(mark),
        )[0]
