"""The default search: grow a phrase in a beam, then repair it, best state first.

Grow: starting from nothing, every state of a beam is extended by the likeliest (gap, token)
insertions, exact cosines pick the next beam, and growth ends when longer phrases stop getting
closer: the length is found, not given. A second beam that only appends runs beside it on causal
towers, which reward prefixes, where no proposer leads. There a causal tower is searched by filling
blanks first (:mod:`.filling`); a proposer knows few rare words, and what it grew is probed.

Repair: expand the best unexpanded states. First delete each token and refill the gaps, which
covers replacements and moves of one token; then words like those of the state, changes of order, a
sweep over all places that finds out what belongs there, pairs of deletions; at last, restarts from
what is left when a part of the best state is taken out at random. After every expansion a
surrogate of the encoder (:mod:`.surrogate`) suggests changes that help only together.

States compete with those of their own length, by their cosine less a little for every rare token:
the maximum a posteriori, under the proposer's token frequencies, of an error that shrinks as the
search comes closer.

Nothing here claims identity; :func:`.search.invert` does, and ends the search.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from src.algorithms.inversion import moves
from src.algorithms.inversion.encoder import Ids
from src.algorithms.inversion.filling import Filling
from src.algorithms.inversion.moves import State, Vocabulary
from src.algorithms.inversion.priors import Dictionary
from src.algorithms.inversion.search import Answer, Board, Gradients, Request, Scored, Searcher
from src.algorithms.inversion.surrogate import Surrogate

States = Generator[Request, Answer, list[State]]

#: Candidates of a kind when a state is expanded for the first, second, ... time.
WIDTHS = (16, 48, 96, 384, 1536)

#: Random tokens put into a place to learn what belongs there, likewise.
NUM_RANDOM = (0, 0, 128, 512, 512)

#: Evaluated phrases, the nearest to the target, that the surrogate is fitted to.
NUM_NEAR = 1024

#: Phrases of the surrogate that are evaluated at a time.
NUM_SUGGESTED = 48

#: Like tokens tried for each token when a state is expanded first; twice as many each time after.
NUM_RELATIVES = 4

#: Lengths at which blanks are filled.
NUM_LENGTHS = 3

#: States expanded after a proposer's growth, before all places of the best are probed with random
#: tokens, and how many of these.
NUM_EXPANDED, NUM_DOUBT = 4, 256

#: Random tokens whose mean gradient stands for a blank's.
NUM_BLANKS = 8


@dataclass(frozen=True)
class Hybrid:
    """Settings of the search.

    Attributes:
        vocabulary: Tokens, table, proposer, priors.
        beam: States kept in each level of growth.
        width: Candidates evaluated a level and state.
        patience: Levels without gain that end growth.
        trust: Cosine that one nat of the proposer's belief is worth when a beam is chosen.
        max_tokens: Longest phrase tried.
        rarity_cost: How much less a token e times as rare is worth where states are ranked, as a
            share of what the best state lacks: rare tokens' embeddings fit anything.
        centred: Whether beams are chosen by the cosine about the mean of one-token phrases; None:
            where there is no proposer.
        fragments: Known token runs: growth begins from them as well.
        append_only: Whether to run the appending beam; None: on causal towers without a proposer.
        dictionary: Texts that are looked up first, and that the beams start from.
        use_gradient: Whether repair uses gradients where there is a proposer.
        seed: Mixed with the target's own seed.

    Raises:
        ValueError: If a fragment is longer than the longest phrase tried.
    """

    vocabulary: Vocabulary
    beam: int = 6
    width: int = 24
    patience: int = 2
    trust: float = 0.003
    rarity_cost: float = 0.08
    centred: bool | None = None
    max_tokens: int = 20
    fragments: Sequence[Ids] = ()
    append_only: bool | None = None
    dictionary: Dictionary | None = None
    use_gradient: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for ids in self.fragments:
            if len(ids) > self.longest:
                raise ValueError(
                    f"the fragment {self.vocabulary.encoder.decode(ids)!r} has {len(ids)} tokens, "
                    f"and phrases of at most {self.longest} are tried; give less of it, or more "
                    "max_tokens where the encoder's context allows."
                )

    @property
    def longest(self) -> int:
        """Most tokens of a phrase: ``max_tokens``, or what the encoder's context holds."""
        return min(self.max_tokens, self.vocabulary.encoder.max_tokens)

    def __call__(self, board: Board) -> Searcher:
        return _Run(self, board).search()

    def known(self, target: Tensor) -> list[tuple[Ids, float]]:
        """Give the best phrases whose embeddings are known: of the table and the dictionary."""
        table = self.vocabulary.table
        near = self.dictionary.nearest(target, 32) if self.dictionary else []
        listed = [(ids, value) for ids, value, _ in near]
        if table is None:
            return listed
        cosines = table @ target + self.vocabulary.mask.clamp(-2, 0)
        value, token = cosines.topk(min(32, len(cosines)))
        pairs = zip(token.tolist(), value.tolist(), strict=True)
        return [*listed, *(((t,), v) for t, v in pairs)]


class _Run:
    """One target's search."""

    def __init__(self, settings: Hybrid, board: Board) -> None:
        self.s = settings
        self.v = settings.vocabulary
        self.board = board
        self.rng = random.Random(board.seed ^ settings.seed)
        self.pool: dict[Ids, State] = {}
        self.near: list[State] = []
        self.expanded: dict[Ids, int] = {}
        self.empty = State((), 0.0, torch.zeros_like(board.target))

    # ------------------------------------------------------------- evaluation

    def score(self, candidates: Sequence[Ids], move: str, limit: int | None = None) -> States:
        """Evaluate candidates that are new; give their states, best first."""
        fresh = [
            ids for ids in self.board.new(candidates, move, limit) if len(ids) <= self.s.longest
        ]
        if not fresh:
            return []
        values, z = yield Scored(fresh)
        states = [State(i, c, e) for i, c, e in zip(fresh, values, z, strict=True)]
        if self.board.gift is not None:
            cosine, ids, embedding = self.board.gift
            self.board.gift = None
            states.append(State(ids, cosine, embedding))
        states.sort(key=self.rank)
        for state in states[:64]:
            self.pool[state.ids] = state
        self.near += states
        if len(self.near) > 2 * NUM_NEAR:
            self.near = self.nearest()
        if len(self.pool) > 1000:
            keep = [s for niche in self.niches() for s in niche[:40]]
            self.pool = {s.ids: s for s in keep}
        return states

    def worth(self, state: State) -> float:
        """Value a state by its cosine, less what its rare tokens cost: the less the closer."""
        cost = self.s.rarity_cost * (1 - self.board.best)
        return state.cosine + cost * self.v.log_frequency(state.ids)

    def rank(self, state: State) -> tuple[float, Ids]:
        """Order states: the one of most worth first."""
        return -self.worth(state), state.ids

    def nearest(self) -> list[State]:
        """Give the evaluated states nearest to the target, at most ``NUM_NEAR``."""
        return sorted(self.near, key=lambda s: (-s.cosine, s.ids))[:NUM_NEAR]

    def niches(self) -> list[list[State]]:
        """Sort the pool's states by length: best first, the length of the best state first.

        A longer phrase comes closer to any target by chance, so states compete with those of
        their own length only.
        """
        by_length: dict[int, list[State]] = {}
        for state in sorted(self.pool.values(), key=self.rank):
            by_length.setdefault(len(state.ids), []).append(state)
        return list(by_length.values())

    def insertions(
        self, states: Sequence[State], count: int, temperature: float = 0.0, append: bool = False
    ) -> Generator[Request, Answer, list[tuple[float, Ids]]]:
        """Gather the likeliest insertions into states, ``count`` a state."""
        v, target = self.v, self.board.target
        found: list[tuple[float, Ids]] = []
        if v.proposer is not None and not append:
            for rows in v.propose(target, states, count, temperature, self.rng):
                found += rows
            found.sort(key=lambda pair: (-pair[0], pair[1]))
            return found
        # Without a proposer: gradients in each gap, and the table.
        places = [
            (s, gap) for s in states for gap in ([len(s.ids)] if append else range(len(s.ids) + 1))
        ]
        slopes = yield from self.slopes([(s.ids[:gap], s.ids[gap:]) for s, gap in places])
        for state in states:
            own = [(g, x) for (s, g), x in zip(places, slopes, strict=False) if s is state]
            if own:
                rows = v.gradient_insertions(state, own, count)
                found += [(-rank, ids) for rank, (_, ids) in enumerate(rows)]
            tokens = v.table_tokens(target, state, max(4, count // 4))
            gaps = [len(state.ids)] if append else range(len(state.ids) + 1)
            for rank, token in enumerate(tokens):
                for gap in gaps:
                    found.append((-2 * rank - 1, (*state.ids[:gap], token, *state.ids[gap:])))
        found.sort(key=lambda pair: (-pair[0], pair[1]))
        return found

    def slopes(self, places: Sequence[tuple[Ids, Ids]]) -> Generator[Request, Answer, list[Tensor]]:
        """Differentiate the cosine by the embedding of a blank between two parts.

        On a tower that knows no blank, the mean over random tokens stands for it.

        Args:
            places: What stands before and behind each blank.

        Returns:
            A gradient (width,) for as many of the places as the budget pays for.
        """
        v, first = self.v, len(self.v.encoder.prefix)
        blanks = [v.blank] if v.blank is not None else self._random_tokens(NUM_BLANKS)
        cost = 3 if v.random_phrases is None else 4
        places = places[: self.board.left // (cost * len(blanks))]
        rows = [(*head, token, *tail) for head, tail in places for token in blanks]
        slopes: list[Tensor] = [v.mean] * len(places)
        aims: Tensor | None = None
        if v.random_phrases is not None and rows:
            self.board.label(rows, "blank")
            _, z = yield Scored(rows)
            missing = self.board.target - z.reshape(len(places), len(blanks), -1).mean(1)
            aims = v.random_phrases.direction(missing).repeat_interleave(len(blanks), 0)
        for length in sorted({len(ids) for ids in rows}):
            which = [k for k, (head, tail) in enumerate(places) if len(head + tail) == length - 1]
            own = [k for k, ids in enumerate(rows) if len(ids) == length]
            answers = yield Gradients([rows[k] for k in own], aims if aims is None else aims[own])
            for k, at in enumerate(which):
                part = answers[k * len(blanks) : (k + 1) * len(blanks)]
                slopes[at] = torch.stack([g[first + len(places[at][0])] for g, _ in part]).mean(0)
        return slopes

    def _random_tokens(self, count: int) -> list[int]:
        return self.rng.sample(self.v.tokens, min(count, len(self.v.tokens)))

    def probe(self, head: Ids, tail: Ids, width: int, num_random: int) -> States:
        """Find out which token belongs between two parts, and evaluate the ``width`` likeliest.

        Half of them are the gradient's, half are regressed on ``num_random`` random tokens.
        """
        v = self.v
        rows: dict[Ids, int] = {}

        def put(tokens: Sequence[int]) -> list[Ids]:
            made = {(*head, token, *tail): token for token in tokens}
            rows.update(made)
            return list(made)

        slopes = yield from self.slopes([(head, tail)])
        steepest = [t for slope in slopes for t in v.steepest_tokens(slope, width)]
        states: list[State] = []
        likely: list[int] = []
        if num_random:
            states = yield from self.score(put(self._random_tokens(num_random)), "probe")
            states = [s for s in states if s.ids in rows]
        if len(states) > 1:
            z = torch.stack([s.z for s in states])
            tokens = [rows[s.ids] for s in states]
            likely = v.regressed_tokens(tokens, z, self.board.target, width)
        chosen = [t for pair in zip(likely, steepest, strict=False) for t in pair] or steepest
        states += yield from self.score(put(chosen[:width]), "probe")
        return sorted((s for s in states if s.ids in rows), key=self.rank)

    def sweep(
        self, state: State, order: Sequence[int], width: int, num_random: int
    ) -> Generator[Request, Answer, State]:
        """Probe the places of a phrase one after the other, keeping each token that is better."""
        for at in order:
            ids = state.ids
            found = yield from self.probe(ids[:at], ids[at + 1 :], width, num_random)
            if found and self.worth(found[0]) > self.worth(state):
                state = found[0]
        return state

    # ----------------------------------------------------------------- search

    def _fragment(self, ids: Ids) -> States:
        """Give the state of a fragment, from which growth can begin."""
        if ids not in self.board.seen:
            return (yield from self.score([ids], "fragment"))
        # `known` noted its cosine before the search began; a state needs the embedding too.
        values, z = yield Scored([ids])
        self.pool[ids] = State(ids, values[0], z[0])
        return [self.pool[ids]]

    def search(self) -> Searcher:
        start = [self.empty]
        for fragment in self.s.fragments:
            start += yield from self._fragment(fragment)
        if self.s.dictionary is not None:
            near = self.s.dictionary.nearest(self.board.target, self.s.beam)
            start += [State(ids, value, z) for ids, value, z in near]
            self.pool |= {s.ids: s for s in start[1:]}
        if len(start) > 1:
            yield from self.grow(start[1:], self.s.beam, self.s.width)
        is_causal = self.v.encoder.causal
        appends = is_causal if self.s.append_only is None else self.s.append_only
        if self.v.proposer is not None:
            yield from self.grow([self.empty], self.s.beam, self.s.width)
            if is_causal:
                yield from self.repair(NUM_EXPANDED)
                yield from self.doubt()
            if self.s.append_only:
                yield from self.grow([self.empty], self.s.beam, self.s.width, append=True)
        else:
            if is_causal and self.v.random_phrases is not None:
                lengths = self.v.random_phrases.lengths(self.board.target)
                yield from self.fill(lengths[:NUM_LENGTHS])
            if appends:  # gradients at one gap are cheaper than at all
                yield from self.grow([self.empty], self.s.beam, self.s.width, append=True)
            # The cosine alone leads, and it needs more company where that is cheap.
            beam = max(self.s.beam, 16) if self.v.blank is not None else self.s.beam
            yield from self.grow([self.empty], beam, self.s.width)
        yield from self.repair()

    def doubt(self) -> Generator[Request, Answer, None]:
        """Probe every place of the best phrase: a proposer knows few rare words."""
        state = min(self.pool.values(), key=self.rank, default=None)
        if state is not None:
            places = self.rng.sample(range(len(state.ids)), len(state.ids))
            yield from self.sweep(state, places, self.s.width, NUM_DOUBT)

    def fill(self, lengths: Sequence[int]) -> Generator[Request, Answer, None]:
        """Fill the blanks of phrases of the given lengths, and mend the best of each."""
        for length in lengths:
            if length > self.s.longest:
                continue
            filled = yield from Filling().grow(self.board, self.v, length, self.rng)
            found = yield from self._with_embeddings(filled, "fill")
            for state in found[:2]:
                yield from self.polish(state)

    def polish(self, state: State) -> Generator[Request, Answer, None]:
        """Sweep a phrase, and move or leave out single tokens, as long as that helps."""
        before = -torch.inf
        while self.worth(state) > before:
            before = self.worth(state)
            state = yield from self.sweep(state, range(len(state.ids)), self.s.width, 0)
            near = [*moves.segment_moves(state.ids, 1), *moves.deletions(state.ids)]
            found = yield from self.score(near, "move")
            state = min([state, *found[:1]], key=self.rank)

    def grow(
        self,
        start: list[State],
        beam: int,
        width: int,
        temperature: float = 0.0,
        append: bool = False,
        move: str = "insert",
    ) -> Generator[Request, Answer, None]:
        """Extend phrases token by token until that stops helping.

        Without a proposer, each level's best is swept before it is extended.
        """
        level = start
        best, stale = -1.0, 0
        while level and stale < self.s.patience and self.board.left > 0:
            if level[0].ids == () and len(level) == 1:
                level = yield from self._first_level(beam)
            else:
                ranked = yield from self.insertions(level, width, temperature, append)
                belief = self._beliefs(level, ranked)
                # Beams that differ in where they insert may meet: what is known costs nothing.
                meet = self.score if self.v.proposer is not None else self._with_embeddings
                found = yield from meet([ids for _, ids in ranked], move, width * len(level))
                found = [replace(s, belief=belief.get(s.ids, -9.0)) for s in found]
                level = self._choose(found, beam)
            if level and self.v.proposer is None and self.s.use_gradient:
                places = range(len(level[0].ids))
                level[0] = yield from self.sweep(level[0], places, width, 0)
            if level and level[0].cosine > best + 1e-7:
                best, stale = level[0].cosine, 0
            else:
                stale += 1

    def _choose(self, found: Sequence[State], beam: int) -> list[State]:
        """Pick the next beam.

        By the cosine to the target, both less the mean of all one-token phrases: a partial phrase
        that points the right way may be further along or less far than the target. The proposer's
        belief is added.
        """
        if not found:
            return []
        keys = torch.tensor([s.cosine for s in found])
        centred = self.v.proposer is None if self.s.centred is None else self.s.centred
        if centred and self.v.table is not None:
            centre = self.v.centre
            away = torch.stack([s.z for s in found]) - centre
            goal = self.board.target - centre
            keys = torch.nn.functional.cosine_similarity(away, goal[None]).cpu()
        keys = keys + self.s.trust * torch.tensor([s.belief for s in found])
        order = sorted(range(len(found)), key=lambda k: (-float(keys[k]), found[k].ids))
        return [found[k] for k in order[:beam]]

    def _beliefs(
        self, level: Sequence[State], ranked: Sequence[tuple[float, Ids]]
    ) -> dict[Ids, float]:
        """Add up what the proposer thought of each candidate's insertions."""
        if self.v.proposer is None or not self.s.trust:
            return {}
        before = {s.ids: s.belief for s in level}
        out: dict[Ids, float] = {}
        for value, ids in ranked:
            parents = (before.get((*ids[:k], *ids[k + 1 :])) for k in range(len(ids)))
            total = value + max((p for p in parents if p is not None), default=-9.0)
            out[ids] = max(out.get(ids, -1e9), total)
        return out

    def _first_level(self, beam: int) -> States:
        """Seed the beam with single tokens; with a table this costs nothing."""
        v, target = self.v, self.board.target
        if v.table is None:
            ranked = yield from self.insertions([self.empty], 64)
            found = yield from self._with_embeddings([i for _, i in ranked], "insert", limit=128)
            return found[: 2 * beam]
        tokens = v.table_tokens(target, None, 2 * beam)
        cosines = v.table @ target + v.mask.clamp(-2, 0)
        tokens += cosines.topk(2 * beam).indices.tolist()
        belief: dict[int, float] = {}
        if v.proposer is not None:
            rows = v.propose(target, [self.empty], 4 * beam)[0]
            belief = {ids[0]: value for value, ids in rows}
            tokens = [*belief, *tokens]
        states = [
            State((t,), float(cosines[t]), v.table[t], belief.get(t, -9.0))
            for t in dict.fromkeys(tokens)
        ]
        for state in states:
            self.board.note(state.ids, state.cosine, "table")
            self.pool[state.ids] = state
        states.sort(key=lambda s: (-s.cosine - self.s.trust * s.belief, s.ids))
        return states[: 2 * beam]

    def repair(self, most: int | None = None) -> Generator[Request, Answer, None]:
        """Expand the best states, ever more thoroughly, until the budget is spent.

        Args:
            most: States expanded at most; None for no end but the budget's.
        """
        rounds = stale = num_expanded = 0
        while self.board.left > 0 and num_expanded != most:
            before = self.board.best
            state = self._next()
            if state is None:
                yield from self.restart(rounds)
                rounds += 1
                if rounds > 200:
                    return
                continue
            depth = self.expanded.get(state.ids, 0)
            self.expanded[state.ids] = depth + 1
            yield from self.expand(state, depth)
            yield from self.refine()
            num_expanded += 1
            if self.board.best <= before + 1e-7:
                stale += 1
            else:
                stale = 0
            if stale and stale % 10 == 0:
                yield from self.restart(rounds)
                rounds += 1

    def refine(self) -> Generator[Request, Answer, None]:
        """Evaluate what a surrogate of the encoder thinks best, as long as that helps."""
        while len(self.near) >= 64 and self.board.left > 0:
            before = self.board.best
            self.near = self.nearest()
            surrogate = Surrogate([s.ids for s in self.near], torch.stack([s.z for s in self.near]))
            tokens = dict.fromkeys(t for s in self.near[:64] for t in s.ids)
            suggested = surrogate.suggest(
                [s.ids for s in self.near[:6]],
                list(tokens)[:48],
                self.board.target,
                self.board.seen,
                NUM_SUGGESTED,
                self.s.longest,
            )
            yield from self.score(suggested, "surrogate")
            if self.board.best <= before + 1e-7:
                return

    def _next(self) -> State | None:
        """Choose the state to expand: the best of the best length.

        Another depth and a worse length each count as much as three ranks among its length.
        """
        options = [
            (rank + 3 * self.expanded.get(s.ids, 0) + 3 * place, place, rank, s)
            for place, niche in enumerate(self.niches())
            for rank, s in enumerate(niche[:24])
            if self.expanded.get(s.ids, 0) < len(WIDTHS)
        ]
        return min(options, key=lambda o: o[:3])[3] if options else None

    def expand(self, state: State, depth: int) -> Generator[Request, Answer, None]:
        """Evaluate a state's neighbourhood, ``WIDTHS[depth]`` candidates of a kind."""
        ids, n = state.ids, len(state.ids)
        width = WIDTHS[depth]
        if depth == 0:
            again = self.v.encoder.canonical(ids)
            yield from self.score([again], "canonical")
        cut = yield from self._with_embeddings(moves.deletions(ids) if n > 1 else [], "delete")
        refill = [state, *cut]
        worth = {s.ids: -s.cosine for s in cut}
        ranked = yield from self._refill(refill, width)
        yield from self.score([i for _, i in ranked], "refill", limit=width * max(4, n))
        likes = [self.v.relatives(token, NUM_RELATIVES << depth) for token in ids]
        replaced = [(*ids[:k], t, *ids[k + 1 :]) for k, tokens in enumerate(likes) for t in tokens]
        yield from self.score(replaced, "relative")
        if depth == 0:
            yield from self.score(list(moves.segment_moves(ids, 1)), "move")
        else:
            yield from self.score(list(moves.segment_moves(ids, 3 * depth)), "move", limit=400)
            yield from self.score(list(moves.swaps(ids)), "swap", limit=200)
            exchanged = list(moves.segment_swaps(ids, 2 + depth))
            yield from self.score(exchanged, "exchange", limit=300 * depth)
        if self.s.use_gradient and (depth > 0 or self.v.proposer is None):
            if self.board.left > 3:
                ((grad, _),) = yield Gradients([ids])
                first = len(self.v.encoder.prefix)
                rows = self.v.gradient_replacements(ids, grad[first : first + n], 2 * width)
                yield from self.score([i for _, i in rows], "hotflip")
            # The token that is missed least is probed first.
            order = sorted(range(n), key=lambda k: worth.get((*ids[:k], *ids[k + 1 :]), 0.0))
            yield from self.sweep(state, order, width, NUM_RANDOM[depth])
        if depth > 0 and n > 3:
            pairs = [
                tuple(t for k, t in enumerate(ids) if k not in (i, j))
                for i in range(n)
                for j in range(i + 1, n)
            ]
            cut = yield from self._with_embeddings(pairs, "delete", limit=80)
            yield from self.grow_by(cut[: 4 * depth], 2, width)

    def _refill(
        self, states: list[State], width: int
    ) -> Generator[Request, Answer, list[tuple[float, Ids]]]:
        if self.v.proposer is not None:
            return (yield from self.insertions(states, width))
        best = sorted(states, key=self.rank)[:3]
        return (yield from self.insertions(best, 2 * width))

    def _with_embeddings(
        self, candidates: list[Ids], move: str, limit: int | None = None
    ) -> States:
        """Give states for candidates, also for those that were evaluated before."""
        known = [self.pool[c] for c in dict.fromkeys(candidates) if c in self.pool]
        fresh = yield from self.score(candidates, move, limit)
        return sorted({s.ids: s for s in [*known, *fresh]}.values(), key=self.rank)

    def grow_by(
        self, level: list[State], steps: int, width: int, temperature: float = 0.0
    ) -> Generator[Request, Answer, None]:
        """Insert ``steps`` tokens into states, keeping a beam."""
        for _ in range(steps):
            if not level:
                return
            ranked = yield from self.insertions(level, width // 2, temperature)
            found = yield from self.score(
                [ids for _, ids in ranked], "regrow", limit=width // 2 * len(level)
            )
            level = found[: self.s.beam]

    def restart(self, rounds: int) -> Generator[Request, Answer, None]:
        """Take a random part out of a good state, and grow again with noise."""
        good = [s for niche in self.niches()[:3] for s in niche[:4]]
        base = self.rng.choice(good) if good else self.empty
        n = len(base.ids)
        beam, width = self.s.beam + 2 * (rounds % 4), self.s.width
        if n < 3 or rounds % 4 == 3:
            if self.v.proposer is not None:
                rows = self.v.propose(self.board.target, [self.empty], 4 * beam, 1.0, self.rng)[0]
                level = yield from self._with_embeddings([i for _, i in rows], "restart")
                level = level[: 2 * beam]
            else:
                level = [self.empty]
        else:
            parts = []
            for _ in range(beam):
                span = self.rng.randint(2, max(2, n // 2))
                if self.rng.random() < 0.5:
                    at = self.rng.randrange(n - span + 1)
                    gone = set(range(at, at + span))
                else:
                    gone = set(self.rng.sample(range(n), span))
                parts.append(tuple(t for k, t in enumerate(base.ids) if k not in gone))
            level = yield from self._with_embeddings([p for p in parts if p], "restart")
        yield from self.grow(level, beam, width, temperature=0.3 * (1 + rounds % 3), move="restart")


def one_token_table(
    encoder: Any, allowed: Sequence[int], progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """Encode every allowed token as a phrase of its own.

    Returns:
        Shape (vocab, dim), float32; rows of other tokens are zero.
    """
    table = torch.zeros(encoder.embedding.weight.shape[0], encoder.dim, device=encoder.device)
    step = 2048
    for at in range(0, len(allowed), step):
        part = list(allowed[at : at + step])
        table[part] = encoder.encode_ids([(t,) for t in part])
        if progress:
            progress(min(at + step, len(allowed)), len(allowed))
    return table
