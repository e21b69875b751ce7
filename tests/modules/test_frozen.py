import pytest

from src.modules.frozen import Frozen


def test_nothing_is_trained(method_module):
    module = method_module(Frozen)
    assert module.parameter_counts()[0] == 0
    with pytest.raises(ValueError, match="nothing to train"):
        module.configure_optimizers()


def test_hyperparameters_are_plain(method_module, plain):
    plain(method_module(Frozen).hparams)
