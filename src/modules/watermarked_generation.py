"""Continue prompts under each watermarking scheme.

The loop over batches of ``src/datamodules/prompts.py``; marks and draws are
``src/algorithms/watermark``. A row's text depends on the seed, its prompt and its scheme, and not
on its batch: exactly so in the random numbers, and up to float32 rounding in the logits, which can
turn about one draw in a hundred thousand.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule

from src.algorithms.watermark.generation import continue_prompts
from src.algorithms.watermark.green_lists import PackedRows, Watermark
from src.algorithms.watermark.schemes import (
    SCHEMES,
    Ban,
    build_scheme,
    check_sampling,
    count_letter_e,
    tokens_with_e,
    unusable_tokens,
)
from src.backbones import load_causal_lm, load_config, load_tokenizer

Row = dict[str, Any]


class WatermarkedGeneration(LightningModule):
    """Writes one continuation of ``num_tokens`` tokens a row.

    Args:
        backbone: Spec of a causal language model.
        watermark: Fields of ``Watermark``; ``vocab_size`` and ``tokenizer`` may be None, for the
            backbone's.
        num_tokens: Length of every continuation.
        temperature: Divides the marked logits.
        top_k: Candidates to keep by rank; 0 keeps all.
        top_p: Probability that the kept candidates reach; 1 keeps all.
        is_round_trip_safe: Whether only tokens are drawn that reading the text gives back.
        has_look_alikes: Whether ``no_e`` also avoids letters that look like an e.
        seed: Of every draw.

    Raises:
        ValueError: If a parameter is out of range, or (in ``setup``) a scheme is unknown, the
            vocabulary is not the model's, a prompt is shorter than what chooses a green list, or
            a prompt and its continuation exceed the context.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        watermark: Mapping[str, Any],
        num_tokens: int = 100,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        is_round_trip_safe: bool = True,
        has_look_alikes: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_sampling(temperature, top_k, top_p)
        if num_tokens < 1:
            raise ValueError(f"num_tokens is {num_tokens}; a continuation has at least one token.")
        # the vocabulary is the model's and known later: a stand-in shows every other mistake now
        given = {**watermark, "temperature": temperature, "tokenizer": backbone["name"]}
        given["vocab_size"] = watermark.get("vocab_size") or 1 << 16
        if Watermark.from_mapping(given).bias is None:
            raise ValueError("watermark.bias is not set; soft needs how far to lower red logits.")
        self.sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        self.model: Any = None

    def setup(self, stage: str) -> None:
        hparams, data = self.hparams, self.trainer.datamodule
        unknown = [scheme for scheme in data.schemes if scheme not in SCHEMES]
        if unknown:
            raise ValueError(
                f"there is no scheme {unknown[0]!r}; choose from {', '.join(SCHEMES)}."
            )
        config = load_config(hparams["backbone"])
        vocab_size = hparams["watermark"].get("vocab_size") or config.vocab_size
        if vocab_size != config.vocab_size:
            raise ValueError(
                f"watermark.vocab_size is {vocab_size} and {hparams['backbone']['name']} has "
                f"{config.vocab_size} logits; leave it null to take the model's."
            )
        self.watermark = Watermark.from_mapping(
            {
                **hparams["watermark"],
                "vocab_size": vocab_size,
                "tokenizer": hparams["watermark"].get("tokenizer") or hparams["backbone"]["name"],
                "temperature": hparams["temperature"],
            }
        )
        self.rows = PackedRows(self.watermark.green_list())
        self.tokenizer = load_tokenizer(hparams["backbone"])
        limit = getattr(config, "max_position_embeddings", None)
        for number, ids in enumerate(self.tokenizer(data.prompts)["input_ids"], start=1):
            if not ids:
                raise ValueError(f"prompt {number} has no token; write at least a word.")
            width = self.watermark.context_width
            if len(ids) < width and {"hard", "soft"} & set(data.schemes):
                raise ValueError(
                    f"prompt {number} has {len(ids)} token(s), fewer than the {width} that choose "
                    "a green list; lengthen it, or lower watermark.context_width."
                )
            if limit and len(ids) + hparams["num_tokens"] > limit:
                raise ValueError(
                    f"prompt {number} has {len(ids)} tokens; with the {hparams['num_tokens']} to "
                    f"write that exceeds the {limit} that {hparams['backbone']['name']} sees. "
                    "Shorten it, or lower num_tokens."
                )
        self.with_e = tokens_with_e(
            self.tokenizer, vocab_size, has_look_alikes=hparams["has_look_alikes"]
        )
        self.ban = Ban(unusable_tokens(self.tokenizer, vocab_size))

    def configure_model(self) -> None:
        if self.model is None:
            self.model = load_causal_lm(self.hparams["backbone"])

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[Row]:
        scheme = batch["scheme"]
        mark = build_scheme(scheme, self.rows, self.watermark.bias or 0.0, self.with_e)
        start = time.perf_counter()
        result = continue_prompts(
            self.model,
            self.tokenizer,
            batch["prompt"],
            [(SCHEMES.index(scheme), i) for i in batch["prompt_index"]],
            mark,
            self.ban,
            self.hparams["num_tokens"],
            self.hparams["seed"],
            self.sampling,
            self.hparams["is_round_trip_safe"],
        )
        seconds = (time.perf_counter() - start) / len(batch["index"])
        texts = self.tokenizer.batch_decode(result.token_ids, clean_up_tokenization_spaces=False)
        if scheme == "no_e":
            self._check(texts)
        return [
            {
                "index": index,
                "prompt": prompt,
                "text": text,
                "token_ids": ids,
                "scheme": scheme,
                "watermark": self.watermark.to_mapping(),
                "nll": nll,
                "seconds": seconds,
            }
            for index, prompt, text, ids, nll in zip(
                batch["index"],
                batch["prompt"],
                texts,
                result.token_ids,
                result.nll.sum(dim=1).tolist(),
                strict=True,
            )
        ]

    def _check(self, texts: list[str]) -> None:
        """Look for an e in the decoded text: the tokenizer may join tokens into another string."""
        for text in texts:
            if count_letter_e(text, has_look_alikes=self.hparams["has_look_alikes"]):
                raise RuntimeError(f"a text of no_e holds an e after decoding: {text!r}")
