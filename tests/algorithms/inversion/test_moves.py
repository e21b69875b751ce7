from hypothesis import given
from hypothesis import strategies as st

from src.algorithms.inversion.moves import (
    deletions,
    segment_moves,
    segment_swaps,
    swaps,
)

PHRASES = st.lists(st.integers(0, 9), min_size=2, max_size=8).map(tuple)


@given(PHRASES)
def test_changes_of_order_keep_the_tokens(ids: tuple[int, ...]) -> None:
    for change in (
        *swaps(ids),
        *segment_moves(ids, 3),
        *segment_swaps(ids, 3),
    ):
        assert sorted(change) == sorted(ids)
    n = len(ids)
    assert len(list(swaps(ids))) == n * (n - 1) // 2


def test_runs_change_places() -> None:
    ids = tuple(range(6))
    assert (3, 4, 2, 0, 1, 5) in segment_swaps(ids, 2)
    assert (2, 3, 0, 1, 4, 5) in segment_moves(ids, 2)
    assert len(set(segment_swaps(ids, 3))) == len(list(segment_swaps(ids, 3)))


def test_deletions_leave_out_each_token() -> None:
    assert deletions((1, 2, 3)) == [(2, 3), (1, 3), (1, 2)]
