import pytest
import torch

from src.algorithms.peft.prefix import ReparametrizedPrefix, prefix_sites
from src.modules.prefix_tuning import PrefixTuning


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_virtual_tokens": 0}, "num_virtual_tokens is 0; it must be a whole number"),
        (
            {"sites": ["decoder"]},
            "choose at least one of: encoder_self, decoder_self, decoder_cross",
        ),
        ({"mlp_dim": 0}, "mlp_dim is 0"),
        ({"init_text": "work:"}, r"model.init_text='work:' needs model.reparametrize=false"),
    ],
)
def test_bad_values_are_refused_before_anything_is_loaded(arguments, message):
    with pytest.raises(ValueError, match=message):
        PrefixTuning(backbone={"name": "none", "family": "t5", "path": "/nowhere"}, **arguments)


def test_hyperparameters_reach_the_model(method_module):
    module = method_module(PrefixTuning, num_virtual_tokens=3, sites=["decoder_cross"], mlp_dim=5)
    (sites,) = prefix_sites(module.model)
    assert list(sites) == ["cross_attention"]
    assert isinstance(sites["cross_attention"], ReparametrizedPrefix)
    assert sites["cross_attention"].down.out_features == 5
    assert sites["cross_attention"].embedding.shape == (3, 32)


def test_a_text_begins_the_prefix():
    backbone = {"name": "t5_mini", "family": "t5", "path": "assets/t5_mini"}
    module = PrefixTuning(backbone, num_virtual_tokens=8, reparametrize=False, init_text="how many")
    module.configure_model()
    ids = module.tokenizer("how many", add_special_tokens=False)["input_ids"]
    (encoder, _) = prefix_sites(module.model)
    first = module.model.encoder.block[0].layer[0]
    wanted = first.SelfAttention.k(first.layer_norm(module.model.shared.weight[ids]))
    begun = encoder["self_attention"].key[0, :, : len(ids)].transpose(0, 1).flatten(1)
    torch.testing.assert_close(begun, wanted)


@pytest.mark.parametrize("reparametrize", [True, False])
def test_it_learns_and_leaves_the_backbone_alone(reparametrize, method_module, one_step):
    module = method_module(PrefixTuning, num_virtual_tokens=3, reparametrize=reparametrize)
    one_step(module, frozen=True)


def test_hyperparameters_are_plain(method_module, plain):
    plain(method_module(PrefixTuning).hparams)
    sites = method_module(PrefixTuning, sites="decoder_self").hparams["sites"]
    assert sites == ["decoder_self"]
