"""The prompt study's loop: ask each model, in the form each strategy gives, and mark the answers.

One model is in memory at a time; the datamodule orders the batches by model. A cell that fails (a
model that cannot be had, memory that does not suffice) is recorded row by row with its error, and
the cells after it go on. Batch keys: see ``src/datamodules/prompt_grid.py``.
"""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn

from src.algorithms.answers import answers_match
from src.algorithms.prompting import (
    FittedPrompt,
    Messages,
    PromptTemplate,
    fit_prompt,
    generate,
    majority_vote,
    read_answer,
)
from src.backbones import load_causal_lm, load_t5, load_tokenizer
from src.modules.base import describe_checkpoint, restore

Row = dict[str, Any]

#: What an encoder-decoder without a stated limit takes; T5 was pretrained on so many tokens.
DEFAULT_MAX_TOKENS = 512
_CHECKPOINT = "checkpoint:"


class Prompting(LightningModule):
    """Answers word problems with pretrained models that are prompted, and with adapted ones.

    Args:
        models: Name of each backbone to its spec, as ``src.backbones`` reads it.
        strategies: Name of each strategy to its settings (``PromptTemplate.from_mapping``).
        seed: Seed of the samples that strategies with a temperature draw.
        find_checkpoint: Turns what a user gives for an adapted model into a checkpoint file.

    Raises:
        ValueError: If a strategy is malformed, or a model cannot write.
    """

    def __init__(
        self,
        models: Mapping[str, Mapping[str, Any]],
        strategies: Mapping[str, Mapping[str, Any]],
        seed: int = 0,
        find_checkpoint: Callable[[str], Path] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["find_checkpoint"])
        self.templates = {
            name: PromptTemplate.from_mapping(name, settings)
            for name, settings in strategies.items()
        }
        self.specs = {name: dict(spec) for name, spec in models.items()}
        for name, spec in self.specs.items():
            if spec["family"] not in ("t5", "causal_lm"):
                raise ValueError(
                    f"models: backbone {name!r} is of family {spec['family']!r}, which writes no "
                    "text; prompts need a t5 or a causal_lm."
                )
        self.find_checkpoint = find_checkpoint
        self._loaded: tuple[str, _Asked] | None = None
        self._failed: dict[tuple[Any, ...], str] = {}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[Row]:
        cell = (batch["model"], batch["strategy"], batch["num_shots"])
        rows: list[Row] = []
        start = time.monotonic()
        error = self._failed.get(cell) or self._failed.get((batch["model"],))
        if error is None:
            try:
                asked = self._load(batch["model"])
            except Exception as problem:  # whatever a model's files may throw
                error = self._note((batch["model"],), problem)
            else:
                start = time.monotonic()  # a cell's seconds leave out loading its model
                try:
                    rows = asked.answer(batch, self.templates, self.hparams["seed"])
                except Exception as problem:  # out of memory, a position beyond the model's last
                    error = self._note(cell, problem)
        if error is not None:
            rows = [_failed_row(batch, i, error) for i in range(len(batch["index"]))]
        seconds = (time.monotonic() - start) / len(rows)
        return [{**row, "seconds": round(seconds, 4)} for row in rows]

    def _note(self, place: tuple[Any, ...], problem: Exception) -> str:
        if isinstance(problem, torch.cuda.OutOfMemoryError):
            torch.cuda.empty_cache()
        text = str(problem).strip().splitlines()
        self._failed[place] = f"{type(problem).__name__}: {text[0] if text else ''}"[:300]
        rank_zero_warn(f"{' / '.join(map(str, place))} failed ({self._failed[place]}); going on")
        return self._failed[place]

    def _load(self, name: str) -> _Asked:
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None  # free the last model before the next one comes
            gc.collect()
            # Lightning predicts in inference mode; parameters made in it have no version, by
            # which a prefix knows that it is up to date.
            with torch.inference_mode(False):
                if name.startswith(_CHECKPOINT):
                    asked: _Asked = _Adapted(name.removeprefix(_CHECKPOINT), self.find_checkpoint)
                else:
                    asked = _Prompted(self.specs[name])
                asked.model.to(self.device)
            self._loaded = (name, asked)
        return self._loaded[1]


class _Asked:
    """A model that answers batches."""

    model: Any

    def answer(
        self, batch: Mapping[str, Any], templates: Mapping[str, PromptTemplate], seed: int
    ) -> list[Row]:
        raise NotImplementedError


class _Prompted(_Asked):
    """A pretrained model, asked by prompts."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.tokenizer = load_tokenizer(spec)
        self.model = load_t5(spec) if spec["family"] == "t5" else load_causal_lm(spec)
        self.has_chat = bool(getattr(self.tokenizer, "chat_template", None))
        self.limit = spec.get("max_prompt_tokens") or _token_limit(self.model, self.tokenizer)

    def chat(self, turns: Messages) -> str:
        """Apply the tokenizer's chat template and open the assistant's turn."""
        return str(
            self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        )

    def encode(self, text: str) -> list[int]:
        """Turn a prompt into ids; a chat template has written its special tokens itself."""
        return self.tokenizer(text, add_special_tokens=not self.has_chat)["input_ids"]

    def prompt(
        self, template: PromptTemplate, question: str, examples: Sequence[Mapping[str, str]]
    ) -> FittedPrompt:
        """Write the prompt of one row, within what the model takes."""
        room = self.limit
        if not self.model.config.is_encoder_decoder:
            room -= template.max_new_tokens
        chat = self.chat if self.has_chat else None
        return fit_prompt(template, question, examples, self.encode, room, chat)

    def answer(
        self, batch: Mapping[str, Any], templates: Mapping[str, PromptTemplate], seed: int
    ) -> list[Row]:
        template = templates[batch["strategy"]]
        size, samples = len(batch["index"]), template.num_samples
        prompts = [
            self.prompt(template, batch["question"][i], batch["examples"][i]) for i in range(size)
        ]
        outputs = generate(
            self.model,
            self.tokenizer,
            [prompt.token_ids for prompt in prompts for _ in range(samples)],
            template.max_new_tokens,
            template.stop,
            template.temperature,
            [
                # The problem and not the row: adding a cell must not change another's draws.
                f"{seed}/{template.name}/{batch['num_shots']}/{position}/{sample}"
                for position in batch["position"]
                for sample in range(samples)
            ],
        )
        opening = template.cue.lstrip()
        if template.answer_from == "text":  # a number of the cue is none that the model gave
            opening = re.sub(r"\d", "", opening)
        rows = []
        for i, prompt in enumerate(prompts):
            mine = outputs[i * samples : (i + 1) * samples]
            texts = [opening + output.text for output in mine]
            answers = [read_answer(text, template.answer_from) for text in texts]
            vote = majority_vote(answers)
            row = _row(batch, i, vote.winner)
            row |= {
                "prompt": prompt.text,
                "output": mine[0].text,
                "num_prompt_tokens": len(prompt.token_ids),
                "num_tokens": sum(output.num_tokens for output in mine),
                "num_examples": prompt.num_examples,
                "num_examples_dropped": prompt.num_dropped,
            }
            if samples > 1:
                row["samples"] = [output.text for output in mine]
                row["sampled_answers"] = [None if a is None else str(a) for a in answers]
                row["agreement"] = round(vote.agreement, 4)
            rows.append(row)
        return rows


class _Adapted(_Asked):
    """A model adapted by train.py, asked in the form it was trained on."""

    def __init__(self, where: str, find_checkpoint: Callable[[str], Path] | None) -> None:
        self.run = where
        path = find_checkpoint(where) if find_checkpoint is not None else Path(where)
        data = describe_checkpoint(path).get("datamodule_hyper_parameters", {})
        self.mask_numbers = data.get("mask_numbers", False)
        self.task_prefix = data.get("task_prefix", "solve: ")
        self.module = restore(path)
        self.model = self.module.model
        self.tokenizer = self.module.tokenizer
        backbone = self.module.hparams["backbone"]["name"]
        self.name = f"{backbone} + {self.module.method}"

    def answer(
        self, batch: Mapping[str, Any], templates: Mapping[str, PromptTemplate], seed: int
    ) -> list[Row]:
        asked = batch["masked"] if self.mask_numbers else batch["question"]
        prompts = [self.task_prefix + text for text in asked]
        encoded = self.tokenizer(prompts, padding=True, return_tensors="pt").to(self.model.device)
        num_prompt_tokens = encoded["attention_mask"].sum(1).tolist()
        answered = self.module.answer({**batch, **encoded})
        rows = []
        for i, (answer, prompt) in enumerate(zip(answered, prompts, strict=True)):
            parsed = None if answer["parsed"] is None else Fraction(answer["parsed"])
            row = _row(batch, i, parsed)
            row |= {
                "model": self.name,
                "run": self.run,
                "prompt": prompt,
                "output": answer["output"],
                "num_prompt_tokens": num_prompt_tokens[i],
                "num_tokens": len(self.tokenizer(answer["output"])["input_ids"]),
                "num_examples": 0,
                "num_examples_dropped": 0,
            }
            rows.append(row)
        return rows


def _row(batch: Mapping[str, Any], i: int, parsed: Fraction | None) -> Row:
    gold, tolerance = Fraction(batch["gold"][i]), Fraction(batch["tolerance"][i])
    return {
        "index": batch["index"][i],
        "model": batch["model"],
        "strategy": batch["strategy"],
        "num_shots": batch["num_shots"],
        "problem": batch["position"][i],
        "question": batch["question"][i],
        "gold": batch["gold"][i],
        "parsed": None if parsed is None else str(parsed),
        "correct": answers_match(parsed, gold, tolerance),
    }


def _failed_row(batch: Mapping[str, Any], i: int, error: str) -> Row:
    return {**_row(batch, i, None), "correct": None, "error": error}


def _token_limit(model: Any, tokenizer: Any) -> int:
    """Return how many tokens a model takes: its positions, else its tokenizer's own limit."""
    positions = getattr(model.config, "max_position_embeddings", None) or getattr(
        model.config, "n_positions", None
    )
    if positions and not model.config.is_encoder_decoder:
        return int(positions)
    stated = getattr(tokenizer, "model_max_length", None) or DEFAULT_MAX_TOKENS
    return int(stated) if stated < 1_000_000 else DEFAULT_MAX_TOKENS
