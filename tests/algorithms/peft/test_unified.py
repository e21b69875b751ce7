import pytest
import torch

from src.algorithms.peft import attach
from src.algorithms.peft.unified import FORMULAS, UnifiedView, examine

CHANGING = [
    "lora",
    "lora_everywhere",
    "dora",
    "adapter",
    "adapter_parallel",
    "adapter_pfeiffer",
    "prefix",
    "prefix_mlp",
    "prefix_one_site",
]


@pytest.mark.parametrize("name", CHANGING)
def test_every_site_of_the_wrapped_model_equals_its_formula(
    name, specs, kind, make_t5, inputs, perturb
):
    model = attach(make_t5(kind).double(), specs[name])
    perturb(model)
    observations = examine(model, inputs)
    for seen in observations:
        assert seen.error() < 1e-10
        # The formula is no tautology: without its second term it is wrong.
        assert (seen.alpha * seen.h - seen.output).abs().max() > 1e-6
    names = [seen.name for seen in observations]
    assert len(set(names)) == len(names)


def test_sites_are_named_in_forward_order(specs, make_t5, inputs):
    names = [seen.name for seen in examine(attach(make_t5(), specs["lora"]), inputs)]
    assert names[:2] == ["encoder.0.self_attention.q", "encoder.0.self_attention.v"]
    assert names[-2:] == ["decoder.1.cross_attention.q", "decoder.1.cross_attention.v"]
    names = [seen.name for seen in examine(attach(make_t5(), specs["adapter_pfeiffer"]), inputs)]
    assert names == [
        *(f"encoder.{i}.feed_forward" for i in range(3)),
        *(f"decoder.{i}.feed_forward" for i in range(2)),
    ]


def test_factors_of_each_method(specs, make_t5, inputs, perturb):
    seen = examine(attach(make_t5(), specs["lora"]), inputs)[0]
    assert (seen.alpha, seen.lam) == (1.0, pytest.approx(16 / 3))
    seen = examine(attach(make_t5(), specs["adapter_parallel"]), inputs)[0]
    assert (seen.alpha, seen.lam) == (1.0, 4.0)
    model = attach(make_t5(), specs["dora"])
    perturb(model)
    seen = examine(model, inputs)[0]
    assert seen.alpha.shape == (32,)
    assert not torch.allclose(seen.alpha, torch.ones(32))
    seen = examine(attach(make_t5(), specs["prefix"]), inputs)[0]
    assert seen.lam.shape == (3, 4, 7, 1)
    torch.testing.assert_close(seen.alpha, 1 - seen.lam)
    assert ((seen.lam > 0) & (seen.lam < 1)).all()


def test_norms_count_a_tokens_heads_together(specs, make_t5, inputs):
    seen = examine(attach(make_t5(), specs["prefix"]), inputs)[0]
    change, h = seen.norms()
    assert change.shape == h.shape == (3, 7)
    expected = (seen.lam * seen.delta)[1, :, 2].norm()
    torch.testing.assert_close(change[1, 2], expected)


def test_tokens_of_cross_attention_keys_are_the_sources(specs, make_t5, inputs):
    for seen in examine(attach(make_t5(), specs["lora_everywhere"]), inputs):
        assert seen.h.shape[1] == (7 if seen.reads_source else 5)


@pytest.mark.parametrize("name", CHANGING)
def test_nothing_stays_hooked(name, specs, make_t5, inputs):
    model = attach(make_t5(), specs[name])

    def hooks():
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())

    before = hooks()
    calls = []
    with UnifiedView(model, calls.append):
        assert hooks() > before or name.startswith("prefix")
        with pytest.raises(RuntimeError, match="stop"), UnifiedView(model, calls.append):
            raise RuntimeError("stop")
    assert hooks() == before
    with torch.no_grad():
        model(**inputs)
    assert calls == []


@pytest.mark.parametrize("name", ["full", "frozen"])
def test_methods_without_a_formula_say_so(name, specs, make_t5, inputs):
    with pytest.raises(ValueError, match=f"{name} has nothing of the form"):
        examine(attach(make_t5(), specs[name]), inputs)


def test_each_method_has_its_formula_as_text(specs):
    assert {specs[name].method for name in CHANGING} <= {key.split(" ")[0] for key in FORMULAS}
