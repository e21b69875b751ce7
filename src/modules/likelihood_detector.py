"""Attribution by the text's likelihood under each scheme, with the language model at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.algorithms.watermark.green_lists import Watermark
from src.algorithms.watermark.likelihood import (
    model_logits,
    scheme_log_likelihoods,
    token_statistics,
)
from src.algorithms.watermark.schemes import tokens_with_e
from src.backbones import load_causal_lm
from src.modules.attribution import Attribution, Row, to_tensor


class LikelihoodDetector(Attribution):
    """Attributes by ``scheme_log_likelihoods`` of the backbone, one forward pass a text.

    Texts are run one at a time: a hundred tokens fill a matrix product as it is, and no text's
    numbers depend on the padding that its neighbours would bring.

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

    def log_likelihoods(
        self, ids: Sequence[int], prompt_ids: Sequence[int], mark: Watermark, evidence: Row
    ) -> NDArray[np.float64]:
        width = mark.context_width
        everything = [*prompt_ids, *ids]
        num_scored = min(len(ids), len(everything) - width)
        if num_scored < 1:
            return np.zeros(4)
        logits = model_logits(self.model, everything, num_scored)
        tensor = to_tensor(everything, logits.device)
        contexts = tensor.unfold(0, width, 1)[-num_scored - 1 : -1]
        statistics = token_statistics(
            logits,
            tensor[-num_scored:],
            contexts,
            self._lists[mark],
            self._with_e.to(logits.device),
            self.unusable.to(logits.device),
            mark.temperature,
        )
        return scheme_log_likelihoods(
            statistics,
            self._bias(mark),
            self.vocab_size,
            self.hparams["edit_rate"],
            mark.temperature,
            width,
        )
