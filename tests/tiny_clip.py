"""Towers of a few thousand weights: a causal one of CLIP's kind and a bidirectional one."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

#: Warnings of Lightning that say nothing about a fit of a few steps.
EXPECTED_WARNINGS = [
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step"),
]

WORDS = (
    *("a", "an", "the", "of", "in", "on", "red", "blue", "green", "old", "small", "cat", "dog"),
    *("house", "tree", "car", "man", "woman", "book", "table", "is", "was", "sits", "runs"),
    *("near", "under", "with", "and", "two", "three", "##s", "##ing", "##ed"),
)

CAUSAL = {
    "name": "tiny_causal",
    "family": "clip",
    "random": True,
    "seed": 1,
    "config": {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 16,
            "patch_size": 8,
            "width": 32,
            "layers": 1,
            "head_width": 16,
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    },
}


def write_bert(folder: Path) -> Path:
    """Write a random BERT of 60 words in the hub's form."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    vocab = {name: i for i, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = BertConfig(
            vocab_size=len(names),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=80,
            initializer_range=0.5,
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder
