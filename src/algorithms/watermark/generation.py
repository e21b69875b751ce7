"""Continuing prompts under a scheme: the one loop that generation and its evaluation share.

The loop is transformers' ``generate``, which knows every model's cache, masks and positions; this
file adds the order of the processors (see :mod:`src.algorithms.watermark.schemes`), exact lengths
and the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from src.algorithms.watermark.schemes import Ban, SeededSampler


@dataclass(frozen=True)
class Continuation:
    """Generated tokens of a batch.

    Attributes:
        token_ids: One list of ``num_tokens`` ids a prompt.
        nll: Shape (batch, num_tokens): minus log-probability under the unmarked model, in nats.
        num_redraws: Tokens that were drawn again to be round-trip safe.
    """

    token_ids: list[list[int]]
    nll: Tensor
    num_redraws: int


def continue_prompts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    row_ids: Sequence[Sequence[int]],
    mark: Callable[[Tensor, Tensor], Tensor] | None,
    ban: Ban,
    num_tokens: int,
    seed: int,
    sampling: Mapping[str, Any] | None = None,
    is_round_trip_safe: bool = True,
) -> Continuation:
    """Continue prompts by exactly ``num_tokens`` tokens each.

    Args:
        model: A causal language model; prompts are moved to its device.
        tokenizer: Its tokenizer; the batch is padded on the left whatever its setting.
        prompts: Texts, none empty.
        row_ids: Identity of each row, on which with ``seed`` its random numbers depend.
        mark: Logits processor of the scheme, None for no mark.
        ban: Tokens that no scheme may draw (see ``unusable_tokens``).
        num_tokens: Length of every continuation.
        seed: Of the run.
        sampling: ``temperature``, ``top_k``, ``top_p``.
        is_round_trip_safe: Whether only tokens are drawn that decoding and encoding gives back.

    Returns:
        The continuations, without the prompts.
    """
    encoded = tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left")
    ids = encoded["input_ids"].to(model.device)
    sampler = SeededSampler(
        seed,
        row_ids,
        ids.shape[1],
        tokenizer=tokenizer if is_round_trip_safe else None,
        **(sampling or {}),
    )
    processors = [sampler.observe, ban, mark, sampler]
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            attention_mask=encoded["attention_mask"].to(model.device),
            generation_config=GenerationConfig(
                max_new_tokens=num_tokens,
                do_sample=False,  # the sampler has drawn: greedy takes what it left
                pad_token_id=tokenizer.pad_token_id,
            ),
            logits_processor=LogitsProcessorList([p for p in processors if p is not None]),
        )
    drawn = output[:, ids.shape[1] :]
    return Continuation(drawn.tolist(), sampler.nll, sampler.num_redraws)
