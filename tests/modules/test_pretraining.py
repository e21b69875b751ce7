"""Pretraining: the start of the weights, the optimiser's rates, the averaged export."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    T5Config,
    T5ForConditionalGeneration,
)

from src.datamodules.pretraining import PretrainingText
from src.datamodules.vocabulary import train_tokenizer
from src.datamodules.worlds import make_story
from src.modules.pretraining import (
    Pretraining,
    embeddings_from_encoder,
    with_encoder_layers,
    with_heads,
)

CONFIG = {"vocab_size": 704, "d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1}


@pytest.fixture(scope="module")
def tokenizer():
    rng = random.Random(0)
    return train_tokenizer((make_story(rng).text for _ in range(400)), 700)


def _fit(
    tokenizer,
    folder: Path,
    kind: type[Pretraining] = Pretraining,
    steps: int = 12,
    **settings: Any,
) -> Pretraining:
    torch.manual_seed(0)
    module = kind(CONFIG, **settings)
    data = PretrainingText(
        tokenizer, None, num_steps=steps, batch_size=4, num_val=4, pool_batches=2
    )
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        gradient_clip_val=1.0, val_check_interval=min(steps, 6), num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert 0 <= trainer.callback_metrics["val/exact"] <= 1
    assert torch.isfinite(trainer.callback_metrics["val/loss"])
    return module


def test_a_few_steps_export_a_backbone_that_loads(tokenizer, tmp_path: Path) -> None:
    module = _fit(tokenizer, tmp_path, learning_rate=1e-2)
    module.export(tmp_path / "t5")
    loaded = T5ForConditionalGeneration.from_pretrained(tmp_path / "t5", dtype=torch.float32)
    expected = module.average.state_dict()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name].to(torch.bfloat16).float()), name
    ids = AutoTokenizer.from_pretrained(tmp_path / "t5")("Tom has number0 apples.")
    assert ids == tokenizer("Tom has number0 apples.")


def test_training_goes_on_from_given_weights(tokenizer, tmp_path: Path) -> None:
    _fit(tokenizer, tmp_path).export(tmp_path / "t5")
    module = Pretraining(CONFIG, start=str(tmp_path / "t5"))
    module._trainer = SimpleNamespace(datamodule=SimpleNamespace(tokenizer=tokenizer))  # type: ignore[assignment]
    module.configure_model()
    loaded = T5ForConditionalGeneration.from_pretrained(tmp_path / "t5", dtype=torch.float32)
    for name, value in module.model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    assert module.model.training
    with pytest.raises(FileNotFoundError, match=r"model\.start"):
        Pretraining(CONFIG, start=str(tmp_path / "none"))


def test_more_encoder_layers_compute_the_same_and_can_be_trained() -> None:
    torch.manual_seed(0)
    config = T5Config(
        **CONFIG | {"num_layers": 3, "num_decoder_layers": 1}, decoder_start_token_id=0
    )
    model = T5ForConditionalGeneration(config).eval()
    ids, labels = torch.randint(3, 700, (2, 9)), torch.randint(3, 700, (2, 5))
    grown = with_encoder_layers(model, 5).eval()
    assert grown.config.num_layers == len(grown.encoder.block) == 5
    assert model.config.num_layers == 3
    result = grown(input_ids=ids, labels=labels)
    torch.testing.assert_close(result.logits, model(input_ids=ids, labels=labels).logits)
    result.loss.backward()
    is_new = [not b.layer[1].DenseReluDense.wo.weight.any() for b in grown.encoder.block]
    assert is_new == [False, False, True, False, True]
    assert all(b.layer[1].DenseReluDense.wo.weight.grad.any() for b in grown.encoder.block)
    assert with_encoder_layers(model, 3) is model
    for wrong in (2, 7):
        with pytest.raises(ValueError, match="give 3 to 6"):
            with_encoder_layers(model, wrong)


def test_more_heads_compute_the_same_and_can_be_trained() -> None:
    torch.manual_seed(0)
    config = T5Config(
        **CONFIG | {"num_layers": 2, "num_decoder_layers": 1}, decoder_start_token_id=0
    )
    model = T5ForConditionalGeneration(config).eval()
    old, size = config.num_heads, config.d_kv
    ids, labels = torch.randint(3, 700, (2, 9)), torch.randint(3, 700, (2, 5))
    grown = with_heads(model, old + 3).eval()
    assert (grown.config.num_heads, model.config.num_heads) == (old + 3, old)
    result = grown(input_ids=ids, labels=labels)
    torch.testing.assert_close(result.logits, model(input_ids=ids, labels=labels).logits)
    result.loss.backward()
    attentions = [m for n, m in grown.named_modules() if n.endswith("Attention")]
    assert len(attentions) == 4
    for attention in attentions:
        assert not attention.o.weight[:, old * size :].any()
        assert attention.o.weight.grad[:, old * size :].any()
    assert with_heads(model, old) is model
    with pytest.raises(ValueError, match=f"give at least {old}"):
        with_heads(model, old - 1)


def test_new_heads_look_for_the_same_word() -> None:
    torch.manual_seed(0)
    config = T5Config(**CONFIG | {"num_layers": 1}, decoder_start_token_id=0)
    grown = with_heads(T5ForConditionalGeneration(config), config.num_heads + 1).eval()
    block = grown.encoder.block[0].layer[0]
    ids = torch.tensor([[10, 20, 30, 40, 50, 20, 60]])
    states = block.layer_norm(grown.shared(ids))
    new = slice(config.num_heads * config.d_kv, None)
    queries, keys = (getattr(block.SelfAttention, w)(states)[0][:, new] for w in "qk")
    bias = block.SelfAttention.compute_bias(7, 7)[0, config.num_heads]
    for position, like in ((1, 5), (5, 1)):
        assert (queries @ keys.T + bias)[position].argmax() == like


def test_layers_and_heads_are_added_to_given_weights_only(tokenizer, tmp_path: Path) -> None:
    _fit(tokenizer, tmp_path).export(tmp_path / "t5")
    module = Pretraining(CONFIG, start=str(tmp_path / "t5"), encoder_layers=2, num_heads=5)
    module._trainer = SimpleNamespace(datamodule=SimpleNamespace(tokenizer=tokenizer))  # type: ignore[assignment]
    module.configure_model()
    assert module.model.config.num_layers == module.average.config.num_layers == 2
    assert module.model.config.num_heads == module.average.config.num_heads == 5
    with pytest.raises(ValueError, match=r"model\.config\.num_layers"):
        Pretraining(CONFIG, encoder_layers=2)
    with pytest.raises(ValueError, match=r"model\.config\.num_heads"):
        Pretraining(CONFIG, num_heads=5)


def test_the_average_lags_behind_the_weights(tokenizer, tmp_path: Path) -> None:
    module = _fit(tokenizer, tmp_path, learning_rate=1e-2, average_decay=0.99)
    trained, averaged = module.model.shared.weight, module.average.shared.weight
    assert not torch.equal(trained, averaged)
    assert not averaged.requires_grad


@pytest.mark.parametrize("steps", [12, 5])
def test_without_decay_the_weights_themselves_are_scored_and_exported(
    tokenizer, tmp_path: Path, steps: int
) -> None:
    scored: list[torch.Tensor] = []

    class Watched(Pretraining):
        def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
            assert torch.equal(self.average.shared.weight, self.model.shared.weight)
            scored.append(self.model.shared.weight.detach().clone())
            super().validation_step(batch, batch_idx)

    module = _fit(tokenizer, tmp_path, Watched, steps, learning_rate=1e-2, average_decay=0.0)
    assert torch.equal(scored[-1], module.average.shared.weight)


def test_the_last_steps_are_part_of_the_average(tokenizer, tmp_path: Path) -> None:
    start = _fit(tokenizer, tmp_path, steps=1, learning_rate=1e-9).average.shared.weight
    module = _fit(tokenizer, tmp_path, steps=7, learning_rate=1e-2, average_decay=0.995)
    assert (module.average.shared.weight - start).abs().max() > 1e-3


def test_rates_follow_the_size_of_a_tensor(tokenizer) -> None:
    module = Pretraining(CONFIG, learning_rate=1e-2, weight_decay=0.1)
    module._trainer = SimpleNamespace(  # type: ignore[assignment]
        datamodule=SimpleNamespace(tokenizer=tokenizer), estimated_stepping_batches=100
    )
    module.configure_model()
    optimizer = module.configure_optimizers()["optimizer"]
    named = {id(p): name for name, p in module.model.named_parameters()}
    rates, decay = {}, {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            rates[named[id(parameter)]] = group["initial_lr"]
            decay[named[id(parameter)]] = group["weight_decay"]
    assert set(rates) == set(named.values()), "every tensor is trained once"
    assert rates["shared.weight"] == pytest.approx(1e-2)
    attention = "encoder.block.0.layer.0.SelfAttention"
    assert rates[f"{attention}.q.weight"] == pytest.approx(1e-2 / (16 * 8) ** 0.5)
    assert rates[f"{attention}.k.weight"] == pytest.approx(1e-2 / 4)
    assert decay["shared.weight"] == 0
    assert decay[f"{attention}.q.weight"] == 0.1


def test_embeddings_from_an_encoder_keep_like_words_close(tmp_path: Path) -> None:
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "number", "apple", "pear", "give", ",", "a"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    encoder = BertModel(config)
    with torch.no_grad():
        table = encoder.embeddings.word_embeddings.weight
        table[6] = table[5]  # apple and pear are the same thing to this encoder
    encoder.save_pretrained(tmp_path)
    spec = {"name": "tiny", "family": "encoder", "path": str(tmp_path)}
    tokens = ["<pad>", "▁number0", "▁number1", "▁apple", "▁pear", "▁give", ",", "▁a"]
    made = embeddings_from_encoder(spec, tokens, 6)
    assert made.shape == (8, 6)
    assert made.std().item() == pytest.approx(1.0, abs=1e-4)
    similarity = torch.nn.functional.cosine_similarity(made[3], made[4:6])
    assert similarity[0] > 0.8
    assert similarity[0] > similarity[1]
    assert not torch.allclose(made[1], made[2]), "names of numbers are told apart"
    assert torch.equal(made, embeddings_from_encoder(spec, tokens, 6))


def test_a_vocabulary_that_does_not_fit_is_refused(tokenizer) -> None:
    module = Pretraining({**CONFIG, "vocab_size": 100})
    module._trainer = SimpleNamespace(datamodule=SimpleNamespace(tokenizer=tokenizer))  # type: ignore[assignment]
    with pytest.raises(ValueError, match="vocab_size is 100"):
        module.configure_model()


@pytest.mark.parametrize("name", ["learning_rate", "warmup_fraction", "average_decay"])
def test_numbers_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Pretraining(CONFIG, **{name: -1.0})


def test_the_shipped_backbone_is_what_its_card_says() -> None:
    folder = Path(__file__).resolve().parents[2] / "assets" / "t5_mini"
    card = (folder / "README.md").read_text(encoding="utf-8")
    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    shipped = AutoTokenizer.from_pretrained(folder)
    size = sum(p.numel() for p in model.parameters())
    assert size <= 10_000_000
    assert f"{size:,}" in card
    assert f"{len(shipped):,} tokens" in card
    assert len(shipped) <= model.config.vocab_size
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 20_000_000
    # It knows what is asked, under the prefix that it was taught: one problem it must get right.
    text = "work: Tom had number0 apples. He ate number1 of them. How many apples are left?"
    ids = model.generate(**shipped(text, return_tensors="pt"), max_new_tokens=12)
    assert shipped.decode(ids[0], skip_special_tokens=True) == "number0 - number1"
