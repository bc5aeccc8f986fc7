"""What became of messages, as operators see it: counts and lists, without anything that a message says or where to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from click.testing import CliRunner
from stores import ANN, BEN, NO_KEYS, NOW, ORG, OTHER_ORG, Store, sealed
from stores import message as any_message

from points_grpc.cli.main import main
from points_grpc.domain import events as ev
from points_grpc.domain.model import Channel, Message, OtpAction
from points_grpc.storage.deliveries import Deliveries, Delivery, deliveries, deliveries_to

CODE = "QUAGGA"


def message(message_id: int, **given: object) -> Message:
    """A message with a code that is like nothing else."""
    return any_message(message_id, secret=CODE, **given)


def furnish(store: Store) -> None:
    """Ann: one replaced, one delivered, one that failed and waits. Ben: one given up, by e-mail. One of another day."""
    long_ago = NOW - timedelta(days=30)
    messages = [
        message(1),
        message(2, action=OtpAction.REDEMPTION, target="b"),
        message(3, customer_id=BEN, channel=Channel.EMAIL, target="ben@example.org"),
        message(4, customer_id=BEN, created_at=long_ago, target="c"),
        message(5, customer_id=BEN, created_at=long_ago, target="d"),
    ]
    queued: list[ev.Event] = [ev.MessageQueued(one) for one in messages]
    store.apply(queued, sealed=[sealed(one) for one in messages], keys=NO_KEYS)
    replacement = message(6)
    store.apply(
        [ev.MessagesCancelled(ANN, OtpAction.TRANSFER), ev.MessageQueued(replacement)],
        sealed=[sealed(replacement)],
        keys=NO_KEYS,
    )
    store.apply(
        [
            ev.MessageSettled(2, ANN, True, "", None),
            ev.MessageSettled(3, BEN, False, "SMTP_RECIPIENT_550", None),
            ev.MessageSettled(4, BEN, True, "", None),
            ev.MessageSettled(6, ANN, False, "TIMEOUT", NOW + timedelta(seconds=9)),
        ],
        keys=NO_KEYS,
    )
    other = message(7)
    store.apply([ev.MessageQueued(other)], sealed=[sealed(other)], keys=NO_KEYS, org_id=OTHER_ORG)


def test_messages_are_counted_by_channel_and_state(store: Store) -> None:
    """Those of the time asked for, and all that wait, however old."""
    furnish(store)
    since = NOW - timedelta(days=1)
    expected = [
        Deliveries(ORG, "EMAIL", 0, 0, 0, 0, 1, None),
        Deliveries(ORG, "MOBILE", 2, 1, 1, 1, 0, NOW - timedelta(days=30)),
        Deliveries(OTHER_ORG, "MOBILE", 1, 0, 0, 0, 0, NOW),
    ]

    assert expected == deliveries(store.database, since)
    assert expected[2:] == deliveries(store.database, since, org_id=OTHER_ORG)


def test_messages_of_a_customer_are_listed_newest_first(store: Store) -> None:
    """Those of another organisation's customer with the same id are not among them."""
    furnish(store)

    assert [
        Delivery(6, "TRANSFER", "MOBILE", "QUEUED", 1, "TIMEOUT", NOW),
        Delivery(2, "REDEMPTION", "MOBILE", "DELIVERED", 1, "", NOW),
        Delivery(1, "TRANSFER", "MOBILE", "CANCELLED", 0, "", NOW),
    ] == deliveries_to(store.database, ORG, ANN)
    assert [6] == [one.message_id for one in deliveries_to(store.database, ORG, ANN, limit=1)]


def printed(store: Store, *arguments: str) -> str:
    """What a command prints."""
    result = CliRunner().invoke(main, ["outbox", *arguments, "--database", store.on.url])
    assert 0 == result.exit_code, result.output
    return result.output


def test_commands_print_what_happened_and_to_nobody(store: Store) -> None:
    """Tables for people, JSON for programs; neither has a code or where it went."""
    furnish(store)
    hours = str(24 + (datetime.now(UTC) - NOW) // timedelta(hours=1))
    counts, shown = printed(store, "list", "--hours", hours), printed(store, "show", "--org", str(ORG), str(BEN))
    as_json = json.loads(printed(store, "list", "--org", str(ORG), "--hours", hours, "--json"))

    assert ["1", "EMAIL", "0", "0", "0", "0", "1", "-"] == counts.splitlines()[1].split()
    assert "SMTP_RECIPIENT_550" in shown
    assert ["EMAIL", "MOBILE"] == [one["channel"] for one in as_json["channels"]]
    for text in (counts, shown, json.dumps(as_json), printed(store, "show", "--org", str(ORG), str(ANN), "--json")):
        assert not [one for one in (CODE, "+1555", "example.org", "sealed") if one in text]
