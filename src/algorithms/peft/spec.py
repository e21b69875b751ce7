"""What a method is: a frozen set of hyperparameters that knows how to attach itself to a T5.

`FullFineTuningSpec` and `FrozenSpec`, the two ends that every other method is compared with, need
no more than this and live here; `lora.py`, `adapter.py` and `prefix.py` hold the others. Which
tensors a method stores, and how, is decided in `storage.py`.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from src.algorithms.peft.t5 import Model


@dataclass(frozen=True)
class MethodSpec(ABC):
    """Hyperparameters of a method, checked when made."""

    method: ClassVar[str]

    @abstractmethod
    def attach(self, model: Model) -> Model:
        """Freeze the T5 and add what the method trains.

        Use `storage.attach`, which also records the method and the backbone's fingerprint on the
        model.

        Args:
            model: a `T5ForConditionalGeneration`; changed in place.

        Returns:
            The model to train: the same object, or a wrapper around it.
        """

    def merge(self, model: Model) -> Model:
        """Fold the method into the backbone where that is possible without changing the outputs."""
        return model

    def to_dict(self) -> dict[str, Any]:
        """Return the hyperparameters as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class FullFineTuningSpec(MethodSpec):
    """Train every weight of the backbone."""

    method: ClassVar[str] = "full"

    def attach(self, model: Model) -> Model:
        return model.requires_grad_(True)


@dataclass(frozen=True)
class FrozenSpec(MethodSpec):
    """Train nothing: the backbone as it was pretrained."""

    method: ClassVar[str] = "frozen"

    def attach(self, model: Model) -> Model:
        return model.requires_grad_(False)
