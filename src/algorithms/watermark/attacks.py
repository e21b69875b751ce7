"""Edits of marked texts: what the robustness study puts between the writer and the detector.

Rates are shares of tokens. All edits act on token ids, are decoded, and reach the detector as text,
which it must read back itself. Left out: paraphrase by another model, and translation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: ``substitution``, ``deletion`` and ``insertion`` at random places; ``truncation`` of the end;
#: ``concatenation`` with human text at the end.
ATTACKS = ("substitution", "deletion", "insertion", "truncation", "concatenation")


def check_attack(attack: str, rates: Sequence[float]) -> None:
    """Check a study's arguments.

    Raises:
        ValueError: If there is no such attack, no rate, or a rate outside [0, 1).
    """
    if attack not in ATTACKS:
        raise ValueError(f"attack is {attack!r}; choose from {', '.join(ATTACKS)}.")
    if not rates or any(not 0.0 <= rate < 1.0 for rate in rates):
        raise ValueError(
            f"attack_rates is {list(rates)}; give at least one share of tokens in [0, 1)."
        )


def attack_ids(
    ids: Sequence[int],
    attack: str,
    rate: float,
    random: np.random.Generator,
    replacements: Sequence[int],
    human_ids: Sequence[int] = (),
) -> list[int]:
    """Edit one text.

    Args:
        ids: Its tokens.
        attack: One of :data:`ATTACKS`.
        rate: Share of the tokens that are replaced, deleted, cut off, inserted (as a share of the
            text before) or human (as a share of the text after), in [0, 1).
        random: Where places and tokens are drawn from.
        replacements: Ids to draw substituted and inserted tokens from, all equally likely.
        human_ids: Text to append from a random place of it, for ``concatenation``.

    Returns:
        The edited tokens.

    Raises:
        ValueError: See :func:`check_attack`; or if ``human_ids`` is needed and too short.
    """
    check_attack(attack, [rate])
    edited = np.array(ids, dtype=np.int64)
    num = round(rate * len(edited))
    if attack == "substitution":
        places = random.choice(len(edited), num, replace=False)
        edited[places] = random.choice(np.asarray(replacements), num)
    elif attack == "deletion":
        edited = np.delete(edited, random.choice(len(edited), num, replace=False))
    elif attack == "insertion":
        places = np.sort(random.integers(0, len(edited) + 1, num))
        edited = np.insert(edited, places, random.choice(np.asarray(replacements), num))
    elif attack == "truncation":
        edited = edited[: len(edited) - num]
    else:
        num = round(rate / (1.0 - rate) * len(edited))
        if num > len(human_ids):
            raise ValueError(
                f"concatenation at a rate of {rate} needs {num} human tokens and the human text "
                f"has {len(human_ids)}; lower the rate or give a longer data.human_path."
            )
        start = int(random.integers(0, len(human_ids) - num + 1))
        edited = np.concatenate([edited, np.asarray(human_ids[start : start + num], np.int64)])
    return edited.tolist()


def replacement_ids(tokenizer: Any, unusable: Any, texts: Sequence[str]) -> list[int]:
    """List the ids that an editor would write: whole characters, and drawn by some scheme.

    Args:
        tokenizer: Not used to draw, only to count the ids that exist.
        unusable: Shape (vocab_size,), bool.
        texts: Decoded text of every id.

    Returns:
        The ids.
    """
    return [
        i
        for i, text in enumerate(texts[: len(tokenizer)])
        if not bool(unusable[i]) and "\ufffd" not in text
    ]
