"""When a watch makes its next call, by a clock that the test moves: old calls, its own end, and silence."""

from __future__ import annotations

from types import SimpleNamespace

import grpc
import pytest

from points_grpc.client import NotAnswered, Retries, calls, following
from points_grpc.client.calls import Credential
from points_grpc.client.following import CALL_S, SILENCE_S, Following
from points_grpc.v1 import wallet_service_pb2 as pb

RETRIES = Retries(pause_min_s=0.5, pause_max_s=2.0)
AWAY, LATE = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Ended(grpc.RpcError):
    """How a call ended."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return ""

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (calls, following):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


def a_watch(timeout_s: float | None = None) -> Following[pb.WatchWalletResponse]:
    """A watch of a wallet, that was not started."""
    return Following(
        following.a_wallet(pb.WatchWalletRequest()),
        credential=Credential("pk_a_b"),
        retries=RETRIES,
        timeout_s=timeout_s,
        metadata=(),
    )


def tell(watch: Following[pb.WatchWalletResponse], *versions: int) -> None:
    """Gives it bookmarks, as one call has them."""
    for version in versions:
        watch.take(pb.WatchWalletResponse(wallet_version=version).SerializeToString())


def test_a_call_that_grew_old(clock: Clock) -> None:
    """A call of a watch without an end has one; another follows, behind what was told."""
    watch = a_watch()
    _, allowed_s, metadata = watch.start()
    tell(watch, 5, 5)
    clock.now += CALL_S
    pause = watch.pause_s(Ended(LATE))
    raw, *_ = watch.start()

    assert (CALL_S, RETRIES.pause_min_s) == (allowed_s, pause)
    assert (("authorization", "Bearer pk_a_b"),) == metadata
    assert pb.WatchWalletRequest(after_version=5) == pb.WatchWalletRequest.FromString(raw)


def test_a_call_that_was_never_answered(clock: Clock) -> None:
    """Where not even the first bookmark came in all that time, nobody is there."""
    watch = a_watch()
    watch.start()
    clock.now += CALL_S

    with pytest.raises(NotAnswered):
        watch.pause_s(Ended(LATE))


@pytest.mark.parametrize("error", [Ended(LATE), None])
def test_the_time_is_over(clock: Clock, error: Ended | None) -> None:
    """No call lasts longer than the watch is to; after it an answered watch is over."""
    watch = a_watch(10)
    clock.now += 4
    allowed_s = watch.start()[1]
    tell(watch, 5)
    clock.now += 6

    assert (6, None) == (allowed_s, watch.pause_s(error))


def test_the_time_is_over_in_silence(clock: Clock) -> None:
    """Whoever was not being answered then is told so, and not that all was well."""
    watch = a_watch(10)
    watch.start()
    tell(watch, 5, 5)
    clock.now += 9.9

    with pytest.raises(NotAnswered):
        watch.pause_s(Ended(AWAY))


def test_silence(clock: Clock) -> None:
    """Attempts that bring nothing go on for a minute, from when the last call that brought something ended."""
    watch = a_watch()
    watch.start()
    tell(watch, 5, 5)
    clock.now += 2 * SILENCE_S
    pauses = [watch.pause_s(Ended(AWAY))]
    for _ in range(2):
        clock.now += SILENCE_S / 3
        watch.start()
        tell(watch, 5)  # comes with every call
        pauses.append(watch.pause_s(Ended(AWAY)))
    clock.now += SILENCE_S / 3
    watch.start()

    assert all(pause is not None and 0 < pause <= RETRIES.pause_max_s for pause in pauses)
    with pytest.raises(NotAnswered) as raised:
        watch.pause_s(Ended(AWAY))
    assert 4 == raised.value.attempts


def test_a_call_that_ends_well(clock: Clock) -> None:
    """Something between ended it: the watch goes on, in no hurry if the call brought nothing."""
    watch = a_watch()
    watch.start()
    tell(watch, 5)
    first = watch.pause_s(None)
    watch.start()
    tell(watch, 5, 5)

    assert (RETRIES.pause_max_s, RETRIES.pause_min_s) == (first, watch.pause_s(None))


def test_silence_counts_from_the_first_call(clock: Clock) -> None:
    """Who makes a watch and reads it later has the whole minute: nobody was asked before, so nobody was silent."""
    watch = a_watch()
    clock.now += 2 * SILENCE_S

    watch.start()

    assert watch.pause_s(Ended(AWAY)) is not None
    clock.now += SILENCE_S
    watch.start()
    with pytest.raises(NotAnswered):
        watch.pause_s(Ended(AWAY))


def test_who_is_busy_with_a_message_is_not_kept_waiting(clock: Clock) -> None:
    """A call is cut while its first bookmark is looked at: the minute is that in which somebody waited."""
    watch = a_watch()
    watch.ask()
    watch.start()
    clock.now += SILENCE_S / 2
    tell(watch, 5)
    clock.now += 2 * SILENCE_S

    watch.ask()
    watch.ask()  # as after a time limit of its own
    assert watch.pause_s(Ended(AWAY)) is not None
    clock.now += SILENCE_S / 2
    watch.start()
    with pytest.raises(NotAnswered):
        watch.pause_s(Ended(AWAY))
