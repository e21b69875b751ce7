"""Encoders with tiny towers: causal, bidirectional, and fed at full length as SigLIP's is."""

from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import CustomTextCLIP

from src.algorithms.inversion.encoder import TextEncoder
from src.backbones import Clip, load_clip
from tests.tiny_clip import CAUSAL, WORDS, write_bert


@pytest.fixture(scope="session")
def bert_spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_bert(tmp_path_factory.mktemp("bert"))
    return {"name": "tiny_bert", "family": "clip", "path": str(folder), "text": "hf"}


@pytest.fixture(scope="session")
def make_encoder(bert_spec: dict[str, Any]) -> Callable[..., TextEncoder]:
    """Make a fresh encoder of a kind with a small vocabulary.

    Kinds: ``causal``, ``bidirectional``, ``padded`` (SigLIP: it pads with the token that ends a
    text) and ``stripped`` (CLIPA: it writes padding over that token).
    """

    def native(kind: str) -> tuple[Any, Any]:
        tower = {
            **CAUSAL["config"]["text_cfg"],
            "vocab_size": 64,
            "no_causal_mask": True,
            "pool_type": "last",
        }
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = CustomTextCLIP(32, CAUSAL["config"]["vision_cfg"], tower)
            torch.nn.init.normal_(model.text.positional_embedding, std=0.5)  # order must tell
        tokenizer = open_clip.tokenizer.HFTokenizer(
            bert_spec["path"], context_length=16, strip_sep_token=kind == "stripped"
        )
        if kind == "padded":
            tokenizer.tokenizer.pad_token = tokenizer.tokenizer.sep_token
        return model.requires_grad_(False).eval(), tokenizer

    def make(kind: str, **kwargs: Any) -> TextEncoder:
        if kind in ("padded", "stripped"):
            model, tokenizer = native(kind)
        else:
            clip: Clip = load_clip(CAUSAL if kind == "causal" else bert_spec)
            model, tokenizer = clip.model, clip.tokenizer
        if kind != "bidirectional":
            with torch.random.fork_rng():
                torch.manual_seed(5)  # louder words: open_clip's own are whispers
                embedding = getattr(model, "text", model).token_embedding
                torch.nn.init.normal_(embedding.weight, std=0.5)
        encoder = TextEncoder(model, tokenizer, **kwargs)
        if kind == "causal":
            words = [w for w in WORDS if not w.startswith("##")]
            ids = sorted({t for w in words for t in encoder.tokenize(w)})
            encoder.allowed_ids = lambda: ids  # type: ignore[method-assign]
        else:
            every = TextEncoder.allowed_ids(encoder)
            encoder.allowed_ids = lambda: [t for t in every if t >= 5]  # type: ignore[method-assign]
        return encoder

    return make
