import copy

import pytest
import torch
from torch import nn

from src.algorithms.peft import AdapterSpec, attach
from src.algorithms.peft.adapter import NONLINEARITIES, HoulsbyAdapter
from src.algorithms.peft.t5 import sublayers


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
@pytest.mark.parametrize("form", ["sequential", "parallel"])
@torch.no_grad()
def test_fresh_adapter_leaves_the_logits_bit_identical(placement, form, kind, make_t5, inputs):
    expected = make_t5(kind)(**inputs).logits
    spec = AdapterSpec(bottleneck_dim=5, placement=placement, form=form, scale=4.0)
    assert torch.equal(attach(make_t5(kind), spec)(**inputs).logits, expected)


@torch.no_grad()
def test_houlsby_init_is_near_the_identity_and_not_the_identity(make_t5, inputs):
    expected = make_t5()(**inputs).logits
    logits = attach(make_t5(), AdapterSpec(bottleneck_dim=5, init="houlsby"))(**inputs).logits
    assert not torch.equal(logits, expected)
    torch.testing.assert_close(logits, expected, atol=1e-2, rtol=1e-2)


def test_placement(make_t5):
    def adapted(placement):
        model = attach(make_t5(), AdapterSpec(bottleneck_dim=2, placement=placement))
        return [
            str(site)
            for site, layer in sublayers(model)
            if isinstance(layer.dropout, HoulsbyAdapter)
        ]

    assert adapted("pfeiffer") == [
        *(f"encoder.{i}.feed_forward" for i in range(3)),
        *(f"decoder.{i}.feed_forward" for i in range(2)),
    ]
    assert len(adapted("houlsby")) == 3 * 2 + 2 * 3
    assert "decoder.1.cross_attention" in adapted("houlsby")


@pytest.mark.parametrize("form", ["sequential", "parallel"])
@torch.no_grad()
def test_a_sublayer_computes_the_equation(form, make_t5, inputs, perturb):
    """The residual sublayer equals x + h + s (f(z W_down + b) W_up + b), by hand."""
    model = attach(make_t5(), AdapterSpec(bottleneck_dim=5, form=form, scale=3.0)).double()
    perturb(model)
    layer = model.encoder.block[1].layer[1]
    x = torch.randn(2, 4, 32, dtype=torch.float64)
    normed = layer.layer_norm(x)
    layer.dropout._input = None  # the line above fed the hook of the parallel form
    h = layer.DenseReluDense(normed)
    z = h if form == "sequential" else normed
    adapter = layer.dropout
    hidden = nn.functional.gelu(z @ adapter.down.weight.T + adapter.down.bias)
    expected = x + h + 3.0 * (hidden @ adapter.up.weight.T + adapter.up.bias)
    torch.testing.assert_close(layer(x), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("nonlinearity", sorted(NONLINEARITIES))
def test_nonlinearities_train(nonlinearity, make_t5, inputs):
    model = attach(make_t5(), AdapterSpec(bottleneck_dim=3, nonlinearity=nonlinearity))
    model(**inputs).loss.backward()
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(grad is not None for grad in grads)
    assert any(grad.abs().sum() > 0 for grad in grads)


@pytest.mark.parametrize("is_trained", [True, False])
def test_layer_norms_are_trained_by_choice_and_the_final_ones_never(is_trained, make_t5):
    model = attach(make_t5(), AdapterSpec(bottleneck_dim=3, train_layer_norms=is_trained))
    trained = {n for n, p in model.named_parameters() if p.requires_grad and "norm" in n}
    assert len(trained) == (12 if is_trained else 0)
    assert not any("final" in name for name in trained)


@torch.no_grad()
def test_a_deep_copy_is_independent(make_t5, inputs, perturb):
    model = attach(make_t5(), AdapterSpec(bottleneck_dim=5, form="parallel"))
    perturb(model)
    twin = copy.deepcopy(model)
    before = model(**inputs).logits
    assert torch.equal(twin(**inputs).logits, before)
    perturb(twin)
    assert torch.equal(model(**inputs).logits, before)
    assert not torch.equal(twin(**inputs).logits, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bottleneck_dim": 0}, "bottleneck_dim is 0; it must be a whole number of at least 1"),
        ({"placement": "both"}, "placement is 'both'; choose one of: houlsby, pfeiffer"),
        ({"form": "serial"}, "choose one of: sequential, parallel"),
        ({"nonlinearity": "swish"}, "choose one of: relu, gelu, silu, tanh, identity"),
        ({"init": "ones"}, "choose one of: zero, houlsby"),
        ({"scale": -1.0}, "scale is -1.0; it must be above 0"),
    ],
)
def test_bad_hyperparameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdapterSpec(**arguments)
