"""What every method shares."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from src.backbones import load_tokenizer
from src.datamodules.problems import MathProblems
from src.modules.full import FullFineTuning
from src.modules.lora import LoRA
from tests.tiny_models import t5_spec


@pytest.fixture
def module(tmp_path: Path) -> FullFineTuning:
    module = FullFineTuning(backbone=t5_spec(tmp_path), word_dropout=0.3, num_beams=3)
    module.configure_model()
    return module


def test_training_hides_words_and_no_numbers(module: FullFineTuning) -> None:
    text = "Ann has 12 pens. " * 20
    batch = {**module.tokenizer([text], return_tensors="pt"), "index": [3]}
    seen: dict[str, list[torch.Tensor]] = {"training": [], "scored": []}
    module.log = lambda *_, **__: None  # pyright: ignore[reportAttributeAccessIssue]
    plain = module.loss
    for name in seen:
        module.loss = lambda b, name=name: (seen[name].append(b["attention_mask"]), plain(b))[1]  # pyright: ignore[reportAttributeAccessIssue]
        batch["labels"] = torch.tensor([[5, 1]])
        module.training_step(batch, 0) if name == "training" else module.loss(batch)
    is_digit = torch.tensor([character.isdigit() for character in text] + [False])
    (mask,), (whole,) = seen["training"], seen["scored"]
    assert mask[0, is_digit].all()
    assert 0.2 < 1 - mask[0, ~is_digit].float().mean() < 0.4
    assert whole.all()


def test_what_is_hidden_follows_the_problem(module: FullFineTuning) -> None:
    texts = ["one pen", "a much longer text about pens"]
    both = {**module.tokenizer(texts, padding=True, return_tensors="pt"), "index": [3, 8]}
    alone = {**module.tokenizer(texts[:1], return_tensors="pt"), "index": [3]}
    width = alone["input_ids"].shape[1]
    first, second = module._hide_words(both)
    torch.testing.assert_close(first[:width], module._hide_words(alone)[0], rtol=0, atol=0)
    assert 0 < second.sum() < both["attention_mask"][1].sum()


def fitting(folder: Path, ckpt_path: Path | None = None, rank: int = 2, **settings: Any) -> Trainer:
    """Train a tiny LoRA for a step, or go on to the second; ``data__x`` is the data's ``x``."""
    data = {key.removeprefix("data__"): settings.pop(key) for key in list(settings) if "__" in key}
    backbone = {**t5_spec(folder), **settings.pop("backbone", {})}
    module = LoRA(backbone=backbone, rank=rank, **{"max_new_tokens": 4, **settings})
    trainer = Trainer(
        accelerator="cpu", logger=False, max_steps=1 if ckpt_path is None else 2,
        enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
        limit_val_batches=0, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    problems = MathProblems(
        load_tokenizer(t5_spec(folder)),
        **{"num_train": 2, "num_val": 2, "max_source_length": 400, "batch_size": 2, **data},
    )
    trainer.fit(module, datamodule=problems, ckpt_path=ckpt_path, weights_only=bool(ckpt_path))
    return trainer


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"alpha": 32.0}, r"model\.alpha is 32\.0 here and was 16\.0"),
        ({"learning_rate": 1e-5}, r"model\.learning_rate is 1e-05"),
        ({"backbone": {"dropout_rate": 0.5}}, r"backbone\.dropout_rate is 0\.5 here and was None"),
        ({"data__batch_size": 4}, r"data\.batch_size is 4 here and was 2"),
        ({"data__target": "answer"}, r"data\.target is answer here and was equation"),
    ],
)
def test_training_goes_on_with_its_own_settings_only(tmp_path: Path, change, said: str) -> None:
    fitting(tmp_path).save_checkpoint(tmp_path / "last.ckpt")
    same = {"data__num_test": 9, "alpha": 16, "use_dora": 0, "max_new_tokens": 5}
    assert fitting(tmp_path, tmp_path / "last.ckpt", **same).global_step == 2
    with pytest.raises(ValueError, match=said):
        fitting(tmp_path, tmp_path / "last.ckpt", **change)
    with pytest.raises(ValueError, match=r"other settings of the method \(model\.rank is 4 here"):
        fitting(tmp_path, tmp_path / "last.ckpt", rank=4)


def test_the_most_plausible_beam_is_the_answer(
    module: FullFineTuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    beams = ["7 - 9", "7 / 9", "9 - 7"]
    ids = [module.tokenizer(beam)["input_ids"] for beam in beams]
    width = max(map(len, ids))
    made = torch.tensor([row + [0] * (width - len(row)) for row in ids])
    monkeypatch.setattr(module.model, "generate", lambda **_: made)
    batch = {
        **module.tokenizer(["x"], return_tensors="pt"),
        "index": [4], "question": ["?"], "gold": ["2"], "tolerance": ["0"],
        "numbers": [("7", "9")],
    }  # fmt: skip
    (row,) = module.answer(batch)
    assert row["output"].split() == ["9", "-", "7"]
    assert row["parsed"] == "2"
    assert row["correct"]
