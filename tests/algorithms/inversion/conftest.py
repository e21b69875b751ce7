"""Encoders with tiny towers of both kinds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from src.algorithms.inversion.encoder import TextEncoder
from src.backbones import load_clip
from tests.tiny_clip import CAUSAL, WORDS, write_bert


@pytest.fixture(scope="session")
def bert_spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_bert(tmp_path_factory.mktemp("bert"))
    return {"name": "tiny_bert", "family": "clip", "path": str(folder), "text": "hf"}


@pytest.fixture(scope="session")
def make_encoder(bert_spec: dict[str, Any]) -> Callable[..., TextEncoder]:
    """Make a fresh encoder, ``causal`` or ``bidirectional``, with a small vocabulary."""

    def make(kind: str, **kwargs: Any) -> TextEncoder:
        clip = load_clip(CAUSAL if kind == "causal" else bert_spec)
        if kind == "causal":
            with torch.random.fork_rng():
                torch.manual_seed(5)  # louder words: open_clip's own are whispers
                torch.nn.init.normal_(clip.model.token_embedding.weight, std=0.5)
        encoder = TextEncoder(clip.model, clip.tokenizer, **kwargs)
        if kind == "causal":
            words = [w for w in WORDS if not w.startswith("##")]
            ids = sorted({t for w in words for t in encoder.tokenize(w)})
            encoder.allowed_ids = lambda: ids  # type: ignore[method-assign]
        else:
            every = TextEncoder.allowed_ids(encoder)
            encoder.allowed_ids = lambda: [t for t in every if t >= 5]  # type: ignore[method-assign]
        return encoder

    return make
