"""A byte-level tokenizer of some hundred tokens and a random causal LM, in the hub's form."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parent.parent
VOCAB_SIZE = 512


@cache
def _tokenizer_json() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - 8,  # fewer tokens than logits, as padded vocabularies have
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = (ROOT / "assets/watermark/human.txt").read_text(encoding="utf-8")
    tokenizer.train_from_iterator(text.splitlines(), trainer)
    return tokenizer.to_str()


def save_tiny_causal_lm(folder: Path) -> dict[str, Any]:
    """Write tokenizer and model into a folder; return the backbone's spec."""
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tokenizer_json()),
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,  # far from uniform next-token distributions
        eos_token_id=0,
        bos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return {"name": "tiny", "family": "causal_lm", "path": str(folder)}


def load_tiny(spec: dict[str, Any]) -> tuple[Any, Any]:
    """Load tokenizer and model of :func:`save_tiny_causal_lm`."""
    tokenizer = AutoTokenizer.from_pretrained(spec["path"], padding_side="left")
    return tokenizer, AutoModelForCausalLM.from_pretrained(spec["path"]).eval()
