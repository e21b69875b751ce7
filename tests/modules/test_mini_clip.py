from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from lightning.pytorch import Trainer

from src.backbones import BackboneError, load_clip
from src.datamodules.scenes import Scenes
from src.modules.mini_clip import MiniCLIP
from tests.tiny_clip import CAUSAL, EXPECTED_WARNINGS, write_bert

pytestmark = EXPECTED_WARNINGS


def train(teacher: dict[str, Any], phrases: Path, cache: Path) -> tuple[MiniCLIP, Trainer]:
    model = MiniCLIP(
        teacher,
        str(cache),
        embed_dim=32,
        text_width=32,
        text_layers=1,
        vision_width=32,
        vision_layers=1,
    )
    model._copy_words = lambda encoder: None  # type: ignore[method-assign]  # 49,408 words
    data = Scenes(str(phrases), batch_size=4, phrases_per_batch=4, steps=2, num_validation=4)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    return model, trainer


def test_it_trains_and_open_clip_loads_what_it_writes(tmp_path: Path) -> None:
    teacher = {"name": "t", "family": "clip", "path": str(write_bert(tmp_path / "b")), "text": "hf"}
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("a red cat\nthe old man sits\ntwo dog under a table\nhouse\n")
    model, trainer = train(teacher, phrases, tmp_path / "cache")
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    model.export(str(tmp_path / "out"))
    ours = load_clip({"name": "m", "family": "clip", "path": str(tmp_path / "out")})
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    rows = ours.tokenizer(["a red cat", "house"])
    with torch.no_grad():
        torch.testing.assert_close(ours.model.encode_text(rows), theirs.encode_text(rows))
        # The cut forward pass of training is the public one, up to the float16 of the file.
        mine = model.encode_texts(["a red cat", "house"])
        public = torch.nn.functional.normalize(ours.model.encode_text(rows), dim=-1)
    assert torch.allclose(mine, public, atol=5e-3)


def test_each_list_of_phrases_has_its_own_teaching(tmp_path: Path) -> None:
    teacher = {"name": "t", "family": "clip", "path": str(write_bert(tmp_path / "b")), "text": "hf"}
    learned = {}
    for name, lines in (("a", "a red cat\nhouse\n"), ("b", "house\na red cat\n"), ("c", "house\n")):
        phrases = tmp_path / f"{name}.txt"
        phrases.write_text(lines)
        model, _ = train(teacher, phrases, tmp_path / "cache")
        assert model._teacher_z is not None
        learned[name] = model._teacher_z.float()
    assert not torch.allclose(learned["a"][0], learned["a"][1], atol=1e-2)
    torch.testing.assert_close(learned["b"], learned["a"].flip(0), atol=2e-3, rtol=0)
    torch.testing.assert_close(learned["c"], learned["b"][:1], atol=2e-3, rtol=0)
    assert len(list((tmp_path / "cache").iterdir())) == 3


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ({"model": "ViT-X-99", "pretrained": "openai"}, ValueError, "no model 'ViT-X-99'"),
        ({"model": "ViT-B-32", "pretrained": "none"}, ValueError, "its tags are openai"),
        ({"model": "ViT-B-32", "pretrained": "openai"}, BackboneError, "backbone=mini_clip"),
        ({"path": "./nowhere"}, BackboneError, "does not exist"),
        ({"package": "no_such_package"}, BackboneError, "not installed"),
        ({"random": True, "model": "ViT-X-99"}, ValueError, "no model"),
    ],
)
def test_what_cannot_be_loaded_is_said(
    spec: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_clip({"name": "x", "family": "clip", **spec})


def test_another_family_is_refused() -> None:
    with pytest.raises(ValueError, match="family 't5'"):
        load_clip({"name": "x", "family": "t5"})
    one, two = (load_clip(CAUSAL).model.token_embedding.weight for _ in range(2))
    assert torch.equal(one, two)
