import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.algorithms.peft import (
    AdapterSpec,
    FrozenSpec,
    FullFineTuningSpec,
    LoRASpec,
    PrefixSpec,
    attach,
)
from src.algorithms.peft.counts import (
    added_flops,
    backbone_size,
    count,
    fit_to_budget,
    measure,
    meta_backbone,
    total,
)
from src.algorithms.peft.t5 import Dims

GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


def published(d_model, d_kv, d_ff, num_heads, num_layers, **more):
    return {
        "vocab_size": 32128,
        "d_model": d_model,
        "d_kv": d_kv,
        "d_ff": d_ff,
        "num_heads": num_heads,
        "num_layers": num_layers,
        **more,
    }


# The sizes of the published checkpoints, and their number of parameters.
T5 = {
    "t5_small": (published(512, 64, 2048, 8, 6), 60_506_624),
    "t5_base": (published(768, 64, 3072, 12, 12), 222_903_552),
    "t5_large": (published(1024, 64, 4096, 16, 24), 737_668_096),
    "t5_3b": (published(1024, 128, 16384, 32, 24), 2_851_598_336),
    "t5_11b": (published(1024, 128, 65536, 128, 24), 11_307_321_344),
    "flan_t5_small": (published(512, 64, 1024, 6, 8, **GATED), 76_961_152),
    "flan_t5_base": (published(768, 64, 2048, 12, 12, **GATED), 247_577_856),
    "flan_t5_large": (published(1024, 64, 2816, 16, 24, **GATED), 783_150_080),
    "flan_t5_xl": (published(2048, 64, 5120, 32, 24, **GATED), 2_849_757_184),
    "flan_t5_xxl": (published(4096, 64, 10240, 64, 24, **GATED), 11_135_332_352),
}
SMALL = T5["t5_small"][0]
METHODS = {
    "lora": LoRASpec(),
    "adapter": AdapterSpec(),
    "prefix": PrefixSpec(reparametrize=False),
    "prefix_mlp": PrefixSpec(),
    "full": FullFineTuningSpec(),
    "frozen": FrozenSpec(),
}


IN_DEFAULT_SUITE = ("t5_small", "t5_3b", "t5_11b", "flan_t5_small")  # the others take 3 s each


@pytest.mark.parametrize(
    "name",
    [
        name if name in IN_DEFAULT_SUITE else pytest.param(name, marks=pytest.mark.slow)
        for name in T5
    ],
)
def test_closed_form_equals_measured_on_published_shapes(name):
    config, size = T5[name]
    assert backbone_size(config) == size
    for spec in METHODS.values():
        closed = total(count(spec, config))
        trained, every = measure(spec, config)
        assert closed == trained
        assert every == size + (0 if spec.method == "full" else closed) - norms(spec, config)


def norms(spec, config):
    """Layer norms that an adapter trains are the backbone's own."""
    return sum(item.count for item in count(spec, config) if item.part == "layer_norm") * (
        spec.method == "adapter"
    )


@settings(max_examples=8, deadline=None)
@given(
    sizes=st.fixed_dictionaries(
        {
            "d_model": st.integers(2, 9),
            "d_kv": st.integers(1, 5),
            "d_ff": st.integers(1, 9),
            "num_heads": st.integers(1, 4),
            "num_layers": st.integers(1, 3),
            "num_decoder_layers": st.integers(1, 3),
            "vocab_size": st.integers(4, 20),
            "feed_forward_proj": st.sampled_from(["relu", "gated-gelu"]),
        }
    ),
    size=st.integers(1, 5),
    targets=st.lists(st.sampled_from(["q", "k", "v", "o", "wi", "wo"]), min_size=1),
    sites=st.lists(st.sampled_from(["encoder_self", "decoder_self", "decoder_cross"]), min_size=1),
    flag=st.booleans(),
    other=st.booleans(),
)
def test_closed_form_equals_measured_on_odd_shapes(sizes, size, targets, sites, flag, other):
    for spec in (
        LoRASpec(rank=size, targets=targets, use_dora=flag, use_rslora=other),
        AdapterSpec(
            bottleneck_dim=size,
            placement="pfeiffer" if flag else "houlsby",
            form="parallel" if other else "sequential",
            train_layer_norms=other,
        ),
        PrefixSpec(size, sites=sites, reparametrize=flag, mlp_dim=size + 1),
        FullFineTuningSpec(),
    ):
        assert total(count(spec, sizes)) == measure(spec, sizes)[0]


def test_figures_of_the_literature():
    assert total(count(LoRASpec(rank=8, targets=["q", "v"]), SMALL)) == 294_912
    assert total(count(AdapterSpec(bottleneck_dim=64), SMALL)) == 1_998_720
    flan = T5["flan_t5_small"][0]
    d, inner, layers = 512, 6 * 64, 8
    attention = LoRASpec(rank=4, targets=["q", "k", "v", "o"])
    assert total(count(attention, flan)) == 3 * layers * 4 * 4 * (d + inner)
    free = PrefixSpec(num_virtual_tokens=10, reparametrize=False)
    assert total(count(free, flan)) == 3 * layers * 2 * 10 * inner
    mlp = PrefixSpec(num_virtual_tokens=10, mlp_dim=100, sites=["encoder_self"])
    assert total(count(mlp, flan)) == 10 * d + (d * 100 + 100) + 101 * 2 * layers * inner


def test_counts_say_where_the_parameters_sit():
    items = count(LoRASpec(rank=8), SMALL)
    assert len({(c.stack, c.layer, c.sublayer, c.part) for c in items}) == len(items)
    decoder = [c for c in items if c.stack == "decoder" and c.layer == 5]
    assert {(c.sublayer, c.part) for c in decoder} == {
        ("self_attention", "q"),
        ("self_attention", "v"),
        ("cross_attention", "q"),
        ("cross_attention", "v"),
    }
    assert {c.count for c in items} == {8 * (512 + 512)}
    shared = [c for c in count(PrefixSpec(), SMALL) if c.layer is None]
    assert [(c.stack, c.sublayer) for c in shared] == [
        ("encoder", "self_attention"),
        ("decoder", "self_attention"),
        ("decoder", "cross_attention"),
    ]


def test_a_config_object_counts_like_its_mapping(make_t5, kind):
    model = make_t5(kind)
    for spec in METHODS.values():
        trained = sum(
            p.numel() for p in attach(make_t5(kind), spec).parameters() if p.requires_grad
        )
        assert trained == total(count(spec, model.config))
    assert backbone_size(model.config) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("spec", [LoRASpec(), AdapterSpec(), PrefixSpec(reparametrize=False)])
@pytest.mark.parametrize("budget", [70_000, 294_912, 1_000_003])
def test_budgets_are_met_within_half_a_unit(spec, budget):
    found = total(count(fit_to_budget(spec, SMALL, budget), SMALL))
    unit = {"lora": 36_864, "adapter": 30_750, "prefix_tuning": 18_432}[spec.method]
    assert abs(found - budget) <= unit / 2


def test_impossible_budgets_are_refused():
    with pytest.raises(
        ValueError, match=r"budget of 5 parameters is below the smallest lora \(rank 1"
    ):
        fit_to_budget(LoRASpec(), SMALL, 5)
    with pytest.raises(ValueError, match="full has no size to fit"):
        fit_to_budget(FullFineTuningSpec(), SMALL, 10**6)


def matrix_flops(model, run):
    """Count the operations of matrix products with torch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run(model)
    return counter.get_total_flops()


@pytest.mark.parametrize("name", ["lora", "adapter", "prefix"])
def test_added_flops_equal_those_counted_by_torch(name):
    config = {**published(16, 4, 24, 2, 2), "vocab_size": 11}
    length, batch_size, source, target = 5, 2, 7, 3
    spec = {
        "lora": LoRASpec(rank=3, targets=["q", "k", "v", "o", "wi", "wo"]),
        "adapter": AdapterSpec(bottleneck_dim=6),
        "prefix": PrefixSpec(length, reparametrize=False),
    }[name]

    def run(model):
        # Eager attention, so that the counter sees the products inside.
        ids = torch.zeros(batch_size, source, dtype=torch.long, device="meta")
        labels = torch.zeros(batch_size, target, dtype=torch.long, device="meta")
        with torch.no_grad():
            model(
                input_ids=ids,
                decoder_input_ids=labels,
                output_attentions=name == "prefix",
                use_cache=False,
            )

    plain = meta_backbone(config)
    plain.set_attn_implementation("eager")
    attached = attach(meta_backbone(config), spec)
    if name != "prefix":
        attached.set_attn_implementation("eager")
    added = matrix_flops(attached, run) - matrix_flops(plain, run)
    flops = added_flops(spec, config, is_training=False, is_merged=False)
    assert added == batch_size * (source * flops.source + target * flops.target)
    training = added_flops(spec, config, is_training=True)
    assert training.source == 3 * flops.source


def test_merged_lora_adds_nothing_and_full_saves_nothing():
    merged = added_flops(LoRASpec(), SMALL, is_training=False)
    assert (merged.source, merged.target, merged.step) == (0, 0, 0)
    full = added_flops(FullFineTuningSpec(), SMALL, is_training=True)
    # Two operations for each weight of a matrix, twice for none: encoder + decoder + head.
    attention, ff, head = 4 * 512 * 512, 2 * 512 * 2048, 32128 * 512
    assert full.source + full.target == 2 * (6 * (3 * attention + 2 * ff) + head)
    assert added_flops(FullFineTuningSpec(), SMALL, is_training=False).source == 0
    mlp = added_flops(PrefixSpec(), SMALL, is_training=True)
    assert mlp.step == 3 * 3 * 2 * 20 * 512 * (512 + 2 * 6 * 512)


def test_sizes_are_read_and_checked():
    with pytest.raises(ValueError, match="missing: d_kv, vocab_size"):
        Dims.of({"d_model": 4, "d_ff": 4, "num_heads": 1, "num_layers": 1})
    with pytest.raises(ValueError, match="num_heads is 0"):
        Dims.of({**SMALL, "num_heads": 0})
    dims = Dims.of(SMALL)
    assert Dims.of(dims) is dims
    assert dims.num_decoder_layers == 6
