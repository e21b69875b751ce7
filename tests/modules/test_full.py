from src.modules.full import FullFineTuning


def test_every_weight_is_trained(method_module):
    module = method_module(FullFineTuning)
    trained, every = module.parameter_counts()
    assert trained == every > 0


def test_it_learns(method_module, one_step):
    one_step(method_module(FullFineTuning), frozen=False)


def test_hyperparameters_are_plain(method_module, plain):
    plain(method_module(FullFineTuning).hparams)
