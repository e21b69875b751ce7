"""Batches of similar length, the same whatever the number of processes.

Decides which examples share a training batch. One global batch is what all ranks see in one step;
it is drawn from (seed, epoch) alone, and rank r takes rows r, r + world_size, ... of it, so that
two processes with batches of b see the very batches that one process with batches of 2b sees.

Bucketing follows the usual recipe: shuffle, cut into pools of some fifty batches, sort each pool by
length, cut it into batches, shuffle the batches. Padding then falls to a few per cent, while the
batches still change from epoch to epoch.

Both the sampler (which order) and its iterator (how far) are stateful in the sense of torchdata's
``StatefulDataLoader``, which so resumes in the middle of an epoch, with workers or without.

Left out on purpose: batches by a budget of tokens, whose size in examples would vary by step.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import Sampler


class _BatchIterator:
    """Iterator over this rank's batches whose position can be saved."""

    def __init__(self, batches: list[list[int]]) -> None:
        self.batches, self.position = batches, 0

    def __iter__(self) -> _BatchIterator:
        return self

    def __next__(self) -> list[int]:
        if self.position >= len(self.batches):
            raise StopIteration
        self.position += 1
        return self.batches[self.position - 1]

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = state["position"]


class BucketBatchSampler(Sampler[list[int]]):
    """Yield training batches of similar length, in an order given by (seed, epoch).

    Args:
        lengths: Length of each example, in any unit that padding costs (tokens).
        batch_size: Examples in a batch on one rank, at least 1.
        seed: Seed of the order.
        rank: This process, in ``[0, world_size)``.
        world_size: Number of processes.
        bucket: Whether batches hold examples of similar length; if not, they are a plain shuffle.
        pool_batches: Global batches sorted together; larger pads less and mixes less.

    Raises:
        ValueError: If a size is below 1, the rank is outside the world, or there are fewer examples
            than processes.

    Note:
        The last, smaller global batch of an epoch is left out, another one each epoch, unless it is
        the only one: every rank gets equally many batches of equal size.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        bucket: bool = True,
        pool_batches: int = 50,
    ) -> None:
        if batch_size < 1 or pool_batches < 1:
            raise ValueError(
                f"batch_size is {batch_size} and pool_batches {pool_batches}, expected at least 1"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}, expected one of the {world_size} processes")
        if len(lengths) < world_size:
            raise ValueError(
                f"{len(lengths)} training examples for {world_size} processes: "
                "use more data or fewer devices"
            )
        self.lengths = list(lengths)
        self.batch_size, self.seed = batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.bucket, self.pool_batches = bucket, pool_batches
        self.epoch = 0
        self.drop_last = True

    @property
    def sampler(self) -> BucketBatchSampler:
        """Itself: Lightning calls ``set_epoch`` on the sampler inside a batch sampler."""
        return self

    @property
    def global_batch_size(self) -> int:
        """Examples that all ranks together see in one step."""
        return self.batch_size * self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, len(self.lengths) // self.global_batch_size)

    def global_batches(self) -> list[list[int]]:
        """List the batches of this epoch over all ranks, in the order they are taken."""
        rng = random.Random(f"{self.seed}/{self.epoch}")
        order = list(range(len(self.lengths)))
        rng.shuffle(order)
        size = self.global_batch_size
        order = order[: len(self) * size]
        if self.bucket:
            pool = size * self.pool_batches
            order = [
                index
                for start in range(0, len(order), pool)
                for index in sorted(order[start : start + pool], key=self.lengths.__getitem__)
            ]
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        if self.bucket:
            rng.shuffle(batches)
        return batches

    def __iter__(self) -> Iterator[list[int]]:
        batches = []
        for batch in self.global_batches():
            # Only a lone batch can be ragged; unequal shares would skew the mean over ranks.
            share = len(batch) // self.world_size * self.world_size
            batches.append(batch[:share][self.rank :: self.world_size])
        return _BatchIterator(batches)

    def state_dict(self) -> dict[str, Any]:
        """State that names the order: what it is drawn from, and the epoch."""
        return {"epoch": self.epoch, **self._order()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the epoch.

        Raises:
            ValueError: If the state is that of another order.
        """
        for name, value in self._order().items():
            if state[name] != value:
                raise ValueError(
                    f"cannot resume inside an epoch: the checkpoint has {name} {state[name]}, this "
                    f"run {value}; use the same data, seed and global batch size"
                )
        self.epoch = state["epoch"]

    def _order(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "num_examples": len(self.lengths),
            "global_batch_size": self.global_batch_size,
            "bucket": self.bucket,
            "pool_batches": self.pool_batches,
        }
