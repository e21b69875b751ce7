"""Random models of a few thousand weights with a character tokenizer, in the hub's format."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '|' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
VOCABULARY = ["<pad>", "</s>", "<unk>", *string.printable.replace("\x0b", "").replace("\x0c", "")]


def tokenizer_folder(folder: Path, chat: bool = False, appends_end: bool = False) -> str:
    """Write a tokenizer of one token a character; return its folder."""
    backend = Tokenizer(
        models.WordLevel({token: i for i, token in enumerate(VOCABULARY)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if appends_end:
        backend.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 1)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        clean_up_tokenization_spaces=False, model_max_length=600,
    )  # fmt: skip
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return str(folder)


def t5_spec(folder: Path, **config: Any) -> dict[str, Any]:
    """Return the spec of a random T5."""
    return {
        "name": "tiny_t5",
        "family": "t5",
        "random": True,
        "tokenizer": tokenizer_folder(folder / "t5_tokenizer", appends_end=True),
        "config": {
            "vocab_size": len(VOCABULARY), "d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2,
            "num_heads": 2, "dropout_rate": 0.0, **config,
        },
    }  # fmt: skip


def causal_spec(folder: Path, chat: bool = True) -> dict[str, Any]:
    """Return the spec of a random Llama."""
    return {
        "name": "tiny_lm",
        "family": "causal_lm",
        "random": True,
        "tokenizer": tokenizer_folder(folder / f"lm_tokenizer_{chat}", chat=chat),
        "config": {
            "model_type": "llama", "vocab_size": len(VOCABULARY), "hidden_size": 16,
            "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "max_position_embeddings": 700, "eos_token_id": 1,
            "bos_token_id": 1, "pad_token_id": 0,
        },
    }  # fmt: skip
