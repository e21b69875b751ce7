"""Green lists: which tokens of the vocabulary a key prefers after a context.

A watermark in the manner of Kirchenbauer et al. (2023, arXiv 2301.10226) splits the vocabulary,
anew for every context (the last ``h`` tokens), into a green list of exactly
``floor(green_fraction * vocab_size)`` tokens and a red list of the others. This file decides the
split: :class:`KeyedBlocks`, the project's own, and the lists of other makers, so that texts that
they marked are detected here.

:class:`KeyedBlocks` needs no permutation of the vocabulary for each context. One permutation,
drawn from the key, lays the tokens out in blocks of a few; a 64-bit hash of (key, context, block)
turns each block by a random number of places; the first places of a block are green. List sizes are
exact because the green places of all blocks add up to the list size; every token is green with
the same probability because the layout is itself shifted by an offset that the context draws. One
token is looked up with two hashes, whatever the size of the vocabulary, and one hash decides up to
64 blocks of a row. With a green fraction of one half the blocks are pairs of which one is green.

Everything is 64-bit integer arithmetic, so the lists are the same on every device, for every batch
and for every floating-point type. Left out: cryptographic strength. Somebody who sees many marked
texts can estimate the lists of frequent contexts, as with every scheme of this family.
"""

from __future__ import annotations

import importlib.util
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: 2**64 / golden ratio, odd: the increment of SplitMix64 (Steele et al. 2014).
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9
_MULTIPLIER_2 = 0x94D049BB133111EB

#: Tokens looked up at once: few enough for temporaries to stay in cache, enough to hide call costs.
_CHUNK = 65_536


def _signed(value: int) -> int:
    """Wrap an integer to the two's complement that int64 tensors hold."""
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


def mix64(value: Tensor) -> Tensor:
    """Scramble 64-bit integers with the finaliser of SplitMix64, a bijection.

    Args:
        value: Any shape, int64.

    Returns:
        The same shape, int64, every bit depending on every bit of ``value``.
    """
    value = _mix_high(value)
    return value.bitwise_xor_(_logical_shift(value, 31))


def _mix_high(value: Tensor) -> Tensor:
    """All of :func:`mix64` but its last line, which changes only the low 33 bits."""
    value = _logical_shift(value, 30).bitwise_xor_(value).mul_(_signed(_MULTIPLIER_1))
    return value.bitwise_xor_(_logical_shift(value, 27)).mul_(_signed(_MULTIPLIER_2))


def uniforms(seed: int, *counters: int, num: int = 1) -> Tensor:
    """Draw reproducible uniforms from a seed and counters, the same on every machine.

    Args:
        seed: Any integer.
        *counters: Integers that tell streams apart (a row, a step).
        num: How many to draw.

    Returns:
        Shape (num,), float64, in [0, 1).
    """
    state = mix64(torch.tensor([_signed(seed * _GOLDEN + 1)]))
    for counter in counters:
        state = mix64(state ^ _signed((counter + 1) * _GOLDEN))
    bits = mix64(state + torch.arange(1, num + 1) * _signed(_GOLDEN))
    return _logical_shift(bits, 11).double() * 2.0**-53


def _logical_shift(value: Tensor, places: int) -> Tensor:
    return (value >> places).bitwise_and_((1 << (64 - places)) - 1)


@dataclass(frozen=True)
class Watermark:
    """Everything that detection must know about how texts were marked.

    Args:
        prf: ``keyed``, ``hash``, ``hf_lefthash``, ``kgw_simple_1`` or ``FILE.py:FUNCTION``.
        key: The secret, any integer.
        context_width: Number h of previous tokens that choose the list.
        green_fraction: Share of the vocabulary on the green list, in (0, 1).
        bias: What ``soft`` subtracts from red logits, in nats, at least 0; None where
            detection does not know it.
        vocab_size: Number of logits of the model, padding included.
        tokenizer: Name of the backbone whose tokenizer made the ids.
        temperature: Sampling temperature, which the mark is divided by: it acts on logits before.

    Raises:
        ValueError: If a value is out of range or ``prf`` is unknown.
    """

    prf: str
    key: int
    context_width: int
    green_fraction: float
    bias: float | None
    vocab_size: int
    tokenizer: str
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.prf not in GREEN_LISTS and ":" not in self.prf:
            raise ValueError(
                f"watermark.prf is {self.prf!r}; it must be one of {', '.join(GREEN_LISTS)} or "
                "FILE.py:FUNCTION."
            )
        if not 0.0 < self.green_fraction < 1.0:
            raise ValueError(
                f"watermark.green_fraction is {self.green_fraction}; it must lie strictly between "
                "0 and 1."
            )
        if self.bias is not None and not self.bias >= 0.0:
            raise ValueError(
                f"watermark.bias is {self.bias}; it is subtracted from red logits and must be 0 or "
                "more nats."
            )
        if self.context_width < 1:
            raise ValueError(
                f"watermark.context_width is {self.context_width}; at least one previous token "
                "must choose the list."
            )
        if self.temperature <= 0.0:
            raise ValueError(f"watermark.temperature is {self.temperature}; it must be positive.")
        if not 1 <= int(self.vocab_size * self.green_fraction) < self.vocab_size:
            raise ValueError(
                f"a green fraction of {self.green_fraction} leaves no token green, or none red, in "
                f"a vocabulary of {self.vocab_size}; choose another."
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Watermark:
        """Build from a ``watermark`` object of a file; keys that are not fields are ignored.

        Raises:
            ValueError: If a field is missing, has the wrong type or is out of range.
        """
        known = {field.name: field.type for field in fields(cls)}
        values = {key: value for key, value in values.items() if key in known}
        missing = known.keys() - values.keys() - {"temperature"}
        if missing:
            raise ValueError(
                f"the watermark's {', '.join(sorted(missing))} are not known; give them in the "
                "file's watermark object or on the command line (watermark.key=...)."
            )
        converters: dict[str, Callable[[Any], Any]] = {
            "str": str,
            "int": int,
            "float": float,
            "float | None": lambda value: None if value is None else float(value),
        }
        try:
            values = {key: converters[str(known[key])](value) for key, value in values.items()}
        except (TypeError, ValueError) as error:
            raise ValueError(f"the watermark {values} is not valid: {error}.") from error
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """Return the JSON object that every generated row carries."""
        return asdict(self)

    def green_list(self) -> GreenList:
        """Build the lists; :class:`Watermark` with equal fields gives equal lists.

        Raises:
            ValueError: If the PRF cannot be had (see the PRF's class).
        """
        numbers = (self.vocab_size, self.green_fraction, self.key, self.context_width)
        if self.prf in GREEN_LISTS:
            return GREEN_LISTS[self.prf](*numbers)
        return UserGreenList(load_function(self.prf), *numbers)


class GreenList(ABC):
    """The green lists of one key: a set of tokens for every context.

    Args:
        vocab_size: Number of logits.
        green_fraction: Share on the list, in (0, 1).
        key: Any integer.
        context_width: Number h of previous tokens that choose the list.
    """

    #: Whether one token can be looked up without its row.
    is_pointwise = False

    def __init__(
        self, vocab_size: int, green_fraction: float, key: int, context_width: int = 1
    ) -> None:
        self.vocab_size = vocab_size
        self.green_fraction = green_fraction
        self.key = key
        self.context_width = context_width
        self.size = int(vocab_size * green_fraction)

    @property
    def probability(self) -> float:
        """Probability that a token that knows nothing of the key is green: size over vocabulary."""
        return self.size / self.vocab_size

    @abstractmethod
    def rows(self, contexts: Tensor) -> Tensor:
        """Return whole lists.

        Args:
            contexts: Shape (num_contexts, context_width), int64, oldest token first.

        Returns:
            Shape (num_contexts, vocab_size), bool, True for green.
        """

    def contains(self, contexts: Tensor, tokens: Tensor) -> Tensor:
        """Look single tokens up.

        Args:
            contexts: Shape (num_tokens, context_width), int64, oldest token first.
            tokens: Shape (num_tokens,), int64.

        Returns:
            Shape (num_tokens,), bool: ``rows(contexts)[i, tokens[i]]``.
        """
        distinct, inverse = torch.unique(contexts, dim=0, return_inverse=True)
        order = torch.argsort(inverse)
        bounds = torch.searchsorted(inverse[order], torch.arange(len(distinct) + 1)).tolist()
        green = torch.empty_like(tokens, dtype=torch.bool)
        for i in range(len(distinct)):  # one row at a time: a corpus has many contexts
            members = order[bounds[i] : bounds[i + 1]]
            green[members] = self.rows(distinct[i : i + 1])[0, tokens[members]]
        return green


class KeyedBlocks(GreenList):
    """Exact-size lists by turning the blocks of a keyed layout (see the module docstring).

    A token's place is ``q = (layout[token] + offset(context)) mod vocab_size``, its block
    ``q // B``, its slot ``q mod B``; it is green when ``(slot + turn) mod B < green places of the
    block``. Blocks hold 2 tokens if ``2 * green_fraction`` is whole, else 4 if that is, else 16.

    Raises:
        ValueError: If the vocabulary is smaller than one block of 16.
    """

    is_pointwise = True

    def __init__(
        self, vocab_size: int, green_fraction: float, key: int, context_width: int = 1
    ) -> None:
        super().__init__(vocab_size, green_fraction, key, context_width)
        if not 16 <= vocab_size < 2**31:
            raise ValueError(f"a vocabulary of {vocab_size} is outside 16 to 2**31 - 1.")
        # width of a turn in bits divides 64, so that a word holds a whole number of turns
        self._turn_bits = next(
            bits for bits in (1, 2, 4) if bits == 4 or (green_fraction * 2**bits).is_integer()
        )
        block = 1 << self._turn_bits
        self._turns_per_word = 64 // self._turn_bits
        self._num_blocks = -(-vocab_size // block)
        self._last_size = vocab_size - (self._num_blocks - 1) * block
        self._num_words = -(-self._num_blocks // self._turns_per_word)
        # green places up to the end of each block: rounding the running sum makes the total exact
        ends = np.minimum(np.arange(1, self._num_blocks + 1) * block, vocab_size)
        counts = np.diff(ends * self.size // vocab_size, prepend=0)
        is_even = bool((counts == counts[0]).all())
        self._even_count = int(counts[0]) if is_even and self._last_size == block else None
        self._seed = int(mix64(torch.tensor([_signed(key ^ _GOLDEN)])))
        ids = torch.arange(1, vocab_size + 1)
        draws_of_ids = mix64(ids * _signed(_GOLDEN) + self._seed)
        draws = mix64(ids * _signed(_MULTIPLIER_1) ^ self._seed)
        layout = torch.argsort(torch.argsort(draws, stable=True), stable=True)
        self._tables = {
            torch.device("cpu"): (layout, torch.from_numpy(counts.astype(np.uint8)), draws_of_ids),
        }

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        if device not in self._tables:
            layout, counts, first = self._tables[torch.device("cpu")]
            self._tables[device] = (layout.to(device), counts.to(device), first.to(device))
        return self._tables[device]

    def _context_hash(self, contexts: Tensor) -> Tensor:
        """Hash (num, h) ids to (num,) 64-bit states; position and order of the ids count."""
        # the first id's hash comes from a table: a lookup costs a tenth of the arithmetic
        state = self._on(contexts.device)[2].index_select(0, contexts[:, 0])
        for i in range(1, self.context_width):
            state = mix64(state ^ ((contexts[:, i] + 1) * _signed(_GOLDEN)))
        return state

    def _offset(self, state: Tensor) -> Tensor:
        """Map states to [0, vocab_size) by Lemire's multiplication, cheaper than a remainder."""
        return (_logical_shift(state, 32) * self.vocab_size) >> 32

    def contains(self, contexts: Tensor, tokens: Tensor) -> Tensor:
        green = torch.empty_like(tokens, dtype=torch.bool)
        step = _CHUNK if tokens.device.type == "cpu" else max(1, len(tokens))
        for start in range(0, len(tokens), step):
            chunk = slice(start, start + step)
            green[chunk] = self._contains(contexts[chunk], tokens[chunk])
        return green

    def _contains(self, contexts: Tensor, tokens: Tensor) -> Tensor:
        layout, counts, _ = self._on(tokens.device)
        bits, block = self._turn_bits, 1 << self._turn_bits
        state = self._context_hash(contexts)
        place = layout.index_select(0, tokens).add_(self._offset(state))
        # minus vocab_size where it is reached: the sign of the difference as a mask
        excess = place - self.vocab_size
        place = excess.add_((excess >> 63).bitwise_and_(self.vocab_size))
        index = place >> bits
        word_bits = 6 - {1: 0, 2: 1, 4: 2}[bits]
        word = mix64(state.add_((index >> word_bits).add_(1), alpha=_signed(_GOLDEN)))
        turn = word >> (index & (self._turns_per_word - 1)).mul_(bits)
        if self._even_count is not None:  # the low bits of the place are the slot
            return turn.add_(place).bitwise_and_(block - 1) < self._even_count
        slot = place & (block - 1)
        turn &= block - 1
        is_last = index == self._num_blocks - 1
        shifted = torch.where(
            is_last,
            (slot + turn) % self._last_size,
            (slot + turn) & (block - 1),
        )
        return shifted < counts[index]

    def rows(self, contexts: Tensor) -> Tensor:
        layout, counts, _ = self._on(contexts.device)
        bits, block = self._turn_bits, 1 << self._turn_bits
        state = self._context_hash(contexts)
        numbers = torch.arange(1, self._num_words + 1, device=contexts.device)
        words = mix64(state[:, None] + numbers * _signed(_GOLDEN))
        # little-endian bytes of the words hold the turns in order
        turns = words.view(torch.uint8)
        parts = [(turns >> shift) & (block - 1) for shift in range(0, 8, bits)]
        turns = torch.stack(parts, dim=2).flatten(1)[:, : self._num_blocks]
        by_place = torch.stack(
            [((turns + slot) & (block - 1)) < counts for slot in range(block)], dim=2
        )
        if self._last_size != block:
            slots = torch.arange(self._last_size, device=contexts.device)
            last = (slots + turns[:, -1:].long()) % self._last_size
            by_place[:, -1, : self._last_size] = last < counts[-1]
        by_place = by_place.flatten(1)[:, : self.vocab_size]
        doubled = torch.cat([by_place, by_place], dim=1)
        offsets = self._offset(state)
        if contexts.device.type != "cpu":
            return doubled.gather(1, layout + offsets[:, None])
        green = torch.empty(len(contexts), self.vocab_size, dtype=torch.bool)
        for i, offset in enumerate(offsets.tolist()):
            torch.index_select(
                doubled[i, offset : offset + self.vocab_size], 0, layout, out=green[i]
            )
        return green


class HashThreshold(GreenList):
    """Lists by a plain threshold on a hash of (key, context, token): size right on average only.

    The cheapest lookup there is. A list's size is binomial with mean
    ``green_fraction * vocab_size``, so exact tests hold through the threshold's own probability.
    """

    is_pointwise = True

    def __init__(
        self, vocab_size: int, green_fraction: float, key: int, context_width: int = 1
    ) -> None:
        super().__init__(vocab_size, green_fraction, key, context_width)
        self._seed = int(mix64(torch.tensor([_signed(key ^ _GOLDEN)])))
        # a threshold of 31 bits: the hash's low 33, and so mix64's last line, do not bear on it
        self._level = int(green_fraction * 2**31)
        self._threshold = (self._level << 33) - 2**63

    @property
    def probability(self) -> float:
        return self._level / 2**31

    def _is_green(self, contexts: Tensor, tokens: Tensor) -> Tensor:
        value = (contexts[:, 0] * _signed(_GOLDEN)).add_(self._seed)
        for i in range(1, self.context_width):
            value = (value ^ (value >> 29)) * _signed(_MULTIPLIER_2) + contexts[:, i]
        # a context's stride is odd and unrelated to the token's, so pairs do not collide in lines
        while value.dim() < tokens.dim():
            value = value[:, None]
        return _mix_high(value ^ (tokens + 1).mul_(_signed(_MULTIPLIER_2))) < self._threshold

    def contains(self, contexts: Tensor, tokens: Tensor) -> Tensor:
        green = torch.empty_like(tokens, dtype=torch.bool)
        step = _CHUNK if tokens.device.type == "cpu" else max(1, len(tokens))
        for start in range(0, len(tokens), step):
            chunk = slice(start, start + step)
            green[chunk] = self._is_green(contexts[chunk], tokens[chunk])
        return green

    def rows(self, contexts: Tensor) -> Tensor:
        tokens = torch.arange(self.vocab_size, device=contexts.device)[None]
        return self._is_green(contexts, tokens)


class SeededPermutation(GreenList):
    """Lists of transformers' ``WatermarkingConfig`` (lefthash): a seeded ``torch.randperm``.

    The seed is ``key * previous id``, so the previous id 0 has one list under every key, and only
    the CPU's generator is reproduced: lists that were made on a GPU differ.

    Note:
        transformers ignores a context wider than 1 under lefthash; so does this class.
    """

    def rows(self, contexts: Tensor) -> Tensor:
        generator = torch.Generator()
        green = torch.zeros(len(contexts), self.vocab_size, dtype=torch.bool)
        for i, number in enumerate(self._context_number(contexts).tolist()):
            generator.manual_seed(self.key * number % (2**64 - 1))
            green[i, torch.randperm(self.vocab_size, generator=generator)[: self.size]] = True
        return green.to(contexts.device)

    def _context_number(self, contexts: Tensor) -> Tensor:
        return contexts[:, -1]


class AdditivePermutation(SeededPermutation):
    """Lists of the reference implementation's ``simple_1``: seed ``key * sum of the context``.

    Source: Kirchenbauer et al. (2023), the seeding scheme ``simple_1`` (``additive_prf``) of their
    published code, whose default key is 15485863.
    """

    def _context_number(self, contexts: Tensor) -> Tensor:
        return contexts.sum(dim=1)


class UserGreenList(GreenList):
    """Lists of a function of the user, for texts that anybody else marked.

    Args:
        function: Called as ``(previous_id, vocab_size, green_fraction, key)``; returns the green
            mask of the vocabulary, ``vocab_size`` booleans (a tensor, an array or a list).
        vocab_size: Number of logits.
        green_fraction: Handed to the function.
        key: Handed to the function.
        context_width: Must be 1.

    Raises:
        ValueError: If ``context_width`` is not 1, or (in use) the mask is not valid.
    """

    def __init__(
        self,
        function: Callable[[int, int, float, int], Any],
        vocab_size: int,
        green_fraction: float,
        key: int,
        context_width: int = 1,
    ) -> None:
        super().__init__(vocab_size, green_fraction, key, context_width)
        if context_width != 1:
            raise ValueError(
                f"watermark.context_width is {context_width}; a function of your own sees one "
                "previous id, so it must be 1."
            )
        self._function = function
        self._num_green: int | None = None
        self._num_green = int(self._row(0).sum())

    @property
    def probability(self) -> float:
        """Share of green in the list after id 0: the function may round as it likes."""
        return (self._num_green or self.size) / self.vocab_size

    def _row(self, previous: int) -> Tensor:
        mask = self._function(previous, self.vocab_size, self.green_fraction, self.key)
        mask = mask.detach().cpu() if isinstance(mask, Tensor) else torch.as_tensor(np.array(mask))
        if mask.dtype != torch.bool or mask.shape != (self.vocab_size,):
            raise ValueError(
                f"the function of watermark.prf returned {mask.dtype} of shape "
                f"{tuple(mask.shape)} for the previous id {previous}; it must return a boolean "
                f"mask of shape ({self.vocab_size},)."
            )
        if not mask.any() or mask.all():
            raise ValueError(
                f"the function of watermark.prf makes {'no' if not mask.any() else 'every'} token "
                f"green after the id {previous}; it must make some green and some red."
            )
        return mask

    def rows(self, contexts: Tensor) -> Tensor:
        rows = [self._row(previous) for previous in contexts[:, -1].tolist()]
        return torch.stack(rows).to(contexts.device)


#: The lists that ``watermark.prf`` names.
GREEN_LISTS: dict[str, type[GreenList]] = {
    "keyed": KeyedBlocks,
    "hash": HashThreshold,
    "hf_lefthash": SeededPermutation,
    "kgw_simple_1": AdditivePermutation,
}


def load_function(reference: str) -> Callable[[int, int, float, int], Any]:
    """Load ``FILE.py:FUNCTION``, which runs the code in the file.

    Args:
        reference: A path, a colon, and the name of a function in the file.

    Returns:
        The function.

    Raises:
        ValueError: If the file or the function does not exist, the file does not run, or the
            function does not take four arguments.
    """
    file, _, name = reference.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise ValueError(
            f"watermark.prf is {reference!r}, and there is no file {path.absolute()}; write "
            "FILE.py:FUNCTION with a path from the working directory."
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"watermark.prf is {reference!r}; {path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(
            f"watermark.prf: {path} does not run ({type(error).__name__}: {error})."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"watermark.prf: {path} has no function {name!r}.")
    try:
        inspect.signature(function).bind(0, 2, 0.5, 0)
    except TypeError as error:
        raise ValueError(
            f"watermark.prf: {name} must take (previous_id, vocab_size, green_fraction, key)."
        ) from error
    return function


class PackedRows:
    """Green rows for generation, kept as bits: eight tokens a byte, one row a context.

    Only contexts that were not seen lately are computed. On a GPU, where computing a row is
    cheaper than moving one there, nothing is kept.

    Args:
        green_list: Where rows come from.
        capacity: Rows to keep; the oldest are dropped. 4,096 rows of a vocabulary of 49,152 take
            25 MB.
    """

    def __init__(self, green_list: GreenList, capacity: int = 4096) -> None:
        self.green_list = green_list
        self.capacity = capacity
        self._bytes = np.zeros((capacity, -(-green_list.vocab_size // 8)), dtype=np.uint8)
        self._slots: dict[tuple[int, ...], int] = {}
        self._owners: list[tuple[int, ...] | None] = [None] * capacity
        self._next = 0

    def penalty(self, contexts: Tensor, bias: float, dtype: torch.dtype) -> Tensor:
        """Return what to add to logits: 0 for green tokens, ``-bias`` for red ones.

        Args:
            contexts: Shape (batch, context_width), int64.
            bias: In nats, at least 0.
            dtype: Of the logits.

        Returns:
            Shape (batch, vocab_size).
        """
        vocab_size = self.green_list.vocab_size
        if contexts.device.type != "cpu" or len(contexts) > self.capacity:
            return (~self.green_list.rows(contexts)).to(dtype) * -bias
        packed = self._packed(contexts)
        table = self._table(bias, dtype)
        expanded = table.index_select(0, torch.from_numpy(packed).flatten().int())
        return expanded.view(len(contexts), -1)[:, :vocab_size]

    def _packed(self, contexts: Tensor) -> np.ndarray:
        keys = [tuple(context) for context in contexts.tolist()]
        wanted = set(keys)
        missing = [key for key in dict.fromkeys(keys) if key not in self._slots]
        if missing:
            rows = np.packbits(
                self.green_list.rows(torch.tensor(missing)).numpy(), axis=1, bitorder="little"
            )
            for key, row in zip(missing, rows, strict=True):
                while self._owners[self._next] in wanted:  # never evict what this batch needs
                    self._next = (self._next + 1) % self.capacity
                owner = self._owners[self._next]
                if owner is not None:
                    del self._slots[owner]
                self._slots[key], self._owners[self._next] = self._next, key
                self._bytes[self._next] = row
                self._next = (self._next + 1) % self.capacity
        return self._bytes[[self._slots[key] for key in keys]]

    def _table(self, bias: float, dtype: torch.dtype) -> Tensor:
        """For each byte, the penalties of its eight tokens: shape (256, 8)."""
        if getattr(self, "_table_of", None) != (bias, dtype):
            bits = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
            self._table_cache = ((1 - bits) * -bias).to(dtype)
            self._table_of = (bias, dtype)
        return self._table_cache
