import pytest

from src.algorithms.peft.adapter import HoulsbyAdapter
from src.modules.adapter import Adapter


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bottleneck_dim": 0}, "bottleneck_dim is 0; it must be a whole number of at least 1"),
        ({"placement": "everywhere"}, "choose one of: houlsby, pfeiffer"),
        ({"form": "ladder"}, "choose one of: sequential, parallel"),
    ],
)
def test_bad_values_are_refused_before_anything_is_loaded(arguments, message):
    with pytest.raises(ValueError, match=message):
        Adapter(backbone={"name": "none", "family": "t5", "path": "/nowhere"}, **arguments)


def test_hyperparameters_reach_the_model(method_module):
    module = method_module(
        Adapter,
        bottleneck_dim=3,
        placement="pfeiffer",
        form="parallel",
        scale=4.0,
        nonlinearity="tanh",
    )
    adapters = [m for m in module.modules() if isinstance(m, HoulsbyAdapter)]
    assert len(adapters) == 4
    assert all(a.scale == 4.0 and a.down.out_features == 3 for a in adapters)


def test_it_learns_and_leaves_the_backbone_alone(method_module, one_step):
    one_step(method_module(Adapter, train_layer_norms=False), frozen=True)


def test_hyperparameters_are_plain(method_module, plain):
    plain(method_module(Adapter).hparams)
