"""One way to attach, save and load every method: trainable tensors and a JSON record, no pickles.

A folder holds `method.json` (method, hyperparameters, backbone, fingerprint of its weights) and

- lora: `adapter_config.json` and `adapter_model.safetensors`, as peft writes them, so that stock
  `peft.PeftModel.from_pretrained` reads the folder;
- adapter, prefix_tuning: `trainable.safetensors`; a prefix is stored without its MLP;
- full: `config.json` and `model.safetensors`, a model in the hub's own format;
- frozen: nothing more.

The fingerprint is there because t5-small and flan-t5-small differ in weights more than in shape:
an adapter would load on the wrong one without a word and answer nonsense.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from src.algorithms.peft.adapter import AdapterSpec
from src.algorithms.peft.lora import LoRASpec
from src.algorithms.peft.prefix import PrefixSpec, ReparametrizedPrefix, prefix_sites
from src.algorithms.peft.spec import FrozenSpec, FullFineTuningSpec, MethodSpec
from src.algorithms.peft.t5 import Model, check_choice, unwrap

METHODS: dict[str, type[MethodSpec]] = {
    spec.method: spec
    for spec in (LoRASpec, AdapterSpec, PrefixSpec, FullFineTuningSpec, FrozenSpec)
}

RECORD = "method.json"
TRAINABLE = "trainable.safetensors"
PEFT = "adapter_model.safetensors"
FULL = "model.safetensors"
FORMAT = 1
SAMPLES_PER_TENSOR = 64


class MethodMismatchError(ValueError):
    """A saved method does not belong to the model, backbone or method that it is loaded into."""


@dataclass(frozen=True)
class MethodRecord:
    """What `method.json` says.

    Attributes:
        spec: the method and its hyperparameters.
        fingerprint: of the backbone's weights before anything was attached.
        backbone: name of the backbone, for messages and tables.
        is_materialized: whether the tensors are those of a prefix without its MLP.
        extra: whatever the caller stored beside it (scores, data, date).
    """

    spec: MethodSpec
    fingerprint: str
    backbone: str = ""
    is_materialized: bool = False
    extra: Mapping[str, Any] | None = None


def make_spec(method: str, **hyperparameters: Any) -> MethodSpec:
    """Build the spec of a method by name.

    Raises:
        ValueError: an unknown method or hyperparameter (the choices are listed), or a bad value.
    """
    spec = METHODS[check_choice("method", method, tuple(METHODS))]
    known = tuple(field.name for field in fields(spec))
    for name in hyperparameters:
        if name not in known:
            raise ValueError(
                f"{method} has no hyperparameter {name!r}; it has: {', '.join(known) or 'none'}"
            )
    return spec(**hyperparameters)


def fingerprint(model: Model) -> str:
    """Return a short digest of a backbone's weights, equal for equal weights.

    It reads the name, the shape and 64 evenly spaced numbers of every tensor, rounded to bfloat16
    so that a backbone has one fingerprint whichever precision it was loaded in. Call it before
    anything is attached: it covers every parameter of the model.

    Args:
        model: a T5; on the meta device only names and shapes count.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        if weight.is_meta:
            continue
        flat = weight.detach().reshape(-1)
        last = flat.numel() - 1
        places = torch.linspace(0, last, min(SAMPLES_PER_TENSOR, flat.numel())).long()
        places.clamp_(max=last)  # beyond 2^24, float32 may round the last place up
        sample = flat[places.to(flat.device)].to(torch.bfloat16).float().cpu()
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:32]


def attach(model: Model, spec: MethodSpec) -> Model:
    """Attach a method to a T5 and record on the model what was attached to which weights.

    Args:
        model: a `T5ForConditionalGeneration` without a method; changed in place.
        spec: the method.

    Returns:
        The model to train.

    Raises:
        ValueError: the model carries a method already, or is no T5.
    """
    if getattr(model, "method_record", None) is not None:
        raise ValueError(
            f"the model already carries {model.method_record.spec.method}; load the backbone anew"
        )
    if getattr(getattr(model, "config", None), "model_type", None) != "t5":
        raise ValueError(f"{type(model).__name__} is no T5; methods attach to T5 backbones only")
    mark, was_training = fingerprint(model), model.training
    attached = spec.attach(model).train(was_training)
    unwrap(attached).method_record = MethodRecord(spec, mark)
    return attached


def method_record(model: Model) -> MethodRecord:
    """Return what `attach` recorded.

    Raises:
        ValueError: nothing was attached.
    """
    record = getattr(unwrap(model), "method_record", None)
    if record is None:
        raise ValueError("no method is attached to this model; call attach(model, spec) first")
    return record


def trainable_state(model: Model) -> dict[str, Tensor]:
    """Return the trainable tensors by name, detached, on the CPU."""
    return {
        name: weight.detach().cpu().contiguous()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def load_trainable_state(model: Model, state: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into the trainable parameters of the same names.

    Args:
        model: a model with a method attached.
        state: every trainable tensor by name.
        source: what the state was read from, for messages.

    Raises:
        MethodMismatchError: a trainable tensor is missing, has another shape, or is unknown.
    """
    own = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    for what, names in (
        ("lacks the trainable tensor", own.keys() - state.keys()),
        ("holds the unknown tensor", state.keys() - own.keys()),
    ):
        if names:
            first, more = sorted(names)[0], len(names) - 1
            also = f" and {more} more" if more else ""
            raise MethodMismatchError(
                f"{source} {what} {first}{also}; it was made by another method or version, "
                "or it is damaged: train anew or use the folder as it was saved"
            )
    for name, weight in own.items():
        if weight.shape != state[name].shape:
            raise MethodMismatchError(
                f"{source}: {name} has shape {tuple(state[name].shape)}, the model needs "
                f"{tuple(weight.shape)}; load it on the backbone that it was trained on"
            )
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(state[name])


def save_method(
    model: Model,
    folder: str | Path,
    backbone: str = "",
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Save what was trained, with a record of how it was made.

    Args:
        model: a model that `attach` returned.
        folder: made if missing.
        backbone: name of the backbone.
        extra: JSON values to keep in the record.

    Returns:
        The folder.

    Raises:
        ValueError: no method is attached.
    """
    record = method_record(model)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    spec = record.spec
    is_materialized = False
    if isinstance(spec, LoRASpec):
        # "auto" would ask the hub whether the vocabulary was resized.
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    elif isinstance(spec, FullFineTuningSpec):
        # As `save_pretrained`, which would draw a progress bar into the run's log.
        model.config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        save_file(trainable_state(model), folder / FULL, metadata={"format": "pt"})
    elif not isinstance(spec, FrozenSpec):
        state = trainable_state(model)
        if isinstance(spec, PrefixSpec):
            state = _materialized_state(model)
            is_materialized = True
        save_file(state, folder / TRAINABLE)
    text = {
        "format": FORMAT,
        "method": spec.method,
        "hyperparameters": spec.to_dict(),
        "is_materialized": is_materialized,
        "backbone": backbone or record.backbone,
        "fingerprint": record.fingerprint,
        "extra": dict(extra or {}),
    }
    (folder / RECORD).write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
    return folder


def _materialized_state(model: Model) -> dict[str, Tensor]:
    """Return the keys and values of all prefixes, under the names of free prefixes."""
    state = {}
    for sites in prefix_sites(model):
        for sublayer, prefix in sites.items():
            free = prefix.materialize() if isinstance(prefix, ReparametrizedPrefix) else prefix
            for name, weight in free.named_parameters():
                key = f"{sites.stack}.prefix.{sublayer}.{name}"
                state[key] = weight.detach().cpu().contiguous()
    return state


def read_record(folder: str | Path) -> MethodRecord:
    """Read `method.json`.

    Args:
        folder: what `save_method` wrote.

    Raises:
        FileNotFoundError: there is no `method.json`.
        ValueError: it is no JSON, lacks a field, or names an unknown method or hyperparameter.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; {folder} is no saved method")
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
        found = text["format"]
        method, values, mark = text["method"], text["hyperparameters"], text["fingerprint"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no record of a saved method: {error!r}") from error
    if found != FORMAT:
        raise ValueError(f"{path} has format {found!r}; this version reads format {FORMAT}")
    return MethodRecord(
        make_spec(method, **values),
        mark,
        backbone=text.get("backbone", ""),
        is_materialized=bool(text.get("is_materialized", False)),
        extra=text.get("extra", {}),
    )


def load_method(
    model: Model, folder: str | Path, method: str | None = None, backbone: str = ""
) -> Model:
    """Attach a saved method to its backbone.

    Args:
        model: the backbone, a T5 without a method; changed in place.
        folder: what `save_method` wrote.
        method: the method that is expected; any if None.
        backbone: name of the given backbone, for messages.

    Returns:
        The model with the method attached, in the same train or eval mode.

    Raises:
        MethodMismatchError: the folder holds another method, or one made for other weights, or
            its tensors do not fit.
        FileNotFoundError: a file is missing.
        ValueError: the record is damaged, or the model carries a method already.
    """
    folder = Path(folder)
    record = read_record(folder)
    spec = record.spec
    if method is not None and spec.method != method:
        raise MethodMismatchError(
            f"{folder} holds {spec.method}, not {method}; "
            f"use model={spec.method} or another checkpoint"
        )
    mark = fingerprint(model)
    if mark != record.fingerprint:
        raise MethodMismatchError(
            f"{folder} was trained on backbone {record.backbone or 'unknown'} (fingerprint "
            f"{record.fingerprint[:8]}), but the weights of {backbone or 'the given one'} have "
            f"fingerprint {mark[:8]}; use the backbone that it was trained on"
        )
    if isinstance(spec, PrefixSpec) and record.is_materialized:
        # "normal" skips the forward pass of "activations": the values are overwritten below.
        spec = replace(spec.materialized(), init="normal", init_ids=None)
    attached = attach(model, spec)
    if isinstance(spec, LoRASpec):
        _load_lora(attached, _read_tensors(folder / PEFT), folder)
    elif not isinstance(spec, FrozenSpec):
        name = FULL if isinstance(spec, FullFineTuningSpec) else TRAINABLE
        load_trainable_state(attached, _read_tensors(folder / name), str(folder))
    unwrap(attached).method_record = MethodRecord(
        spec, mark, record.backbone or backbone, record.is_materialized, record.extra
    )
    return attached


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; the saved method is incomplete")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise MethodMismatchError(f"{path} is damaged: {error}") from error


def _load_lora(model: Model, state: Mapping[str, Tensor], folder: Path) -> None:
    # peft stores names without the adapter's own name ("default"); let it map them back.
    own = {name for name, weight in model.named_parameters() if weight.requires_grad}
    wanted = {name.replace(".default", "") for name in own}
    missing = {name.removesuffix(".weight") for name in wanted} - {
        name.removesuffix(".weight") for name in state
    }
    if missing:
        raise MethodMismatchError(
            f"{folder} lacks the trainable tensor {sorted(missing)[0]}"
            f" ({len(missing)} in all); it is damaged or of another version"
        )
    set_peft_model_state_dict(model, dict(state))
