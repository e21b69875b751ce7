"""LoRA: low-rank updates of T5's matrices (Hu et al. 2021, arXiv 2106.09685), through `peft`.

`h <- x W + (alpha / r) * x A B`. rsLoRA (Kalajdzievski 2023, arXiv 2312.03732) divides by sqrt(r);
DoRA (Liu et al. 2024, arXiv 2402.09353) trains the norm of each output row apart. A second
implementation of our own is deliberately left out: what this package saves is what stock peft
loads.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from peft import LoraConfig, TaskType, get_peft_model

from src.algorithms.peft.spec import MethodSpec
from src.algorithms.peft.t5 import Model, check_at_least_one, check_choices

TARGETS = ("q", "k", "v", "o", "wi", "wo")
"""Matrices of a T5 by the names of its checkpoints; `wi` stands for both `wi_0` and `wi_1` of a
gated T5."""


@dataclass(frozen=True)
class LoRASpec(MethodSpec):
    """Hyperparameters of LoRA.

    Args:
        rank: width r of the bottleneck, at least 1.
        alpha: scale; the update is multiplied by `alpha / rank` (`alpha / sqrt(rank)` with rsLoRA).
        dropout: probability of dropping an input of A, in [0, 1).
        targets: which matrices of every attention and feed-forward sublayer get an update: any of
            `TARGETS`.
        use_rslora: rank-stabilised scale.
        use_dora: weight-decomposed update.

    Raises:
        ValueError: a size below one, an unknown target, a dropout outside [0, 1).
    """

    method: ClassVar[str] = "lora"

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: Sequence[str] = ("q", "v")
    use_rslora: bool = False
    use_dora: bool = False

    def __post_init__(self) -> None:
        check_at_least_one("rank", self.rank)
        if not self.alpha > 0:
            raise ValueError(f"alpha is {self.alpha!r}; it must be above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}; it must lie in [0, 1)")
        object.__setattr__(self, "targets", check_choices("targets", self.targets, TARGETS))

    @property
    def scale(self) -> float:
        """The lambda of the unified view: `alpha / r`, or `alpha / sqrt(r)` with rsLoRA."""
        return self.alpha / (self.rank**0.5 if self.use_rslora else self.rank)

    def attach(self, model: Model) -> Model:
        names: list[str] = []
        for target in self.targets:
            names += ["wi_0", "wi_1"] if target == "wi" and model.config.is_gated_act else [target]
        config = LoraConfig(
            task_type=TaskType.SEQ_2_SEQ_LM,
            r=self.rank,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType]
            lora_dropout=self.dropout,
            target_modules=names,
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
        )
        with warnings.catch_warnings():
            # peft 0.21 reads an attribute that transformers 5.23 has renamed.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            return get_peft_model(model, config)

    def merge(self, model: Model) -> Model:
        return model.merge_and_unload()
