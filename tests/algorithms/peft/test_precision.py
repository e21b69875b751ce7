"""Every method under bfloat16, by autocast (how the Trainer runs it) and by weights."""

import copy

import pytest
import torch

from src.algorithms.peft import attach, trainable_state


def test_autocast_trains_in_float32_weights(spec, kind, make_t5, inputs, perturb):
    model = attach(make_t5(kind), spec)
    perturb(model, 0.01)
    with torch.no_grad():
        expected = model(**inputs, use_cache=False).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(**inputs, use_cache=False)
    torch.testing.assert_close(out.logits.float(), expected, atol=0.2, rtol=0.1)
    if trainable_state(model):
        out.loss.backward()
    for weight in model.parameters():
        if weight.requires_grad:
            assert weight.dtype == weight.grad.dtype == torch.float32
            assert weight.grad.isfinite().all()


@pytest.mark.parametrize("name", ["lora", "adapter", "prefix", "prefix_mlp", "full"])
def test_bfloat16_weights_run_and_generate(name, specs, kind, make_t5, inputs):
    model = attach(copy.deepcopy(make_t5(kind)).to(torch.bfloat16), specs[name])
    with torch.no_grad():
        assert model(**inputs).logits.isfinite().all()
        given = {k: inputs[k] for k in ("input_ids", "attention_mask")}
        out = model.generate(**given, max_new_tokens=3, num_beams=2, do_sample=False)
    assert out.shape[0] == 3
