import pytest

from src.modules.lora import LoRA


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank is 0; it must be a whole number of at least 1"),
        ({"targets": ["q", "key"]}, "'key'; choose at least one of: q, k, v, o, wi, wo"),
        ({"dropout": -0.1}, "dropout is -0.1"),
    ],
)
def test_bad_values_are_refused_before_anything_is_loaded(arguments, message):
    with pytest.raises(ValueError, match=message):
        LoRA(backbone={"name": "none", "family": "t5", "path": "/nowhere"}, **arguments)


def test_hyperparameters_reach_the_model(method_module):
    module = method_module(LoRA, rank=3, alpha=6, targets=["k", "wo"], use_rslora=True)
    trained = {
        n.split(".lora_")[0].split(".")[-1] for n, p in module.named_parameters() if p.requires_grad
    }
    assert trained == {"k", "wo"}
    assert module.model.peft_config["default"].r == 3
    assert module.spec.scale == pytest.approx(6 / 3**0.5)


def test_it_learns_and_leaves_the_backbone_alone(method_module, one_step):
    one_step(method_module(LoRA), frozen=True)


def test_hyperparameters_are_plain(method_module, plain):
    plain(method_module(LoRA).hparams)
    assert method_module(LoRA, targets="q").hparams["targets"] == ["q"]
