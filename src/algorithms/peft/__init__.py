"""Parameter-efficient fine-tuning of T5: LoRA, adapters, prefix-tuning, and their two ends."""

from src.algorithms.peft.adapter import AdapterSpec
from src.algorithms.peft.lora import LoRASpec
from src.algorithms.peft.prefix import PrefixSpec
from src.algorithms.peft.spec import FrozenSpec, FullFineTuningSpec, MethodSpec
from src.algorithms.peft.storage import (
    METHODS,
    MethodMismatchError,
    MethodRecord,
    attach,
    fingerprint,
    load_method,
    load_trainable_state,
    make_spec,
    method_record,
    read_record,
    save_method,
    trainable_state,
)

__all__ = [
    "METHODS",
    "AdapterSpec",
    "FrozenSpec",
    "FullFineTuningSpec",
    "LoRASpec",
    "MethodMismatchError",
    "MethodRecord",
    "MethodSpec",
    "PrefixSpec",
    "attach",
    "fingerprint",
    "load_method",
    "load_trainable_state",
    "make_spec",
    "method_record",
    "read_record",
    "save_method",
    "trainable_state",
]
