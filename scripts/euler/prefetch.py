"""Fetch weights and data by their names in configs/, into the hub's cache (HF_HOME).

    python scripts/euler/prefetch.py flan_t5_base svamp

For nodes without network, or before a job with several processes, which would all fetch at once.
"""

import sys
from pathlib import Path

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
        The folder it lies in.

    Raises:
        ValueError: If there is nothing of that name to fetch.
    """
    if name in DATA:
        return snapshot_download(DATA[name], repo_type="dataset")
    path = CONFIGS / "backbone" / f"{name}.yaml"
    hub_name = OmegaConf.load(path).get("path") if path.exists() else None  # type: ignore[union-attr]
    if not hub_name or (CONFIGS.parent / hub_name).exists():
        known = [*sorted(file.stem for file in (CONFIGS / "backbone").glob("*.yaml")), *DATA]
        raise ValueError(f"{name!r} is nothing to fetch; choose from {', '.join(known)}")
    return snapshot_download(hub_name, ignore_patterns=UNUSED)


if __name__ == "__main__":
    try:
        for wanted in sys.argv[1:]:
            print(f"{wanted}: {fetch(wanted)}")
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
