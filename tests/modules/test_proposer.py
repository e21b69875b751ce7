import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from src.datamodules.phrases import Phrases
from src.modules.inversion import Inversion
from src.modules.proposer import Proposer
from tests.tiny_clip import EXPECTED_WARNINGS, write_bert

pytestmark = EXPECTED_WARNINGS


def trainer(epochs: int = 1) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_a_trained_proposer_is_found_again(tmp_path: Path) -> None:
    spec = {"name": "tiny", "family": "clip", "path": str(write_bert(tmp_path / "b")), "text": "hf"}
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("a red cat\nthe old man sits\ntwo cat on a table\nhouse\nthe blue car\n" * 4)
    cache = tmp_path / "cache"
    settings = {"hidden_dim": 16, "neighbour_dim": 4, "num_negatives": 16, "num_validation": 3}
    model = Proposer(spec, str(cache), precision="float32", **settings)
    fit = trainer()
    fit.fit(model, datamodule=Phrases(str(phrases), batch_size=8, steps=4))
    assert 0 <= float(fit.callback_metrics["val/top_8"]) <= 1
    model.export(str(tmp_path / "out"))
    for folder in (cache, tmp_path / "out"):
        with safe_open(str(folder / "proposer_tiny.safetensors"), "pt") as file:
            meta = file.metadata()
            assert "table" not in file.keys()  # noqa: SIM118
        assert json.loads(meta["config"]) == {"hidden_dim": 16, "neighbour_dim": 4}
        assert meta["fingerprint"] == model.fingerprint()
    assert len(list(cache.glob("phrases-tiny-*.safetensors"))) == 1
    # Another seed draws other parts, as many: it must not read the first one's.
    other = Proposer(spec, str(cache), precision="float32", seed=1, **settings)
    trainer().fit(other, datamodule=Phrases(str(phrases), batch_size=8, steps=1))
    assert other.pairs != model.pairs
    assert other.encoder is not None
    right = other.encoder.encode_ids([part for _, _, part in other.pairs])
    torch.testing.assert_close(other.part.float(), right, atol=2e-3, rtol=0)
    # The search loads it; another encoder's weights leave it alone.
    user = Inversion(spec, str(cache))
    user.configure_model()
    user._trainer = fit  # type: ignore[assignment]
    assert user.load_proposer(user.load_table()) is not None
    assert user.encoder is not None
    path = cache / "proposer_tiny.safetensors"
    weights = load_file(path)
    del weights["bias"]
    save_file(weights, str(path), metadata=meta)
    with pytest.raises(ValueError, match="does not hold the weights of a proposer; remove it"):
        user.load_proposer(user.load_table())
    user.encoder.embedding.weight.data.mul_(2)
    assert user.load_proposer(user.load_table()) is None
    # A file that is asked for by name is not left out in silence.
    user.hparams.proposer = str(tmp_path / "out" / path.name)
    remedy = r"not made for these weights of tiny; make one with python train\.py model=proposer"
    with pytest.raises(ValueError, match=remedy):
        user.load_proposer(user.load_table())
