"""The studies through the configuration: names, budgets, and what a user mistypes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src import entry
from src.algorithms.peft.counts import count, total
from src.backbones import load_config

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def composed(config: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIGS)):
        cfg = compose(config, [*overrides, "hydra.run.dir=x"], return_hydra_config=True)
        OmegaConf.update(cfg, "hydra.runtime.output_dir", "x", force_add=True)
        HydraConfig.instance().set_config(cfg)
        OmegaConf.set_readonly(cfg, False)
        OmegaConf.set_struct(cfg, False)
        return cfg


def test_the_default_study_takes_every_strategy_it_names() -> None:
    cfg = composed("eval", "task=prompt")
    grid = instantiate(cfg.datamodule, _convert_="all")
    module = instantiate(cfg.model, _convert_="all")
    assert list(grid.templates) == list(cfg.strategies) == list(module.templates)
    assert {cell.model for cell in grid.cells} == {"t5_mini", "smollm2"}
    assert module.specs["smollm2"]["family"] == "causal_lm"
    assert cfg.data.num_test == 50


def test_a_study_of_other_models_strategies_and_shots() -> None:
    cfg = composed(
        "eval", "task=prompt", "models=[flan_t5_base]", "strategies=[zero_shot,few_shot]",
        "shots=[2,8]", "data=svamp", "ckpt_path=[a,b]",
    )  # fmt: skip
    grid = instantiate(cfg.datamodule, _convert_="all")
    cells = [(cell.model, cell.strategy, cell.num_shots) for cell in grid.cells]
    assert cells == [
        ("flan_t5_base", "zero_shot", 0),
        ("flan_t5_base", "few_shot", 2),
        ("flan_t5_base", "few_shot", 8),
        ("checkpoint:a", "as trained", 0),
        ("checkpoint:b", "as trained", 0),
    ]
    assert grid.problems.source == "svamp"


def test_an_unknown_model_or_strategy_lists_the_choices() -> None:
    with pytest.raises(ValueError, match=r"no backbone 'gpt5'; choose among .*smollm2.*t5_mini"):
        entry._members("backbone", ["t5_small", "gpt5"])
    with pytest.raises(ValueError, match=r"no strategy 'telepathy'; choose among .*zero_shot"):
        entry._members("strategy", ["zero_shot", "telepathy"])


def test_the_course_study_is_the_prompt_task_on_svamp() -> None:
    cfg = composed("eval", "experiment=course_q3", "data.train=TRAIN.csv")
    assert cfg.task_name == "prompt"
    assert list(cfg.models) == ["t5_base", "flan_t5_base"]
    grid = instantiate(cfg.datamodule, _convert_="all")
    assert grid.problems.source == "svamp"
    assert grid.problems.sizes["test"] is None


@pytest.mark.parametrize("model", ["lora", "adapter", "prefix_tuning"])
def test_a_budget_sets_the_size_of_every_method_in_training(model: str) -> None:
    cfg = composed("train", f"model={model}", "backbone=t5_small", "budget=300000")
    entry._meet_budget(cfg)
    made = instantiate(cfg.model, _convert_="all").spec
    kept = made.materialized() if model == "prefix_tuning" else made
    config = load_config(cfg.backbone)
    unit = {"lora": 18 * 2 * 1024, "adapter": 30 * 1025, "prefix_tuning": 18 * 1024}[model]
    assert abs(total(count(kept, config)) - 300_000) <= unit / 2


def test_a_method_without_a_size_refuses_a_budget() -> None:
    cfg = composed("train", "model=full", "backbone=t5_small", "budget=300000")
    with pytest.raises(ValueError, match="full has no size to fit to a budget"):
        entry._meet_budget(cfg)


def test_the_ladder_of_the_experiment_is_short_and_has_rungs_to_fit() -> None:
    cfg = composed("train", "experiment=scaling_ladder")
    ladder = instantiate(cfg.report, _convert_="all")
    rungs = [rung for rung in ladder.rungs if not ladder._too_costly(rung)]
    assert len(rungs) >= 30
    # An hour at 5e9 operations a second, what a core made of models this small.
    assert sum(ladder._estimate(*rung) for rung in rungs) <= 3600 * 5e9
    assert len({name for name, _ in rungs}) >= 5
    assert all(count <= max(cfg.tokens) for _, count in rungs)
