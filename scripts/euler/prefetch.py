"""Fetch weights and data by their names in configs/, into the hub's cache (HF_HOME).

    python scripts/euler/prefetch.py flan_t5_base svamp

For nodes without network, or before a job with several processes, which would all fetch at once.
"""

import sys
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from omegaconf import OmegaConf

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
#: Weights in other frameworks' formats, of which the hub's T5 repositories hold several gigabytes.
UNUSED = ["*.msgpack", "*.h5", "*.ot", "*.onnx*", "onnx/*", "openvino/*", "*.tflite"]
DATA = {"gsm8k": "openai/gsm8k", "svamp": "ChilleD/SVAMP"}


def fetch(name: str) -> str:
    """Fetch one backbone or data set.

    Args:
        name: The stem of a file in ``configs/backbone``, ``gsm8k`` or ``svamp``.

    Returns:
        The folder or file it lies in.

    Raises:
        ValueError: If there is nothing of that name to fetch.
    """
    if name in DATA:
        return snapshot_download(DATA[name], repo_type="dataset")
    files = sorted((CONFIGS / "backbone").glob("*.yaml"))
    specs: dict[str, Any] = {file.stem: OmegaConf.load(file) for file in files}
    known = [backbone for backbone, spec in specs.items() if _is_of_the_hub(spec)]
    if name not in known:
        raise ValueError(f"{name!r} is nothing to fetch; choose from {', '.join([*known, *DATA])}")
    spec = specs[name]
    if spec.get("pretrained"):
        import open_clip

        return open_clip.download_pretrained(
            open_clip.get_pretrained_cfg(spec.model, spec.pretrained)
        )
    return snapshot_download(spec.path, ignore_patterns=UNUSED)


def _is_of_the_hub(spec: Any) -> bool:
    path = spec.get("path")
    return bool(spec.get("pretrained") or (path and not (CONFIGS.parent / path).exists()))


if __name__ == "__main__":
    try:
        for wanted in sys.argv[1:]:
            print(f"{wanted}: {fetch(wanted)}")
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
