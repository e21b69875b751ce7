"""The layout's rules, read off the source: who may import whom, one stem everywhere."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# Package or file under src -> what of src it may import (prefixes), besides itself.
ALLOWED = {
    "algorithms": ("src.algorithms",),
    "backbones": (),
    "signatures": (),
    "modules": ("src.algorithms", "src.backbones", "src.modules"),
    "datamodules": ("src.algorithms.prompting", "src.algorithms.answers", "src.datamodules"),
    "callbacks": ("src.algorithms", "src.reports", "src.callbacks"),
    "reports": ("src.algorithms", "src.backbones", "src.reports"),
    "entry": (
        "src.backbones",
        "src.callbacks.checkpoint",
        "src.callbacks.prediction_writer",
        "src.signatures",
    ),
}


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def is_within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("path", python_files(SRC), ids=lambda path: str(path.relative_to(SRC)))
def test_imports_follow_the_layout(path: Path) -> None:
    package = path.relative_to(SRC).parts[0].removesuffix(".py")
    if package == "__init__":
        return
    allowed = ALLOWED[package]
    names = imports_of(path)
    # `from src.x import y` yields both "src.x" and "src.x.y": the module must be allowed itself,
    # or be a package of which only allowed members are taken.
    ours = {name for name in names if name == "src" or name.startswith("src.")}
    parents = {name.rpartition(".")[0] for name in ours}
    refused = {name for name in ours - parents if not is_within(name, allowed)}
    assert not refused, f"src/{path.relative_to(SRC)} must not import {sorted(refused)}"


@pytest.mark.parametrize("path", python_files(SRC), ids=lambda path: str(path.relative_to(SRC)))
def test_frameworks_stay_where_they_belong(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports_of(path)}
    if "algorithms" in path.relative_to(SRC).parts:
        assert not roots & {"lightning", "pytorch_lightning"}
    if path != SRC / "entry.py":
        assert not roots & {"hydra", "omegaconf"}


def test_the_rule_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("from src.modules.base import Seq2Seq\n")
    assert "src.modules.base" in imports_of(bad)
    assert not is_within("src.modules.base", ALLOWED["algorithms"])


def test_every_method_has_one_stem() -> None:
    for name in ("lora", "adapter", "prefix_tuning", "full", "frozen"):
        assert (ROOT / f"configs/model/{name}.yaml").exists()
        assert (ROOT / f"src/modules/{name}.py").exists()
        assert (ROOT / f"tests/modules/test_{name}.py").exists()


def test_no_group_has_a_single_member() -> None:
    for group in (ROOT / "configs").iterdir():
        if group.is_dir() and group.name not in ("paths", "hydra"):
            assert len(list(group.rglob("*.yaml"))) >= 2, f"configs/{group.name}"
