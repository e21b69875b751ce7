import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5ForConditionalGeneration

from src.algorithms.peft import (
    AdapterSpec,
    FrozenSpec,
    FullFineTuningSpec,
    LoRASpec,
    MethodMismatchError,
    PrefixSpec,
    attach,
    fingerprint,
    load_method,
    make_spec,
    method_record,
    read_record,
    save_method,
    trainable_state,
)
from src.algorithms.peft.storage import TRAINABLE


@torch.no_grad()
def test_save_load_and_the_same_predictions(spec, kind, make_t5, inputs, perturb, tmp_path):
    model = attach(make_t5(kind), spec)
    perturb(model)
    save_method(model, tmp_path / "new" / "folder", backbone="tiny", extra={"accuracy": 0.5})
    loaded = load_method(make_t5(kind), tmp_path / "new" / "folder", method=spec.method)
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    assert not loaded.training
    given = {k: inputs[k] for k in ("input_ids", "attention_mask")}
    options = {"max_new_tokens": 5, "do_sample": False}
    assert torch.equal(loaded.generate(**given, **options), model.generate(**given, **options))
    record = read_record(tmp_path / "new" / "folder")
    assert record.spec == spec
    assert record.backbone == "tiny"
    assert record.extra == {"accuracy": 0.5}
    assert method_record(loaded).fingerprint == record.fingerprint


def test_only_trainable_tensors_are_stored(spec, make_t5, tmp_path):
    model = attach(make_t5(), spec)
    save_method(model, tmp_path)
    stored = [load_file(path) for path in tmp_path.glob("*.safetensors")]
    sizes = sum(tensor.numel() for state in stored for tensor in state.values())
    if isinstance(spec, PrefixSpec):  # stored without its MLP
        sites = {"encoder_self": 3, "decoder_self": 2, "decoder_cross": 2}
        expected = sum(sites[site] for site in spec.sites) * 2 * 4 * 32
    else:
        expected = sum(tensor.numel() for tensor in trainable_state(model).values())
    assert sizes == expected
    assert not list(tmp_path.glob("*.bin")) + list(tmp_path.glob("*.pt"))


def test_a_reparametrised_prefix_loads_without_its_mlp(make_t5, inputs, tmp_path):
    model = attach(make_t5(), PrefixSpec(4, mlp_dim=7))
    save_method(model, tmp_path)
    loaded = load_method(make_t5(), tmp_path)
    assert not any("mlp" in name or "embedding" in name for name in trainable_state(loaded))
    # ... and goes through another round.
    save_method(loaded, tmp_path / "again")
    again = load_method(make_t5(), tmp_path / "again")
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, model(**inputs).logits)


def test_a_prefix_begun_with_tokens_loads_as_it_was_trained(make_t5, inputs, perturb, tmp_path):
    model = attach(make_t5(), PrefixSpec(4, reparametrize=False, init_ids=(5, 9)))
    perturb(model)
    save_method(model, tmp_path)
    loaded = load_method(make_t5(), tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_full_weights_are_a_folder_in_the_hubs_format(kind, make_t5, inputs, perturb, tmp_path):
    model = attach(make_t5(kind), FullFineTuningSpec())
    perturb(model)
    save_method(model, tmp_path)
    stock = T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(stock(**inputs).logits, model(**inputs).logits)


def test_every_trainable_tensor_gets_a_gradient(spec, kind, make_t5, inputs):
    """DistributedDataParallel stops at a parameter that no loss reaches."""
    model = attach(make_t5(kind), spec).train()
    if not trainable_state(model):
        assert isinstance(spec, FrozenSpec)
        return
    model(**inputs, use_cache=False).loss.backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def test_fingerprint_takes_tensors_of_more_than_16_million_numbers():
    table = torch.nn.Embedding(32128, 768, dtype=torch.bfloat16)  # t5_base's words
    torch.nn.init.zeros_(table.weight)
    mark = fingerprint(table)
    table.weight.data[-1, -1] = 1
    assert fingerprint(table) != mark


def test_fingerprint_tells_weights_apart_and_ignores_precision(kind, make_t5):
    mark = fingerprint(make_t5(kind))
    assert mark == fingerprint(make_t5(kind))
    assert mark == fingerprint(make_t5(kind).to(torch.bfloat16))
    assert mark != fingerprint(make_t5(kind, seed=1))
    assert len(mark) == 32
    model = make_t5(kind)
    with torch.no_grad():
        model.decoder.final_layer_norm.weight[0] += 1
    assert mark != fingerprint(model)


def test_another_backbone_is_refused(spec, make_t5, tmp_path):
    save_method(attach(make_t5(), spec), tmp_path, backbone="t5_small")
    with pytest.raises(
        MethodMismatchError, match=r"trained on backbone t5_small .* weights of flan"
    ):
        load_method(make_t5(seed=1), tmp_path, backbone="flan")


def test_another_method_is_refused(make_t5, tmp_path):
    save_method(attach(make_t5(), LoRASpec()), tmp_path)
    with pytest.raises(MethodMismatchError, match="holds lora, not adapter; use model=lora"):
        load_method(make_t5(), tmp_path, method="adapter")


@pytest.mark.parametrize("name", ["lora", "adapter", "prefix", "full"])
def test_a_missing_tensor_is_refused(name, specs, make_t5, tmp_path):
    save_method(attach(make_t5(), specs[name]), tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    state = load_file(path)
    lost = sorted(state)[0]
    save_file({k: v for k, v in state.items() if k != lost}, path)
    with pytest.raises(MethodMismatchError, match="lacks the trainable tensor"):
        load_method(make_t5(), tmp_path)


def test_an_unknown_tensor_and_a_wrong_shape_are_refused(make_t5, tmp_path):
    save_method(attach(make_t5(), AdapterSpec(bottleneck_dim=3)), tmp_path)
    path = tmp_path / TRAINABLE
    state = load_file(path)
    save_file({**state, "else": torch.zeros(1)}, path)
    with pytest.raises(MethodMismatchError, match="holds the unknown tensor else"):
        load_method(make_t5(), tmp_path)
    name = next(name for name in state if name.endswith("up.bias"))
    save_file({**state, name: torch.zeros(3)}, path)
    with pytest.raises(MethodMismatchError, match=r"has shape \(3,\), the model needs \(32,\)"):
        load_method(make_t5(), tmp_path)


def test_damage_is_named(make_t5, tmp_path):
    save_method(attach(make_t5(), AdapterSpec(bottleneck_dim=3)), tmp_path)
    (tmp_path / TRAINABLE).write_bytes(b"not safetensors")
    with pytest.raises(MethodMismatchError, match="is damaged"):
        load_method(make_t5(), tmp_path)
    (tmp_path / TRAINABLE).unlink()
    with pytest.raises(FileNotFoundError, match="incomplete"):
        load_method(make_t5(), tmp_path)
    (tmp_path / "method.json").write_text("{")
    with pytest.raises(ValueError, match="no record of a saved method"):
        load_method(make_t5(), tmp_path)
    with pytest.raises(FileNotFoundError, match="is no saved method"):
        load_method(make_t5(), tmp_path / "nowhere")


def test_a_record_of_another_format_or_method_is_refused(make_t5, tmp_path):
    save_method(attach(make_t5(), LoRASpec()), tmp_path)
    path = tmp_path / "method.json"
    text = json.loads(path.read_text())
    path.write_text(json.dumps({**text, "format": 99}))
    with pytest.raises(ValueError, match="has format 99"):
        read_record(tmp_path)
    path.write_text(json.dumps({**text, "method": "ia3"}))
    with pytest.raises(
        ValueError, match="choose one of: lora, adapter, prefix_tuning, full, frozen"
    ):
        read_record(tmp_path)
    path.write_text(json.dumps({**text, "hyperparameters": {"width": 3}}))
    with pytest.raises(ValueError, match="lora has no hyperparameter 'width'; it has: rank"):
        read_record(tmp_path)


def test_a_second_method_and_a_model_that_is_no_t5_are_refused(make_t5):
    model = attach(make_t5(), AdapterSpec())
    with pytest.raises(ValueError, match="already carries adapter"):
        attach(model, LoRASpec())
    with pytest.raises(ValueError, match="Linear is no T5"):
        attach(torch.nn.Linear(2, 2), LoRASpec())
    with pytest.raises(ValueError, match="no method is attached"):
        save_method(make_t5(), "unused")


def test_specs_are_made_by_name_and_survive_json(spec):
    values = json.loads(json.dumps(spec.to_dict()))
    assert make_spec(spec.method, **values) == spec
