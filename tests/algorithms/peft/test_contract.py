"""What this package relies on in transformers 5.23 and peft 0.21, named one by one.

When a new version breaks a method, one of these says which assumption fell.
"""

import inspect

import peft
import pytest
import torch
import transformers
from peft.tuners.lora import LoraLayer
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.models.t5 import modeling_t5

from src.algorithms.peft import PrefixSpec, attach
from src.algorithms.peft.prefix import ATTENTION, prefix_attention, prefix_mask
from src.algorithms.peft.t5 import core, stacks, sublayers


def test_versions_are_those_that_were_read():
    assert transformers.__version__.startswith("5.23.")
    assert peft.__version__.startswith("0.21.")


def test_names_of_stacks_blocks_and_sublayers(make_t5, kind):
    model = make_t5(kind)
    assert isinstance(model.encoder.embed_tokens, torch.nn.Embedding)
    for name, stack in stacks(model):
        assert len(stack.block) == {"encoder": 3, "decoder": 2}[name]
        for block in stack.block:
            assert len(block.layer) == {"encoder": 2, "decoder": 3}[name]
    for site, sublayer in sublayers(model):
        assert isinstance(sublayer.layer_norm, modeling_t5.T5LayerNorm)
        assert sublayer.layer_norm.weight.shape == (32,)
        assert isinstance(sublayer.dropout, torch.nn.Dropout)
        names = {name for name, _ in core(sublayer).named_children()}
        if site.sublayer == "feed_forward":
            matrices = {"wi", "wo"} if kind == "t5" else {"wi_0", "wi_1", "wo"}
            assert matrices <= names
        else:
            assert {"q", "k", "v", "o"} <= names


def test_dropout_is_the_last_thing_before_every_residual(make_t5):
    """An adapter takes the dropout's place."""
    model = make_t5()
    for site, sublayer in sublayers(model):
        x, added = torch.randn(1, 4, 32), []
        sublayer.dropout.register_forward_hook(lambda m, a, out, added=added: added.append(out))
        extra = {"key_value_states": x} if site.sublayer == "cross_attention" else {}
        out = sublayer(x, **extra)
        out = out[0] if isinstance(out, tuple) else out
        assert len(added) == 1
        assert torch.equal(out, x + added[0])


def test_attention_modules_say_their_kind_and_layer(make_t5):
    for site, sublayer in sublayers(make_t5()):
        if site.sublayer == "feed_forward":
            continue
        attention = core(sublayer)
        assert attention.layer_idx == site.layer
        assert attention.is_decoder == (site.stack == "decoder")
        assert attention.is_causal == (str(site).startswith("decoder") and "self" in site.sublayer)
        assert attention.scaling == 1.0
        assert attention.n_heads == 4


def test_the_attention_interface_and_its_mask_are_registered_together():
    assert AttentionInterface()[ATTENTION] is prefix_attention
    assert AttentionMaskInterface()[ATTENTION] is prefix_mask


def test_the_attention_function_is_called_as_expected(make_t5, inputs, monkeypatch):
    model = attach(make_t5(), PrefixSpec(2, reparametrize=False, init="normal"))
    calls = []

    def spy(module, query, key, value, attention_mask, **kwargs):
        calls.append((module, query, key, attention_mask, kwargs))
        return prefix_attention(module, query, key, value, attention_mask, **kwargs)

    monkeypatch.setitem(AttentionInterface._global_mapping, ATTENTION, spy)
    model(**inputs)
    assert len(calls) == 3 + 2 * 2
    for module, query, key, mask, kwargs in calls:
        assert isinstance(module, modeling_t5.T5Attention)
        assert query.shape[0] == 3
        assert query.shape[1] == 4
        assert mask.dtype == torch.bool
        assert mask.shape[-1] == key.shape[-2]
        assert {"dropout", "scaling", "position_bias", "prefix_states"} <= kwargs.keys()
        assert kwargs["scaling"] == 1.0
        assert kwargs["position_bias"].shape == (1, 4, query.shape[2], key.shape[2])
    # One relative bias and one mask object serve all layers of a stack: they are padded once.
    assert calls[0][4]["position_bias"] is calls[2][4]["position_bias"]
    assert calls[0][3] is calls[2][3]


def test_the_mask_is_a_tensor_even_where_sdpa_would_use_its_causal_flag():
    arguments = {"batch_size": 1, "q_length": 4, "kv_length": 4, "allow_is_causal_skip": True}
    assert modeling_t5.create_causal_mask is not None
    assert transformers.masking_utils.sdpa_mask(**arguments) is None
    mask = prefix_mask(**arguments)
    assert torch.equal(mask[0, 0], torch.ones(4, 4, dtype=torch.bool).tril())


@pytest.mark.parametrize("module", [modeling_t5.T5Stack, modeling_t5.T5Block])
def test_unknown_keyword_arguments_travel_to_the_attention(module):
    forward = inspect.unwrap(module.forward)
    kinds = [p.kind for p in inspect.signature(forward).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD in kinds


def test_names_inside_a_lora_layer(make_t5, specs):
    model = attach(make_t5(), specs["dora"])
    layer = model.get_base_model().encoder.block[0].layer[0].SelfAttention.q
    assert isinstance(layer, LoraLayer)
    assert layer.active_adapters == ["default"]
    assert isinstance(layer.base_layer, torch.nn.Linear)
    assert layer.scaling["default"] == pytest.approx(16 / 3)
    assert layer.lora_A["default"].weight.shape == (3, 32)
    assert layer.lora_B["default"].weight.shape == (32, 3)
    assert layer.lora_magnitude_vector["default"].weight.shape == (32,)


def test_config_keeps_what_config_json_said_of_the_head(make_t5):
    """T5Config forces `tie_word_embeddings` to True; `scale_decoder_outputs` remembers."""
    untied = make_t5("v1_1", tie_word_embeddings=False).config
    assert untied.tie_word_embeddings is True
    assert untied.scale_decoder_outputs is False
    assert make_t5("t5").config.scale_decoder_outputs is True
