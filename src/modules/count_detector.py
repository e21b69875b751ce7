"""Attribution by counting green tokens and letters e: a tokenizer, and no language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from src.algorithms.watermark.detection import count_log_likelihoods, evaluate_counts
from src.modules.attribution import Attribution, Reading


class CountDetector(Attribution):
    """Attributes by the numbers of green pairs and of letters e (see ``count_log_likelihoods``).

    Args:
        **kwargs: See :class:`Attribution`.
    """

    def log_likelihoods(self, readings: Sequence[Reading]) -> NDArray[np.float64]:
        return np.concatenate([self._log_likelihoods(reading) for reading in readings])

    def _log_likelihoods(self, reading: Reading) -> NDArray[np.float64]:
        """Shape (1, 4): texts of one batch may have different watermarks."""
        evidence, probability = reading.evidence, self._lists[reading.mark].probability
        counts = evaluate_counts(
            np.array([evidence["num_scored"]]), np.array([evidence["num_green"]]), probability
        )
        return count_log_likelihoods(
            counts,
            [evidence["num_e"]],
            [evidence["num_letters"]],
            probability,
            self._bias(reading.mark),
        )
