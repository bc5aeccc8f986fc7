"""The outbox: messages enter with their code sealed, wait their turn, and lose the code when they are settled."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace
from stores import ANN, BEN, NO_KEYS, NOW, ORG, OTHER_ORG, Store, message, sealed

from points_grpc.domain import events as ev
from points_grpc.domain.model import Channel, Message, OtpAction


def queue(store: Store, *messages: Message) -> None:
    """Queues messages as one batch."""
    store.apply([ev.MessageQueued(one) for one in messages], sealed=[sealed(one) for one in messages], keys=NO_KEYS)


def due(store: Store, **later: float) -> list[int]:
    """The ids of the messages that are due."""
    return [one.message_id for one in store.repository.due_messages(NOW + timedelta(**later), 100)]


def state_of(store: Store, message_id: int) -> tuple[object, ...]:
    """State, attempts, error and sealed code."""
    [row] = store.rows("SELECT state, attempts, last_error, sealed FROM outbox WHERE message_id = ?", message_id)
    return tuple(row)


def settle(store: Store, message_id: int, *, delivered: bool, **given: object) -> None:
    """Books what became of a message."""
    values = {"error": "", "retry_at": None} | given
    store.apply([ev.MessageSettled(message_id, ANN, delivered, **values)], keys=NO_KEYS)  # type: ignore[arg-type]


def test_a_message_is_kept_as_it_was_sealed(store: Store) -> None:
    """The code in the clear reaches no column."""
    one = message(1)
    queue(store, one)

    assert list(store.repository.due_messages(NOW, 10)) == [sealed(one)]
    assert state_of(store, 1) == ("QUEUED", 0, "", b"sealed 123456")
    assert (1, one.otp_id) == store.rows("SELECT action, otp_id FROM outbox")[0]


def test_a_message_comes_with_the_locale_of_its_customer(store: Store) -> None:
    """That of today, not of the day on which the message was queued."""
    queue(store, message(1))
    store.on.change("UPDATE customers SET locale = 'pt-BR' WHERE org_id = ? AND customer_id = ?", ORG, ANN)

    assert ["pt-BR"] == [one.locale for one in store.repository.due_messages(NOW, 10)]


def test_messages_of_one_customer_and_target_go_in_order(store: Store) -> None:
    """The second waits for the first, even while that one waits for another try; other targets do not wait."""
    queue(store, message(1), message(2), message(3, channel=Channel.EMAIL, target="ann@example.org"))
    queue(store, message(4, customer_id=BEN, target="+15550000012"))

    assert due(store) == [1, 3, 4]
    settle(store, 1, delivered=False, error="busy", retry_at=NOW + timedelta(seconds=30))
    assert due(store) == [3, 4]
    assert due(store, seconds=30) == [3, 4, 1]
    settle(store, 1, delivered=True)
    assert due(store) == [2, 3, 4]


def test_an_expired_message_holds_nobody_back(store: Store) -> None:
    """The next one goes out while the expired one still waits for another try."""
    queue(store, message(1, expires_at=NOW + timedelta(seconds=10)), message(2))
    settle(store, 1, delivered=False, error="busy", retry_at=NOW + timedelta(seconds=60))

    assert due(store, seconds=9) == []
    assert due(store, seconds=10) == [2]
    assert due(store, seconds=60) == [2, 1]


def test_messages_of_all_organisations_are_due(store: Store) -> None:
    """The same target in another organisation is another destination."""
    queue(store, message(1))
    other = message(2)
    store.apply([ev.MessageQueued(other)], sealed=[sealed(other)], keys=NO_KEYS, org_id=OTHER_ORG)

    assert [(one.org_id, one.message_id) for one in store.repository.due_messages(NOW, 9)] == [(ORG, 1), (OTHER_ORG, 2)]
    assert len(store.repository.due_messages(NOW, 1)) == 1


def test_organisations_share_what_is_sent_at_once(store: Store) -> None:
    """Whoever has much to send keeps nobody else waiting for all of it; whose oldest waits longest comes first."""
    later = NOW + timedelta(seconds=1)
    queue(store, *(message(number, target=f"t{number}", created_at=NOW) for number in range(1, 40)))
    others = [message(number, target=f"t{number}", created_at=later) for number in (41, 42, 43)]
    queued = [ev.MessageQueued(one) for one in others]
    store.apply(queued, sealed=[sealed(one) for one in others], keys=NO_KEYS, org_id=OTHER_ORG)

    def handed_out(limit: int) -> list[int]:
        return [one.message_id for one in store.repository.due_messages(later, limit)]

    assert [1, 2, 41, 42] == handed_out(4)
    assert [1] == handed_out(1)
    settle(store, 1, delivered=False, error="busy", retry_at=later + timedelta(seconds=1))
    assert 2 == handed_out(1)[0]


def test_a_settled_message_loses_its_code(store: Store) -> None:
    """Delivered or failed for good."""
    queue(store, message(1), message(2, target="b"))
    settle(store, 1, delivered=True)
    settle(store, 2, delivered=False, error="no such number")

    assert state_of(store, 1) == ("DELIVERED", 1, "", None)
    assert state_of(store, 2) == ("DEAD", 1, "no such number", None)
    assert due(store, days=1) == []


def test_a_message_tried_again_keeps_its_code(store: Store) -> None:
    """Attempts are counted."""
    queue(store, message(1))
    for attempt in (1, 2):
        settle(store, 1, delivered=False, error="busy", retry_at=NOW + timedelta(seconds=attempt))

    assert state_of(store, 1) == ("QUEUED", 2, "busy", b"sealed 123456")
    assert due(store, seconds=1) == []
    assert [one.attempts for one in store.repository.due_messages(NOW + timedelta(seconds=2), 9)] == [2]


def test_a_newer_code_cancels_older_messages(store: Store) -> None:
    """Of the same customer and action, and only those that wait."""
    queue(store, message(1), message(2, action=OtpAction.REDEMPTION), message(3, customer_id=BEN), message(4))
    settle(store, 1, delivered=True)
    store.apply([ev.MessagesCancelled(ANN, OtpAction.TRANSFER)], keys=NO_KEYS)

    assert state_of(store, 1)[0] == "DELIVERED"
    assert state_of(store, 2)[0] == "QUEUED"
    assert state_of(store, 3)[0] == "QUEUED"
    assert state_of(store, 4) == ("CANCELLED", 0, "", None)


def test_messages_cancelled_within_a_batch_are_never_sent(store: Store) -> None:
    """Two codes for one customer in one batch: the second alone is sent, the first left its code nowhere."""
    first, second = message(1), message(2)
    store.apply(
        [
            ev.MessagesCancelled(ANN, OtpAction.TRANSFER),
            ev.MessageQueued(first),
            ev.MessagesCancelled(ANN, OtpAction.TRANSFER),
            ev.MessageQueued(second),
        ],
        sealed=[sealed(first), sealed(second)],
        keys=NO_KEYS,
    )

    assert due(store) == [2]
    assert state_of(store, 1) == ("CANCELLED", 0, "", None)


def test_what_happens_to_messages_happens_in_order(store: Store) -> None:
    """Delivered before it was replaced stays delivered; settled after it was cancelled stays cancelled."""
    queue(store, message(1), message(2, action=OtpAction.REDEMPTION))
    third = message(3)
    store.apply(
        [
            ev.MessageSettled(1, ANN, True, "", None),
            ev.MessagesCancelled(ANN, OtpAction.TRANSFER),
            ev.MessagesCancelled(ANN, OtpAction.REDEMPTION),
            ev.MessageSettled(2, ANN, True, "", None),
            ev.MessageQueued(third),
            ev.MessageSettled(3, ANN, False, "busy", NOW + timedelta(seconds=9)),
        ],
        sealed=[sealed(third)],
        keys=NO_KEYS,
    )

    assert state_of(store, 1)[0] == "DELIVERED"
    assert state_of(store, 2) == ("CANCELLED", 0, "", None)
    assert state_of(store, 3) == ("QUEUED", 1, "busy", b"sealed 123456")


def test_messages_of_many_customers_cost_a_statement_a_step(store: Store) -> None:
    """Each customer's old message is cancelled before the new one is queued, all of them at once; so are the flags."""
    messages = [message(number, customer_id=number) for number in range(1, 50)]
    events: list[ev.Event] = []
    for one in messages:
        events += [ev.MessagesCancelled(one.customer_id, one.action), ev.MessageQueued(one)]
    store.statements.clear()
    store.apply(events, sealed=[sealed(one) for one in messages], keys=NO_KEYS)

    assert len([text for text in store.statements if "outbox" in text]) == 3


def test_a_late_acknowledgement_changes_nothing(store: Store) -> None:
    """The message was cancelled, or settled before."""
    queue(store, message(1))
    store.apply([ev.MessagesCancelled(ANN, OtpAction.TRANSFER)], keys=NO_KEYS)
    settle(store, 1, delivered=True)
    settle(store, 1, delivered=False, error="busy", retry_at=NOW)

    assert state_of(store, 1) == ("CANCELLED", 0, "", None)


def test_an_expired_message_is_handed_out_to_be_settled(store: Store) -> None:
    """The dispatcher sees its expiry and gives it up."""
    one = replace(message(1), expires_at=NOW - timedelta(seconds=1))
    queue(store, one)

    assert due(store) == [1]
