"""Recover the texts behind embeddings: many targets, one encoder, one stream of batches.

Each target's search is a coroutine (:mod:`.hybrid`, :mod:`.baselines`) that asks for embeddings
or gradients and is answered. :func:`invert` gathers what all of them ask for, encodes it in shared
batches, scores every candidate against every target, and hands a search a candidate of another
one where that beats its own best. It also decides identity: a text counts as found only after
the decoded string, encoded anew through the model's public ``encode_text`` in float32, lies
within the tolerance of the target.

Everything is deterministic: what is random is seeded from the target itself, so neither the order
of the targets nor the batch size changes a result.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.algorithms.inversion.encoder import Ids, TextEncoder

#: Largest 1 - cosine at which the re-encoded text is the target, by how the target was stored.
#: Noise: fp32 paths 1e-7, fp16 computation 1.2e-6, bf16 computation 8e-5; two texts that differ by
#: an article are 3.6e-4 apart.
TOLERANCE = {"float32": 1e-5, "float16": 1e-5, "bfloat16": 1e-4}


@dataclass(frozen=True)
class Scored:
    """Ask for cosines: the answer is (cosines, embeddings) of ``ids``, in order."""

    ids: list[Ids]


@dataclass(frozen=True)
class Gradients:
    """Ask for gradients by input embeddings: a list of (L, width), special tokens included.

    Attributes:
        rows: Ids without special tokens; all of one length.
        aim: What is differentiated is the cosine to this unit vector (dim,), or to one a row
            (n, dim); None: to the target.
    """

    rows: list[Ids]
    aim: Tensor | None = None


Request = Scored | Gradients
Answer = Any
Searcher = Generator[Request, Answer, None]


@dataclass
class Inversion:
    """What was found for one target.

    Attributes:
        index: Position among the targets.
        text: The best text.
        ids: Its tokens.
        cosine: Its cosine to the target, of the re-encoded text.
        exact: Whether the text is the one behind the embedding.
        runner_up_gap: Cosine of ``text`` less that of the best other text.
        evaluations: Sequences that the encoder read for this target, gradients counting three.
        seconds: Time from the start until it was found or given up.
        alternatives: The next best texts and their cosines.
        trace: (evaluations, best cosine) whenever the best got better.
        found_by: The move that made the text.
        gains: Cosine gained by each kind of move.
    """

    index: int
    text: str
    ids: Ids
    cosine: float
    exact: bool
    runner_up_gap: float
    evaluations: int
    seconds: float
    alternatives: list[tuple[str, float]] = field(default_factory=list)
    trace: list[tuple[int, float]] = field(default_factory=list)
    found_by: str = ""
    gains: dict[str, float] = field(default_factory=dict)


class Board:
    """What one target's search knows: every cosine it was told, and the best of them.

    Args:
        target: Unit embedding (dim,).
        budget: Most evaluations to spend on it.
        index: Its position among the targets.
    """

    def __init__(self, target: Tensor, budget: int, index: int = 0) -> None:
        self.target = target
        self.index = index
        self.budget = budget
        self.seed = zlib.crc32((target.double().cpu() * 1e6).round().numpy().tobytes())
        self.seen: dict[Ids, float] = {}
        self.top: list[tuple[float, Ids]] = []
        self.gift: tuple[float, Ids, Tensor] | None = None
        self.evaluations = 0
        self.trace: list[tuple[int, float]] = []
        self.moves: dict[Ids, str] = {}
        self.gains: dict[str, float] = {}
        self.found_by = ""
        self.rejected: set[Ids] = set()

    @property
    def best(self) -> float:
        return self.top[0][0] if self.top else -1.0

    @property
    def left(self) -> int:
        return self.budget - self.evaluations

    def note(self, ids: Ids, cosine: float, move: str = "") -> None:
        """Remember a cosine, and keep the best eight."""
        if ids in self.seen:
            return
        self.seen[ids] = cosine
        if len(self.top) < 8 or cosine > self.top[-1][0]:
            before = self.best
            if cosine > before:
                self.trace.append((self.evaluations, cosine))
                self.found_by = self.moves.get(ids, move)
                if before > -1:
                    self.gains[self.found_by] = self.gains.get(self.found_by, 0) + cosine - before
            self.top.append((cosine, ids))
            self.top.sort(key=lambda pair: (-pair[0], pair[1]))
            del self.top[8:]

    def label(self, candidates: Sequence[Ids], move: str) -> None:
        """Remember which move made candidates that are evaluated without :meth:`new`."""
        for ids in candidates:
            self.moves.setdefault(ids, move)

    def new(self, candidates: Sequence[Ids], move: str, limit: int | None = None) -> list[Ids]:
        """Leave out what is known, doubled or over budget, and remember which move made it."""
        out: dict[Ids, None] = {}
        room = self.left if limit is None else min(limit, self.left)
        for ids in candidates:
            if len(out) >= room:
                break
            if ids and ids not in self.seen and ids not in out:
                out[ids] = None
                self.moves[ids] = move
        return list(out)


def invert(
    encoder: TextEncoder,
    targets: Tensor,
    method: Callable[[Board], Searcher],
    *,
    budget: int = 20_000,
    tolerance: float | Sequence[float] = 1e-5,
    share: bool = True,
    on_done: Callable[[Inversion], None] | None = None,
    on_round: Callable[[Sequence[Board]], None] | None = None,
    known: Callable[[Tensor], Sequence[tuple[Ids, float]]] | None = None,
) -> list[Inversion]:
    """Search for the text behind each target until all are identified or out of budget.

    Args:
        encoder: The text tower.
        targets: Embeddings (n, dim); they are normalised here.
        method: Makes one target's search; see :mod:`.hybrid` and :mod:`.baselines`.
        budget: Most evaluations of one target's search; that the texts of its best states read as
            these states is checked with at most eight more.
        tolerance: Largest ``1 - cosine`` that counts as identity, one or one a target.
        share: Whether targets see each other's candidates.
        on_done: Called with each target's result as soon as it is final.
        on_round: Called after every round with the boards of the running searches.
        known: Gives candidates with known cosines for a target (the one-token table).

    Returns:
        One result a target, in order.

    Raises:
        ValueError: If the budget does not pay for a single evaluation.
    """
    if budget < 1:
        raise ValueError(f"a budget of {budget} evaluations is too small; give at least 1.")
    start = time.monotonic()
    targets = F.normalize(targets.detach().float().to(encoder.device), dim=-1).clone()
    single = isinstance(tolerance, (int, float))
    tolerances = [float(tolerance)] * len(targets) if single else list(tolerance)
    boards = [Board(t, budget, i) for i, t in enumerate(targets)]
    searches = [method(board) for board in boards]
    results: list[Inversion | None] = [None] * len(boards)

    def close(i: int, exact: tuple[str, Ids, float] | None) -> None:
        searches[i].close()
        results[i] = _summarise(
            encoder, boards[i], i, exact, time.monotonic() - start, tolerances[i]
        )
        boards[i].seen, boards[i].moves = {}, {}
        if on_done:
            on_done(results[i])  # pyright: ignore[reportArgumentType]

    asks: dict[int, Request] = {}

    def advance(i: int, answer: Answer) -> None:
        """Let search i go on until it asks for something new, is over or has its text."""
        try:
            request = searches[i].send(answer)
            while isinstance(request, Scored) and not request.ids:
                request = searches[i].send(([], torch.empty(0, encoder.dim)))
        except StopIteration:
            close(i, None)
            return
        asks[i] = request

    for i, board in enumerate(boards):
        for ids, cosine in known(board.target) if known else []:
            board.note(ids, cosine, "table")
        found = _identify(encoder, board, tolerances[i])
        if found:
            close(i, found)
        else:
            advance(i, None)
    while asks:
        current, asks = asks, {}
        answers = _answer(encoder, current, boards, targets, share)
        for i, answer in answers.items():
            found = _identify(encoder, boards[i], tolerances[i])
            if found or boards[i].left <= 0:
                close(i, found)
            else:
                advance(i, answer)
        if on_round:
            on_round([boards[i] for i in asks])
    return [r for r in results if r is not None]


def _answer(
    encoder: TextEncoder,
    current: dict[int, Request],
    boards: Sequence[Board],
    targets: Tensor,
    share: bool,
) -> dict[int, Answer]:
    """Encode what all searches ask for, once each, and tell every search its part."""
    answers: dict[int, Answer] = {}
    scored = {i: r for i, r in current.items() if isinstance(r, Scored)}
    if scored:
        place: dict[Ids, int] = {}
        for request in scored.values():
            for ids in request.ids:
                place.setdefault(ids, len(place))
        unique = list(place)
        z = encoder.encode_ids(unique)  # (m, dim)
        running = sorted(current)
        cosines = z @ targets[running].T  # (m, running)
        best_foreign = cosines.argmax(dim=0).tolist() if share and len(running) > 1 else None
        columns = cosines.T.tolist()
        for column, i in enumerate(running):
            board = boards[i]
            if i in scored:
                mine = [place[ids] for ids in scored[i].ids]
                board.evaluations += len(set(mine))  # random fillings of blanks may be alike
                values = [columns[column][k] for k in mine]
                for ids, value in zip(scored[i].ids, values, strict=True):
                    board.note(ids, value)
                answers[i] = (values, z[mine])
            if best_foreign is not None:
                k = best_foreign[column]
                value = columns[column][k]
                if value > board.best and unique[k] not in board.seen:
                    board.note(unique[k], value, "shared")
                    board.gift = (value, unique[k], z[k])
    groups: dict[int, list[tuple[int, Ids, Tensor]]] = {}
    for i, request in current.items():
        if isinstance(request, Gradients):
            answers[i] = []
            aim = targets[i] if request.aim is None else request.aim
            aims = aim.expand(len(request.rows), -1)
            for ids, own in zip(request.rows, aims, strict=True):
                groups.setdefault(len(ids), []).append((i, ids, own))
    for group in groups.values():
        rows = encoder.rows([ids for _, ids, _ in group])
        grads, z = encoder.gradients(rows, torch.stack([aim for _, _, aim in group]))
        for (i, _, _), grad, embedding in zip(group, grads, z, strict=True):
            boards[i].evaluations += 3
            answers[i].append((grad, embedding))
    return answers


def _identify(
    encoder: TextEncoder, board: Board, tolerance: float
) -> tuple[str, Ids, float] | None:
    """Re-encode the best states' texts where they might be the target, and keep the one that is."""
    slack = tolerance if encoder.dtype == torch.float32 else max(tolerance, 5e-4)
    for cosine, ids in list(board.top):
        if cosine < 1 - 10 * slack:
            break
        if ids in board.rejected:
            continue
        board.rejected.add(ids)
        text = encoder.decode(ids)
        ids = encoder.tokenize(text)
        if not ids:
            continue
        value = float(encoder.encode_text([text])[0] @ board.target)
        board.evaluations += 1
        board.note(ids, value, "canonical")
        if value >= 1 - tolerance:
            return text, ids, value
    return None


def _summarise(
    encoder: TextEncoder,
    board: Board,
    index: int,
    exact: tuple[str, Ids, float] | None,
    seconds: float,
    tolerance: float,
) -> Inversion:
    """Turn a board into a result: texts, not states, and cosines of texts."""
    texts: dict[str, tuple[Ids, float]] = {}
    seen = {exact[1]} if exact else set()  # spellings of the same tokens are no alternatives
    fresh: list[str] = []
    for cosine, ids in board.top:
        text = encoder.decode(ids)
        again = encoder.tokenize(text)
        if text and again not in seen:
            seen.add(again)
            texts[text] = (again, cosine)
            if again != ids:
                fresh.append(text)  # another segmentation: its cosine is not the text's
    if board.top and not texts and not exact:
        texts[""] = ((), board.best)
    head = [] if exact else list(texts)[:1]
    for text, value in _cosines(encoder, board, [t for t in texts if t in fresh or t in head]):
        texts[text] = (texts[text][0], value)
    ranked = sorted(texts.items(), key=lambda item: (-item[1][1], item[0]))
    if exact:
        text, ids, cosine = exact
        rest = ranked
    else:
        text, (ids, cosine) = ranked[0] if ranked else ("", ((), -1.0))
        rest = ranked[1:]
    gap = cosine - rest[0][1][1] if rest else cosine + 1.0
    return Inversion(
        index=index,
        text=text,
        ids=ids,
        cosine=cosine,
        # Two texts within the tolerance cannot be told apart: that is no identity.
        exact=bool(exact) and gap > tolerance,
        runner_up_gap=gap,
        evaluations=board.evaluations,
        seconds=seconds,
        alternatives=[(t, value) for t, (_, value) in rest[:5]],
        trace=[*board.trace, (board.evaluations, max(board.best, cosine))],
        found_by=board.found_by,
        gains=board.gains,
    )


def _cosines(encoder: TextEncoder, board: Board, texts: list[str]) -> list[tuple[str, float]]:
    texts = [t for t in texts if t]
    if not texts:
        return []
    board.evaluations += len(texts)
    return list(zip(texts, (encoder.encode_text(texts) @ board.target).tolist(), strict=True))
