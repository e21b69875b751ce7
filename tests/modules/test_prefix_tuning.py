import pytest

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


@pytest.mark.parametrize("reparametrize", [True, False])
def test_it_learns_and_leaves_the_backbone_alone(reparametrize, method_module, one_step):
    module = method_module(PrefixTuning, num_virtual_tokens=3, reparametrize=reparametrize)
    one_step(module, frozen=True)


def test_hyperparameters_are_plain(method_module, plain):
    plain(method_module(PrefixTuning).hparams)
    sites = method_module(PrefixTuning, sites="decoder_self").hparams["sites"]
    assert sites == ["decoder_self"]
