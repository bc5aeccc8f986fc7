"""Ids rise, never repeat, and carry the writer's slot."""

from __future__ import annotations

from points_grpc.service.ids import EPOCH_MS, IdSource


def test_ids_rise_within_a_millisecond_and_when_the_clock_goes_back() -> None:
    """Ten thousand ids from a clock that stands still and then goes back are all different and rising."""
    times = iter([EPOCH_MS + 5] * 5000 + [EPOCH_MS + 1] * 5000)
    next_id = IdSource(3, lambda: next(times))
    ids = [next_id() for _ in range(10_000)]

    assert sorted(set(ids)) == ids


def test_ids_of_two_slots_differ() -> None:
    """Two slots never make the same id, even at the same instant."""
    one, other = IdSource(1, lambda: EPOCH_MS + 7), IdSource(2, lambda: EPOCH_MS + 7)

    assert set() == {one() for _ in range(5000)} & {other() for _ in range(5000)}


def test_ids_fit_into_64_bits_until_2094() -> None:
    """The last id of the last year is still positive in 64 bits."""
    end_of_2094_ms = 3_930_000_000_000

    assert IdSource(1023, lambda: end_of_2094_ms)() < 2**63


def test_ids_go_on_from_those_of_the_process_before() -> None:
    """A process whose clock is behind, on a slot whose last holder's was not, makes no id again, and none below."""
    before = IdSource(3, lambda: EPOCH_MS + 3_600_000)
    transaction_id = before()
    others = [before() for _ in range(100_000)]
    next_id = IdSource(3, lambda: EPOCH_MS, after=transaction_id)

    assert max(others) < next_id() < next_id()
    assert IdSource(3, lambda: EPOCH_MS, after=0)() < transaction_id
