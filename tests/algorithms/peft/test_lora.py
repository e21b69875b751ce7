import copy

import pytest
import torch
from peft import PeftModel

from src.algorithms.peft import LoRASpec, attach, save_method
from src.algorithms.peft.lora import TARGETS


@pytest.mark.parametrize("name", ["lora", "lora_everywhere", "dora"])
@torch.no_grad()
def test_fresh_lora_leaves_the_logits_bit_identical(name, specs, kind, make_t5, inputs):
    if name == "dora":  # it divides and multiplies by the same norm, which may round
        tolerance = 1e-6
    else:
        tolerance = 0.0
    expected = make_t5(kind)(**inputs).logits
    logits = attach(make_t5(kind), specs[name])(**inputs).logits
    assert (logits - expected).abs().max() <= tolerance


@pytest.mark.parametrize("name", ["lora", "lora_everywhere", "dora"])
@torch.no_grad()
def test_merged_equals_unmerged(name, specs, kind, make_t5, inputs, perturb):
    model = attach(make_t5(kind), specs[name])
    perturb(model, 0.02)
    unmerged = model(**inputs).logits
    merged = specs[name].merge(copy.deepcopy(model))
    assert not isinstance(merged, PeftModel)
    torch.testing.assert_close(merged(**inputs).logits, unmerged, atol=1e-5, rtol=1e-5)
    assert not torch.equal(unmerged, make_t5(kind)(**inputs).logits)


@pytest.mark.parametrize("name", ["lora", "lora_everywhere", "dora"])
@torch.no_grad()
def test_stock_peft_loads_what_is_saved_here(
    name, specs, kind, make_t5, inputs, perturb, tmp_path, ignore_peft_warning
):
    model = attach(make_t5(kind), specs[name])
    perturb(model)
    save_method(model, tmp_path)
    stock = PeftModel.from_pretrained(make_t5(kind), tmp_path).eval()
    assert torch.equal(stock(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_is_found_and_trained(target, kind, make_t5):
    model = attach(make_t5(kind), LoRASpec(rank=1, targets=[target]))
    trained = {
        n.split(".lora_")[0].split(".")[-1] for n, p in model.named_parameters() if p.requires_grad
    }
    gated = kind == "v1_1" and target == "wi"
    assert trained == ({"wi_0", "wi_1"} if gated else {target})


def test_scale_of_the_unified_view():
    assert LoRASpec(rank=4, alpha=16).scale == 4.0
    assert LoRASpec(rank=4, alpha=16, use_rslora=True).scale == 8.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank is 0; it must be a whole number of at least 1"),
        ({"rank": 1.5}, "rank is 1.5"),
        ({"alpha": 0}, "alpha is 0; it must be above 0"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must lie in \[0, 1\)"),
        ({"targets": ["q", "query"]}, "'query'; choose at least one of: q, k, v, o, wi, wo"),
        ({"targets": []}, "targets is empty; choose at least one of"),
    ],
)
def test_bad_hyperparameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LoRASpec(**arguments)
