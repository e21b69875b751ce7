"""What every detector of watermarks does with a batch of texts; a detector adds its likelihoods.

Texts arrive as rows of ``src/datamodules/texts.py``. Each is read back into tokens, tested for the
key by counting (:mod:`src.algorithms.watermark.detection`), and attributed to a scheme by the
likelihoods of a subclass. Nothing here depends on a text's neighbours; what does, adjusted p-values
and known totals, is the writer's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule
from numpy.typing import NDArray

from src.algorithms.watermark.attacks import attack_ids, check_attack, replacement_ids
from src.algorithms.watermark.detection import (
    GREEN,
    RED,
    REPEATED,
    UNSCORED,
    evaluate_counts,
    letter_counts,
    pair_states,
    posterior,
    strongest_passage,
)
from src.algorithms.watermark.green_lists import GreenList, Watermark
from src.algorithms.watermark.schemes import SCHEMES, token_texts, unusable_tokens
from src.backbones import load_config, load_tokenizer

Row = dict[str, Any]

#: How the page spells a token's state.
STATE_LETTERS = {GREEN: "g", RED: "r", REPEATED: "x", UNSCORED: "u"}

#: What is taken where neither the file nor the command line says.
DEFAULTS = {"context_width": 1, "green_fraction": 0.5, "bias": None, "temperature": 1.0}


@dataclass(frozen=True)
class Reading:
    """One text as the detector reads it, before any scheme is considered.

    Attributes:
        text: What was read, after an attack.
        ids: Its tokens.
        prompt_ids: Those of its prompt, empty where it is unknown or not used.
        mark: The watermark to test.
        states: Of each token, from ``pair_states``.
        evidence: The counts that its answer reports.
    """

    text: str
    ids: list[int]
    prompt_ids: list[int]
    mark: Watermark
    states: NDArray[np.int8]
    evidence: Row


class Attribution(LightningModule):
    """Attributes texts to the scheme that made them; subclasses say how likely each scheme is.

    Args:
        backbone: Spec whose tokenizer (and, in a subclass, model) made the texts.
        watermark: Fields of ``Watermark`` that override what the file says; None leaves a field to
            the file.
        bias: ``known`` takes the watermark's; ``fitted`` averages over a grid.
        has_look_alikes: Whether letters that look like an e count as one.
        undecided_below: A text whose most probable scheme has less than this is ``undecided``.
        attack: Edit the texts first, at each row's ``rate``.
        attack_rates: The rates, to be checked before anything is loaded.
        human_path: Text that the attack ``concatenation`` draws from.
        seed: Of the attack.

    Raises:
        ValueError: If an argument is out of range, or (in ``setup``) the watermark is not fully
            known or belongs to another tokenizer.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        watermark: Mapping[str, Any] | None = None,
        bias: str = "known",
        has_look_alikes: bool = False,
        undecided_below: float = 0.5,
        attack: str | None = None,
        attack_rates: Sequence[float] | None = None,
        human_path: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if bias not in ("known", "fitted"):
            raise ValueError(f"model.bias is {bias!r}; choose known or fitted.")
        if not 0.0 <= undecided_below <= 1.0:
            raise ValueError(f"model.undecided_below is {undecided_below}; it is a probability.")
        if attack is not None:
            check_attack(attack, attack_rates or [])
        self._given = {k: v for k, v in (watermark or {}).items() if v is not None}
        self._lists: dict[Watermark, GreenList] = {}

    # ---------------------------------------------------------- for subclasses

    def log_likelihoods(self, readings: Sequence[Reading]) -> NDArray[np.float64]:
        """Return the log-likelihoods of texts under the four schemes, shape (num_texts, 4)."""
        raise NotImplementedError

    def setup_detector(self) -> None:
        """Prepare what :meth:`log_likelihoods` needs beside the model."""

    # ----------------------------------------------------------------- hooks

    def setup(self, stage: str) -> None:
        spec = self.hparams["backbone"]
        self.vocab_size = int(load_config(spec).vocab_size)
        texts = self.trainer.datamodule.texts
        for row in texts:
            if not row["error"]:
                try:
                    self.watermark_of(row)
                except ValueError as error:
                    raise ValueError(f"text {row['text_index'] + 1}: {error}") from None
        self.tokenizer = load_tokenizer(spec)
        self.unusable = unusable_tokens(self.tokenizer, self.vocab_size)
        if self.hparams["attack"]:
            decoded = token_texts(self.tokenizer, self.vocab_size)
            self._replacements = replacement_ids(self.tokenizer, self.unusable, decoded)
            self._human_ids: list[int] = []
            if self.hparams["attack"] == "concatenation":
                path = Path(self.hparams["human_path"] or "")
                if not path.is_file():
                    raise FileNotFoundError(
                        f"model.human_path={path} is not a file; concatenation needs human text."
                    )
                self._human_ids = self._encode(path.read_text(encoding="utf-8"))
        self.setup_detector()

    def watermark_of(self, row: Row) -> Watermark:
        """Combine what a row's file, the command line and the defaults say of its watermark.

        Raises:
            ValueError: If something is missing, out of range, or of another tokenizer.
        """
        name = self.hparams["backbone"]["name"]
        known = {k: v for k, v in (row["watermark"] or {}).items() if v is not None}
        values = {
            **DEFAULTS,
            "vocab_size": self.vocab_size,
            "tokenizer": name,
            **known,
            **self._given,
        }
        mark = Watermark.from_mapping(values)
        if mark.tokenizer != name:
            raise ValueError(
                f"it was made with the tokenizer of {mark.tokenizer!r} and the backbone is "
                f"{name!r}; use backbone={mark.tokenizer}, or watermark.tokenizer={name} if the "
                "two share a vocabulary."
            )
        if mark.vocab_size != self.vocab_size:
            raise ValueError(
                f"its watermark is for {mark.vocab_size} tokens and {name} has {self.vocab_size}; "
                "choose the backbone that made it."
            )
        if mark not in self._lists:
            self._lists[mark] = mark.green_list()
        return mark

    def predict_step(self, batch: list[Row], batch_idx: int) -> list[Row]:
        readable = [row for row in batch if not row["error"]]
        readings = [self._read(row) for row in readable]
        found = iter(self.log_likelihoods(readings) if readings else [])
        read = iter(readings)
        return [
            {key: row[key] for key in ("index", "scheme", "rate", "error")}
            | (
                self._nothing(row["error"])
                if row["error"]
                else self._answer(next(read), next(found))
            )
            for row in batch
        ]

    # --------------------------------------------------------------- one text

    def _read(self, row: Row) -> Reading:
        mark = self.watermark_of(row)
        green_list = self._lists[mark]
        text = row["text"]
        ids = self._encode(text)
        if self.hparams["attack"] and ids:
            ids = attack_ids(
                ids,
                self.hparams["attack"],
                row["rate"],
                np.random.default_rng([self.hparams["seed"], row["text_index"]]),
                self._replacements,
                self._human_ids,
            )
            text = str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))
            ids = self._encode(text)
        prompt_ids = self._encode(row["prompt"]) if self._uses_prompt and row["prompt"] else []
        # the prompt is context for the first tokens and is never scored itself
        before = prompt_ids[-mark.context_width :]
        states = pair_states([*before, *ids], green_list)[len(before) :]
        num_scored = int(np.isin(states, (GREEN, RED)).sum())
        num_green = int((states == GREEN).sum())
        num_e, num_letters = letter_counts([text], self.hparams["has_look_alikes"])
        counts = evaluate_counts(
            np.array([num_scored]), np.array([num_green]), green_list.probability
        )
        evidence = {
            "num_tokens": len(ids),
            "num_scored": num_scored,
            "num_green": num_green,
            "num_e": num_e[0],
            "num_letters": num_letters[0],
            "z_score": float(counts.z_score[0]) if num_scored else None,
            "p_value": float(counts.p_value[0]),
        }
        return Reading(text, ids, prompt_ids, mark, states, evidence)

    def _answer(self, reading: Reading, log_likelihoods: NDArray[np.float64]) -> Row:
        probabilities = posterior(log_likelihoods[None])[0]
        best = int(np.argmax(probabilities))
        is_decided = probabilities[best] >= self.hparams["undecided_below"]
        passage = strongest_passage(reading.states, self._lists[reading.mark].probability)
        note = None
        if not reading.ids:
            note = "the text is empty: every scheme is as likely as any other"
        elif not is_decided:
            note = f"too little to decide: {reading.evidence['num_scored']} scored tokens"
        return {
            **reading.evidence,
            "label": SCHEMES[best] if is_decided else "undecided",
            "probabilities": dict(zip(SCHEMES, probabilities.tolist(), strict=True)),
            "log_likelihoods": log_likelihoods.tolist(),
            "passage": vars(passage) if passage else None,
            "note": note,
            "text": reading.text,
            "pieces": self._pieces(reading.text, reading.ids),
            "states": "".join(STATE_LETTERS[int(state)] for state in reading.states),
        }

    _uses_prompt = False

    def _nothing(self, note: str) -> Row:
        """The answer where there is no text: every scheme as likely as any other."""
        return {
            "label": "undecided",
            "probabilities": dict.fromkeys(SCHEMES, 1 / len(SCHEMES)),
            "log_likelihoods": [0.0] * len(SCHEMES),
            "z_score": None,
            "p_value": 1.0,
            **dict.fromkeys(("num_tokens", "num_scored", "num_green", "num_e", "num_letters"), 0),
            "passage": None,
            "note": note,
            "text": "",
            "pieces": [],
            "states": "",
        }

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _pieces(self, text: str, ids: Sequence[int]) -> list[str]:
        """Cut a text at its tokens' ends; tokens that share a character leave "" to the later."""
        if not self.tokenizer.is_fast:
            return [str(self.tokenizer.decode([token])) for token in ids]
        offsets = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        pieces, position = [], 0
        for _, end in offsets:
            end = max(end, position)
            pieces.append(text[position:end])
            position = end
        return pieces

    def _bias(self, mark: Watermark) -> float | None:
        return None if self.hparams["bias"] == "fitted" else mark.bias
