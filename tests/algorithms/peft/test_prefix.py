import copy
import json
from dataclasses import asdict

import pytest
import torch

from src.algorithms.peft import PrefixSpec, attach
from src.algorithms.peft.prefix import (
    SITES,
    ReparametrizedPrefix,
    decompose,
    materialize,
    prefix_sites,
)
from src.algorithms.peft.t5 import core, sublayers

FREE = PrefixSpec(num_virtual_tokens=4, reparametrize=False, init="normal")


def by_hand(attention, states, mask, memory, bias, prefix):
    """Return lambda, Attn(x; C) and Attn(x; P) from the definition, heads apart, no max trick."""

    def heads(projection, x):
        return projection(x).unflatten(-1, (attention.n_heads, -1)).transpose(1, 2)

    source = states if memory is None else memory
    q, k, v = heads(attention.q, states), heads(attention.k, source), heads(attention.v, source)
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k)
    scores = scores + (attention.compute_bias(*scores.shape[-2:]) if bias is None else bias)
    allowed = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.expand_as(scores)
    real = torch.where(allowed, scores.exp(), 0.0)
    key, value = prefix
    ours = torch.einsum("bhqd,hld->bhql", q, key).exp()
    gate = ours.sum(-1) / (ours.sum(-1) + real.sum(-1))
    h = torch.einsum("bhqk,bhkd->bhqd", real / real.sum(-1, keepdim=True), v)
    delta = torch.einsum("bhql,hld->bhqd", ours / ours.sum(-1, keepdim=True), value)
    return gate[..., None], h, delta


@torch.no_grad()
def test_identity_on_real_attention_at_all_sites_with_padding(kind, make_t5, inputs):
    """Attn(x; [P; C]) = (1 - lambda) Attn(x; C) + lambda Attn(x; P), float64, He et al. Eq. 7."""
    model = attach(make_t5(kind), FREE).double()
    calls, handles = {}, []
    for site, layer in sublayers(model):
        if site.sublayer == "feed_forward":
            continue
        found = calls.setdefault(site, {})

        def before(module, args, kwargs, into=found):
            into["args"] = args, dict(kwargs)

        def after(module, args, into=found):
            into["output"] = args[0]

        attention = core(layer)
        handles.append(attention.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(attention.o.register_forward_pre_hook(after))
    model(**inputs, use_cache=False)
    for handle in handles:
        handle.remove()
    assert len(calls) == 3 + 2 * 2
    kinds = set()
    for (site, found), (_, layer) in zip(
        calls.items(),
        [(s, m) for s, m in sublayers(model) if s.sublayer != "feed_forward"],
        strict=True,
    ):
        attention = core(layer)
        (states,), given = found["args"]
        stack = getattr(model, site.stack)
        prefix = tuple(part[site.layer] for part in stack.prefix[site.sublayer]())
        bias = given.get("position_bias")
        if bias is None and not attention.has_relative_attention_bias:
            bias = 0.0
        gate, h, delta = by_hand(
            attention, states, given["mask"], given.get("key_value_states"), bias, prefix
        )
        expected = ((1 - gate) * h + gate * delta).transpose(1, 2).flatten(2)
        torch.testing.assert_close(found["output"], expected, atol=1e-10, rtol=1e-10)
        # The same module without a prefix is Attn(x; C).
        kept = []
        handle = attention.o.register_forward_pre_hook(lambda m, a, kept=kept: kept.append(a[0]))
        attention(states, **{k: v for k, v in given.items() if k != "prefix_states"})
        handle.remove()
        torch.testing.assert_close(kept[0], h.transpose(1, 2).flatten(2), atol=1e-10, rtol=1e-10)
        assert gate.min() > 0
        assert gate.max() < 1
        assert given["mask"].dtype == torch.bool
        kinds.add((site.stack, site.sublayer))
    assert len(kinds) == 3


def test_decomposition_survives_large_scores():
    q = torch.full((1, 1, 1, 2), 300.0)
    key = value = torch.ones(1, 1, 3, 2)
    gate, h, delta = decompose(q, key, value, torch.zeros(1, 1, 1, 3), (key[0] * 2, value[0] * 5))
    assert gate.item() == 1.0
    torch.testing.assert_close(h, torch.ones(1, 1, 1, 2))
    torch.testing.assert_close(delta, torch.full((1, 1, 1, 2), 5.0))


@torch.no_grad()
def test_padding_and_causal_masks_still_act(kind, make_t5, inputs):
    model = attach(make_t5(kind), FREE)
    decoder = model._shift_right(inputs["labels"])
    given = {k: inputs[k] for k in ("input_ids", "attention_mask")}
    logits = model(**given, decoder_input_ids=decoder).logits
    scribbled = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, 17)
    assert not torch.equal(scribbled, inputs["input_ids"])
    same = model(
        input_ids=scribbled,
        attention_mask=given["attention_mask"],
        decoder_input_ids=decoder,
    ).logits
    torch.testing.assert_close(same, logits, atol=1e-6, rtol=1e-6)
    later = decoder.clone()
    later[:, 3:] = 9
    changed = model(**given, decoder_input_ids=later).logits
    torch.testing.assert_close(changed[:, :3], logits[:, :3], atol=1e-6, rtol=1e-6)
    assert (changed[:, 3:] - logits[:, 3:]).abs().max() > 1e-3
    # Unpadded alone equals padded in company.
    alone = model(input_ids=given["input_ids"][:1, :4], decoder_input_ids=decoder[:1]).logits
    torch.testing.assert_close(alone, logits[:1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spec", [FREE, PrefixSpec(num_virtual_tokens=4, mlp_dim=7)])
@torch.no_grad()
def test_decoding_step_by_step_with_a_cache_equals_one_pass(spec, kind, make_t5, inputs):
    model = attach(make_t5(kind), spec).double()
    decoder = model._shift_right(inputs["labels"])
    given = {k: inputs[k] for k in ("input_ids", "attention_mask")}
    expected = model(**given, decoder_input_ids=decoder, use_cache=False).logits
    cache, steps = None, []
    for i in range(decoder.shape[1]):
        out = model(
            **given, decoder_input_ids=decoder[:, i : i + 1], past_key_values=cache, use_cache=True
        )
        cache = out.past_key_values
        steps.append(out.logits)
        # The cache holds real tokens only.
        assert cache.get_seq_length() == i + 1
        assert cache.cross_attention_cache.layers[0].keys.shape[-2] == 7
    torch.testing.assert_close(torch.cat(steps, 1), expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("num_beams", [1, 3])
@torch.no_grad()
def test_cached_generation_equals_uncached(num_beams, kind, make_t5, inputs, perturb):
    model = attach(make_t5(kind), FREE).double()
    given = {k: inputs[k] for k in ("input_ids", "attention_mask")}
    results = [
        model.generate(
            **given,
            max_new_tokens=8,
            num_beams=num_beams,
            do_sample=False,
            use_cache=use_cache,
            output_scores=True,
            return_dict_in_generate=True,
        )
        for use_cache in (True, False)
    ]
    assert torch.equal(results[0].sequences, results[1].sequences)
    for cached, uncached in zip(results[0].scores, results[1].scores, strict=True):
        torch.testing.assert_close(cached, uncached, atol=1e-9, rtol=1e-9)
    assert results[0].sequences.shape[1] > 2


@pytest.mark.parametrize("spec", [FREE, PrefixSpec(num_virtual_tokens=4, mlp_dim=7)])
def test_gradients_reach_every_layer_of_every_prefix(spec, kind, make_t5, inputs):
    model = attach(make_t5(kind), spec)
    states = {}
    for sites in prefix_sites(model):
        for name, prefix in sites.items():
            states[sites.stack, name] = prefix

            def watch(module, args, output, name=(sites.stack, name)):
                for part in output:
                    part.retain_grad() if not part.is_leaf else None
                states[name] = output

            prefix.register_forward_hook(watch)
    model(**inputs).loss.backward()
    assert len(states) == 3
    for key, value in states.values():
        for part in (key, value):
            assert part.grad is not None
            # (N, H, l, d_kv): every virtual token of every head of every layer
            assert (part.grad.abs().sum(-1) > 0).all()


def test_gradient_checkpointing_changes_nothing(make_t5, inputs):
    grads = []
    for is_on in (False, True):
        model = attach(make_t5(dropout_rate=0.0), FREE)
        if is_on:
            model.activation_checkpointing_enable({"use_reentrant": False})
            assert model.is_activation_checkpointing
        model.train()(**inputs, use_cache=False).loss.backward()
        grads.append([p.grad for p in model.parameters() if p.requires_grad])
    for plain, checkpointed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, checkpointed)


@torch.no_grad()
def test_materialize_keeps_the_outputs_and_drops_the_mlp(kind, make_t5, inputs):
    model = attach(make_t5(kind), PrefixSpec(num_virtual_tokens=4, mlp_dim=7))
    before = model(**inputs).logits
    assert torch.equal(materialize(model)(**inputs).logits, before)
    assert not any(isinstance(m, ReparametrizedPrefix) for m in model.modules())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    num_heads = model.config.num_heads
    assert trained == (3 + 2 * 2) * 2 * 4 * num_heads * 8


@torch.no_grad()
def test_a_reparametrised_prefix_follows_its_weights_between_generations(make_t5, inputs, perturb):
    model = attach(make_t5(), PrefixSpec(num_virtual_tokens=4, mlp_dim=7))
    first = model(**inputs).logits
    assert torch.equal(model(**inputs).logits, first)
    perturb(model)
    moved = model(**inputs).logits
    assert not torch.equal(moved, first)
    assert torch.equal(materialize(copy.deepcopy(model))(**inputs).logits, moved)


@pytest.mark.parametrize("site", SITES)
@torch.no_grad()
def test_each_site_is_optional_and_acts(site, make_t5, inputs):
    spec = PrefixSpec(4, sites=[site], reparametrize=False, init="normal")
    model = attach(make_t5(), spec)
    assert len(list(prefix_sites(model))) == 1
    difference = (model(**inputs).logits - make_t5()(**inputs).logits).abs().max()
    assert difference > 1e-3


@torch.no_grad()
def test_activations_start_from_what_the_model_computes(kind, make_t5):
    model = make_t5(kind)
    attached = attach(copy.deepcopy(model), PrefixSpec(6, reparametrize=False))
    first = model.encoder.block[0].layer[0]
    # In the first layer a key depends on its token alone.
    vocabulary = first.SelfAttention.k(first.layer_norm(model.shared.weight))
    keys = attached.encoder.prefix["self_attention"].key[0].transpose(0, 1).flatten(1)
    distances = torch.cdist(keys, vocabulary, compute_mode="donot_use_mm_for_euclid_dist")
    assert (distances.min(1).values < 1e-5).all()
    assert len(distances.argmin(1).unique()) > 1


@torch.no_grad()
def test_given_tokens_begin_the_prefix_and_the_rest_takes_little_attention(make_t5, inputs):
    model = make_t5()
    spec = PrefixSpec(6, reparametrize=False, init_ids=(5, 9))
    attached = attach(copy.deepcopy(model), spec)
    for stack, sublayer in (("encoder", "self_attention"), ("decoder", "self_attention")):
        prefix = getattr(attached, stack).prefix[sublayer]
        first = getattr(model, stack).block[0].layer[0]
        wanted = first.layer_norm(model.shared.weight[[5, 9]])
        for name, states in (("k", prefix.key), ("v", prefix.value)):
            begun = states[0, :, :2].transpose(0, 1).flatten(1)
            torch.testing.assert_close(begun, getattr(first.SelfAttention, name)(wanted))
            rest = states[:, :, 2:]
            assert 0 < rest.std() < 0.15
            assert len(rest[0, 0].unique(dim=0)) == 4, "no two alike, else they would stay so"
    assert json.loads(json.dumps(asdict(spec)))["init_ids"] == [5, 9]


@torch.no_grad()
def test_attention_weights_can_be_asked_for(make_t5, inputs):
    model = attach(make_t5(), FREE)
    out = model(**inputs, output_attentions=True)
    torch.testing.assert_close(out.logits, model(**inputs).logits, atol=1e-5, rtol=1e-5)
    assert out.encoder_attentions[0].shape == (3, 4, 7, 4 + 7)
    torch.testing.assert_close(out.encoder_attentions[0].sum(-1), torch.ones(3, 4, 7))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_virtual_tokens": 0}, "num_virtual_tokens is 0; it must be a whole number"),
        ({"mlp_dim": -2}, "mlp_dim is -2"),
        (
            {"sites": ["encoder"]},
            "'encoder'; choose at least one of: encoder_self, decoder_self, decoder_cross",
        ),
        ({"init": "zeros"}, "choose one of: activations, normal"),
        ({"init_ids": (3, 4)}, "only where reparametrize is false"),
        ({"init_ids": (3,), "init": "normal", "reparametrize": False}, "only where reparametrize"),
        (
            {"num_virtual_tokens": 2, "init_ids": (3, 4, 5), "reparametrize": False},
            "num_virtual_tokens=2 cannot start from 3 tokens",
        ),
    ],
)
def test_bad_hyperparameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PrefixSpec(**arguments)
