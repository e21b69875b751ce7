"""The texts of the scaling ladder: generated problems with their solutions, to be continued.

Decides what a rung of the ladder is trained on. A text is a generated problem followed by its
equation; the encoder reads it up to a random word, the decoder writes the rest (a prefix language
model). Words are tokens, digits stand alone, and the vocabulary is what the first texts hold, so
that even the smallest models are made of layers and not of embeddings. Texts are numbered: text i
is the same for every amount of data, a smaller amount is the beginning of a larger one, no text is
seen twice, and validation texts lie beyond all of them.

Batch keys: ``input_ids``, ``attention_mask`` and ``labels`` (B, length) int64, -100 on padding.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from src.datamodules.problems import target_text
from src.datamodules.procedural import ProceduralProblems

PAD, END, UNKNOWN = 0, 1, 2
_WORD = re.compile(r"\d|[a-z]+|[^\sa-z\d]")

Example = tuple[list[int], list[int]]


class WordTokenizer:
    """Words to ids and nothing more.

    Args:
        texts: Where the vocabulary comes from.
        min_count: Rarer words are unknown.
    """

    pad_token_id, eos_token_id = PAD, END

    def __init__(self, texts: Sequence[str], min_count: int = 5) -> None:
        counts: dict[str, int] = {}
        for text in texts:
            for word in _WORD.findall(text.lower()):
                counts[word] = counts.get(word, 0) + 1
        kept = sorted(word for word, count in counts.items() if count >= min_count)
        self.ids = {word: i for i, word in enumerate(kept, start=UNKNOWN + 1)}

    def __len__(self) -> int:
        return len(self.ids) + UNKNOWN + 1

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text's words, without an end."""
        return [self.ids.get(word, UNKNOWN) for word in _WORD.findall(text.lower())]


class LadderTexts(LightningDataModule):
    """As many tokens of problem text as a rung asks for, each seen once.

    Args:
        num_tokens: Training tokens, encoder's and decoder's together; may be changed between two
            fits.
        num_val: Validation texts.
        num_vocabulary: Texts that the vocabulary is taken from.
        batch_size: Texts in a batch.
        seed: Seed of the texts, their cuts and their order.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(
        self,
        num_tokens: int = 100_000,
        num_val: int = 1000,
        num_vocabulary: int = 5000,
        batch_size: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (
            ("num_tokens", num_tokens),
            ("num_val", num_val),
            ("num_vocabulary", num_vocabulary),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise ValueError(f"data.{name} is {value}, expected at least 1.")
        self.num_tokens, self.num_val, self.batch_size = num_tokens, num_val, batch_size
        self.num_vocabulary, self.seed = num_vocabulary, seed
        self._texts: list[Example] = []
        self._validation: list[Example] = []

    @property
    def tokenizer(self) -> WordTokenizer:
        """The tokenizer, made when it is first asked for."""
        if not hasattr(self, "_tokenizer"):
            self._tokenizer = WordTokenizer(self._make(self.num_vocabulary))
        return self._tokenizer

    def setup(self, stage: str) -> None:
        while not self._enough():
            # The generator is a stream: a longer one begins with the shorter one.
            mean = self._num_tokens() / len(self._texts) if self._texts else 40
            target = int(1.05 * self.num_tokens / mean) + 500
            lines = self._make(self.num_val + target)
            encoded = [self._cut(self.tokenizer.encode(line), i) for i, line in enumerate(lines)]
            self._validation, self._texts = encoded[: self.num_val], encoded[self.num_val :]

    def chosen(self) -> list[Example]:
        """Return the training examples of this rung, the last one crossing ``num_tokens``."""
        chosen, total = [], 0
        for example in self._texts:
            if total >= self.num_tokens:
                break
            chosen.append(example)
            total += len(example[0]) + len(example[1])
        return chosen

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        order = self.chosen()
        random.Random(f"{self.seed}/order").shuffle(order)
        # Pools of similar length: less padding, and a random order of batches.
        batches = []
        for start in range(0, len(order), 50 * self.batch_size):
            pool = sorted(order[start : start + 50 * self.batch_size], key=lambda e: len(e[0]))
            some = [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
            random.Random(f"{self.seed}/{start}").shuffle(some)
            batches += some
        return DataLoader(batches, batch_size=None, collate_fn=_pad)  # pyright: ignore[reportArgumentType]

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        size = 4 * self.batch_size
        batches = [self._validation[i : i + size] for i in range(0, len(self._validation), size)]
        return DataLoader(batches, batch_size=None, collate_fn=_pad)  # pyright: ignore[reportArgumentType]

    def _make(self, count: int) -> list[str]:
        lines = []
        for problem in ProceduralProblems("train", seed=self.seed).take(count):
            equation = target_text(problem, "equation", mask_numbers=False, equation_order="infix")
            lines.append(f"{problem.question} = {equation}")
        return lines

    def _cut(self, ids: Sequence[int], index: int) -> Example:
        cut = random.Random(f"{self.seed}/cut/{index}").randint(1, max(1, len(ids) - 2))
        return [*ids[:cut], END], [*ids[cut:], END]

    def _num_tokens(self) -> int:
        return sum(len(source) + len(target) for source, target in self._texts)

    def _enough(self) -> bool:
        return bool(self._texts) and self._num_tokens() >= self.num_tokens


def _pad(examples: list[Example]) -> dict[str, Any]:
    width, height = (max(len(example[part]) for example in examples) for part in (0, 1))
    sources = [[*source, *[PAD] * (width - len(source))] for source, _ in examples]
    mask = [[1] * len(source) + [0] * (width - len(source)) for source, _ in examples]
    labels = [[*target, *[-100] * (height - len(target))] for _, target in examples]
    return {
        "input_ids": torch.tensor(sources),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(labels),
    }
