"""Warning 900: earlier messages of a party wait, and the oldest of them failed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from points_grpc import codes
from points_grpc.domain.commands import Command, IssueTransferOtp, SetCustomerStatus
from points_grpc.domain.model import Channel, Message, OtpAction, StatusLabel
from points_grpc.domain.outcome import Accepted, Warning
from worlds import ANN, BEN, NOW, World, by_id, issue, metals, redeem, transfer


def message(message_id: int, customer_id: int = ANN, action: OtpAction = OtpAction.REDEMPTION) -> Message:
    """A message on its way."""
    return Message(
        message_id, customer_id, action, message_id, Channel.MOBILE, "+1", "1", NOW, NOW + timedelta(minutes=5)
    )


def world(*messages: Message, attempts: dict[int, tuple[int, str]]) -> World:
    """Ann and Ben with points, and messages on their way."""
    found = metals()
    found.give(1)
    found.outbox = list(messages)
    found.attempts = attempts
    return found


def pending(queue_size: int, event: str = "REDEMPTION_OTP") -> Warning:
    """The warning for a party."""
    metadata = {"queue_size": str(queue_size), "failed_event": event, "failure_reason": "Timeout", "status_code": "0"}
    return Warning(codes.PENDING_EVENTS, metadata)


def warnings(at: World, command: Command) -> tuple[Warning, ...]:
    """The warnings of a command that is accepted."""
    outcome = at.decide(command)

    assert isinstance(outcome, Accepted), outcome
    return tuple(one for one in outcome.warnings if one.code is codes.PENDING_EVENTS)


@pytest.mark.parametrize(
    "command",
    [transfer(10), redeem(10), issue(10), SetCustomerStatus(by_id(ANN), None, StatusLabel.ACTIVE, "test")],
    ids=lambda command: type(command).__name__,
)
def test_oldest_message_failed(command: Command) -> None:
    """A write on a customer whose oldest message failed says how many wait, and what failed of what."""
    at = world(message(1), message(2), attempts={1: (2, "Timeout")})

    assert (pending(2),) == warnings(at, command)


def test_each_party_has_a_warning() -> None:
    """Of a transfer each party is judged for itself."""
    at = world(message(1), message(2, BEN, OtpAction.TRANSFER), attempts={1: (1, "Timeout"), 2: (1, "Timeout")})

    assert (pending(1), pending(1, "TRANSFER_OTP")) == warnings(at, transfer(10))


def test_messages_that_only_wait() -> None:
    """Messages that were not tried yet, or of which a later one failed, are no cause for a warning."""
    at = world(message(1), message(2), attempts={2: (1, "Timeout")})

    assert () == warnings(at, transfer(10))


def test_own_messages_do_not_count() -> None:
    """A code that the command itself sends is not among those that wait, nor is what it replaces."""
    redemption, code = message(1), message(2, action=OtpAction.TRANSFER)
    at = world(redemption, code, attempts={1: (1, "Timeout")})

    assert (pending(1),) == warnings(at, IssueTransferOtp(transfer(10)))


def test_refusals_carry_none() -> None:
    """Where nothing was done there is no side action to warn of."""
    at = world(message(1), attempts={1: (1, "Timeout")})

    assert () == at.refuse(transfer(1000)).warnings
