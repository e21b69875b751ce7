"""What every method shares."""

from pathlib import Path

import pytest
import torch

from src.modules.full import FullFineTuning
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
