"""Attribution by the text's likelihood under each scheme, with the language model at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src.algorithms.watermark.likelihood import (
    model_logits,
    scheme_log_likelihoods,
    token_statistics,
)
from src.algorithms.watermark.schemes import SCHEMES, tokens_with_e
from src.backbones import load_causal_lm
from src.modules.attribution import Attribution, Reading


class LikelihoodDetector(Attribution):
    """Attributes by ``scheme_log_likelihoods`` of the backbone, one forward pass a batch.

    A text's numbers depend on its neighbours only by the rounding of float32 (see
    ``model_logits``).

    Args:
        backbone: Spec of the causal language model that may have written the texts.
        uses_prompt: Whether the model reads a row's ``prompt`` before its text, where there is one;
            then the first token is scored too.
        edit_rate: Share of tokens that were replaced; None fits it.
        **kwargs: See :class:`Attribution`.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        uses_prompt: bool = False,
        edit_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, **kwargs)
        self.save_hyperparameters()
        if edit_rate is not None and not 0.0 <= edit_rate < 1.0:
            raise ValueError(
                f"model.edit_rate is {edit_rate}; it is the share of replaced tokens: [0, 1)."
            )
        self._uses_prompt = uses_prompt
        self.model: Any = None

    def setup_detector(self) -> None:
        self._with_e = tokens_with_e(
            self.tokenizer,
            self.vocab_size,
            is_strict=False,
            has_look_alikes=self.hparams["has_look_alikes"],
        )

    def configure_model(self) -> None:
        if self.model is None:
            self.model = load_causal_lm(self.hparams["backbone"])

    def log_likelihoods(self, readings: Sequence[Reading]) -> NDArray[np.float64]:
        found = np.zeros((len(readings), len(SCHEMES)))
        texts = [[*reading.prompt_ids, *reading.ids] for reading in readings]
        nums_scored = [
            min(len(reading.ids), len(text) - reading.mark.context_width)
            for reading, text in zip(readings, texts, strict=True)
        ]
        scored = [number for number, num in enumerate(nums_scored) if num > 0]
        batch = model_logits(
            self.model, [texts[i] for i in scored], [nums_scored[i] for i in scored]
        )
        for index, logits in batch:
            number = scored[index]
            mark, ids = readings[number].mark, torch.tensor(texts[number], device=logits.device)
            statistics = token_statistics(
                logits,
                ids[-len(logits) :],
                ids.unfold(0, mark.context_width, 1)[-len(logits) - 1 : -1],
                self._lists[mark],
                self._with_e.to(logits.device),
                self.unusable.to(logits.device),
                mark.temperature,
            )
            found[number] = scheme_log_likelihoods(
                statistics,
                self._bias(mark),
                self.vocab_size,
                self.hparams["edit_rate"],
                mark.temperature,
                mark.context_width,
            )
        return found
