"""Length-bucketed batches: the same for any number of processes, resumable, little padding."""

from __future__ import annotations

import random
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.datamodules.batching import BucketBatchSampler

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchdata.stateful_dataloader import StatefulDataLoader


def _lengths(count, seed=0):
    rng = random.Random(seed)
    return [rng.randint(5, 120) for _ in range(count)]


def _loader(sampler, count, **kwargs):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'set_vital' is deprecated")
        return StatefulDataLoader(
            list(range(count)), batch_sampler=sampler, collate_fn=list, **kwargs
        )


@given(
    count=st.integers(4, 400),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 4),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
    bucket=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_ranks_share_what_one_process_would_see(count, batch_size, world_size, seed, epoch, bucket):
    lengths = _lengths(count)
    whole = BucketBatchSampler(lengths, batch_size * world_size, seed=seed, bucket=bucket)
    ranks = [
        BucketBatchSampler(
            lengths, batch_size, seed=seed, rank=rank, world_size=world_size, bucket=bucket
        )
        for rank in range(world_size)
    ]
    for sampler in (whole, *ranks):
        sampler.set_epoch(epoch)
    batches = list(whole)
    shares = [list(sampler) for sampler in ranks]
    assert {len(share) for share in shares} == {len(batches)} == {len(sampler) for sampler in ranks}
    for step, batch in enumerate(batches):
        parts = [share[step] for share in shares]
        assert len({len(part) for part in parts}) == 1
        together = sorted(index for part in parts for index in part)
        # A lone ragged batch is cut to a multiple of the world.
        assert set(together) <= set(batch)
        assert len(batch) - len(together) < world_size
        if len(batch) == batch_size * world_size:
            assert together == sorted(batch)
    seen = [index for batch in batches for index in batch]
    assert len(seen) == len(set(seen))
    assert count - len(seen) < batch_size * world_size


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = BucketBatchSampler(_lengths(300), 8, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    # What an epoch leaves out is not always the same.
    left_out = [set(range(300)) - {i for batch in order(1, e) for i in batch} for e in range(3)]
    assert left_out[0] != left_out[1]


def test_bucketing_pads_less():
    lengths = _lengths(2000)

    def padding(bucket):
        batches = list(BucketBatchSampler(lengths, 16, bucket=bucket))
        used = sum(lengths[i] for batch in batches for i in batch)
        padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
        return 1 - used / padded

    assert padding(True) < 0.06 < 0.3 < padding(False)


# One core is fewer than the two workers.
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize(
    ("interrupted_after", "num_workers"), [(0, 0), (3, 0), (17, 0), (25, 0), (3, 2)]
)
def test_resume_in_mid_epoch_continues_exactly(interrupted_after, num_workers):
    count = 200

    def fresh():
        return BucketBatchSampler(_lengths(count), 8, seed=4)

    kwargs = {"num_workers": num_workers}
    if num_workers:
        kwargs["multiprocessing_context"] = "fork"
    sampler = fresh()
    sampler.set_epoch(2)
    expected = list(sampler)

    loader = _loader(sampler, count, **kwargs)
    iterator = iter(loader)
    head = [next(iterator) for _ in range(interrupted_after)]
    state = loader.state_dict()
    del iterator, loader

    resumed = _loader(fresh(), count, **kwargs)
    resumed.load_state_dict(state)
    assert head + list(resumed) == expected
    # The next epoch starts from its beginning.
    resumed.batch_sampler.set_epoch(3)
    again = fresh()
    again.set_epoch(3)
    assert list(resumed) == list(again)


def test_resume_with_another_order_is_refused():
    state = BucketBatchSampler(_lengths(50), 4, seed=0).state_dict()
    with pytest.raises(ValueError, match="checkpoint has seed 0, this run 1"):
        BucketBatchSampler(_lengths(50), 4, seed=1).load_state_dict(state)
    with pytest.raises(ValueError, match="global_batch_size"):
        BucketBatchSampler(_lengths(50), 5, seed=0).load_state_dict(state)
    two = BucketBatchSampler(_lengths(50), 2, seed=0, rank=1, world_size=2)
    two.load_state_dict(state)  # the same global batches, shared by two


def test_lightning_finds_set_epoch():
    from lightning.fabric.utilities.data import _set_sampler_epoch

    loader = _loader(BucketBatchSampler(_lengths(50), 4), 50)
    _set_sampler_epoch(loader, 5)
    assert loader.batch_sampler.epoch == 5


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2, "rank": 2, "world_size": 2}, "rank is 2"),
        ({"batch_size": 2, "rank": 0, "world_size": 8}, "fewer devices"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BucketBatchSampler([3, 4, 5], **kwargs)
