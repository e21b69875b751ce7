"""Every file of every config group composes, and what it names can be made."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from src import entry  # registers the resolvers

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"


def members(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def composed(config: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIGS)):
        cfg = compose(config, [*overrides, "hydra.run.dir=x"], return_hydra_config=True)
        OmegaConf.update(cfg, "hydra.runtime.output_dir", "x", force_add=True)
        HydraConfig.instance().set_config(cfg)
        return cfg


def targets(node: Any) -> list[str]:
    found = []
    if isinstance(node, DictConfig):
        if "_target_" in node:
            found.append(node["_target_"])
        for key in node:
            if key != "hydra":
                found += targets(node[key])
    elif isinstance(node, ListConfig):
        for item in node:
            found += targets(item)
    return found


def check(cfg: DictConfig) -> None:
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    OmegaConf.to_container(own, resolve=True)
    for target in targets(cfg):
        assert callable(get_object(target)), target
    entry._refuse_wrong_kinds(own)


@pytest.mark.parametrize("task", members("task"))
def test_task(task: str) -> None:
    cfg = composed("eval", f"task={task}")
    check(cfg)
    assert cfg.task_name == task
    assert cfg.action in ("test", "predict", "report")


#: Members that only make sense within a task, whose keys they read.
TASK_OF = {
    ("model", "count_detector"): "detect",
    ("model", "likelihood_detector"): "detect",
    ("model", "watermarked_generation"): "generate",
    ("model", "inversion"): "invert",
    ("data", "prompts"): "generate",
    ("data", "texts"): "detect",
    ("data", "embeddings"): "invert",
    ("data", "images"): "filter",
    ("callbacks", "solve"): "solve",
}

#: Data of models that are no adapted T5.
TRAINED_BY = {
    ("data", "phrases"): ("model=proposer", "baseline=null"),
    ("data", "pretraining"): ("experiment=pretrain_t5_mini",),
    ("data", "scenes"): ("experiment=mini_clip",),
}


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (group, name)
        for group in ("backbone", "model", "data", "trainer", "callbacks", "logger")
        for name in members(group)
    ],
)
def test_group(group: str, name: str) -> None:
    task = TASK_OF.get((group, name))
    if task:
        check(composed("eval", f"task={task}", f"{group}={name}"))
    else:
        with_it = TRAINED_BY.get((group, name), ())
        check(composed("train", f"{group}={name}", *with_it))


@pytest.mark.parametrize("name", members("experiment"))
def test_experiment(name: str) -> None:
    text = (CONFIGS / "experiment" / f"{name}.yaml").read_text()
    config = "eval" if "override /task" in text else "train"
    check(composed(config, f"experiment={name}"))


def test_backbones_say_what_they_are() -> None:
    for name in members("backbone"):
        spec = OmegaConf.load(CONFIGS / "backbone" / f"{name}.yaml")
        assert spec.name == name
        assert spec.family in ("t5", "causal_lm", "clip")


@pytest.mark.parametrize("method", ["lora", "adapter", "prefix_tuning"])
def test_methods_on_svamp_train_at_most_a_twentieth(method: str) -> None:
    cfg = composed("train", "experiment=svamp", f"model={method}")
    model = instantiate(cfg.model, _convert_="all")
    model.configure_model()
    trainable, total = model.parameter_counts()
    assert 0 < trainable <= 0.05 * total
