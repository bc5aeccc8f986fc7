"""Request ids: the outcome that was recorded is the outcome that is found."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from stores import BEN, GOLD, NO_KEYS, NOTHING, NOW, ORG, OTHER_ORG, Store, record

from points_grpc import codes
from points_grpc.domain.model import OrgConfig
from points_grpc.domain.outcome import Accepted, DoneResult, PurchaseResult, Refused, TransferResult
from points_grpc.domain.snapshot import Changes, Snapshot
from points_grpc.service.ports import StorageConflict

ACCEPTED = record("r-1", Accepted(PurchaseResult(5), (), None), operation="RecordPurchase")
REFUSED = record("R-1", Refused(codes.TRANSFER_CUSTOMER_NOT_FOUND, {"party": "SOURCE"}), operation="TransferPoints")
TRANSFER = record(
    "!~", Accepted(TransferResult(9, 1, BEN, GOLD, 5, NOW, "", (), ()), (), 9), operation="TransferPoints"
)


def test_outcomes_are_recorded(store: Store) -> None:
    """Acceptances and refusals, found by their ids, which are case-sensitive."""
    store.apply(records=[ACCEPTED, REFUSED, TRANSFER], keys=NO_KEYS)

    assert store.recorded({"r-1", "R-1", "!~", "none"}) == {"r-1": ACCEPTED, "R-1": REFUSED, "!~": TRANSFER}
    assert store.recorded(()) == {}
    assert store.queries.request(ORG, "r-1") == ACCEPTED
    assert store.queries.request(ORG, "none") is None


def test_another_organisation_has_ids_of_its_own(store: Store) -> None:
    """It neither finds them nor is kept from using them."""
    store.apply(records=[ACCEPTED], keys=NO_KEYS)
    own = record("r-1", Accepted(DoneResult()))
    store.apply(records=[own], keys=NO_KEYS, org_id=OTHER_ORG)

    assert store.recorded({"r-1"}, org_id=OTHER_ORG) == {"r-1": own}
    assert store.recorded({"r-1"}) == {"r-1": ACCEPTED}
    assert store.queries.request(OTHER_ORG, "!~") is None


def test_an_id_is_recorded_once(store: Store) -> None:
    """A second outcome is a conflict, and the first stays."""
    store.apply(records=[ACCEPTED], keys=NO_KEYS)

    with pytest.raises(StorageConflict):
        store.apply(records=[record("r-1", Accepted(DoneResult()))], keys=NO_KEYS)
    assert store.recorded({"r-1"}) == {"r-1": ACCEPTED}


def test_a_refusal_has_no_transaction(store: Store) -> None:
    """The database says so too."""
    store.apply(records=[REFUSED], keys=NO_KEYS)

    with store.connection() as connection, pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        connection.execute("UPDATE requests SET transaction_id = 5")


def test_what_was_not_committed_is_not_recorded(store: Store) -> None:
    """Leaving the session without a commit takes everything back."""
    with store.repository.write(ORG) as session:
        session.apply(Changes({}, {}), [ACCEPTED], [])
        assert session.recorded({"r-1"}) == {"r-1": ACCEPTED}

    assert store.recorded({"r-1"}) == {}


def test_records_cost_one_statement(store: Store) -> None:
    """However many."""
    store.statements.clear()
    with store.repository.write(ORG) as session:
        loaded = session.load(NO_KEYS, session.book(), NOTHING, {})
        many = [record(f"m-{n}", Accepted(DoneResult())) for n in range(300)]
        session.recorded([one.request_id for one in many])
        session.apply(Snapshot(loaded, OrgConfig({})).changes, many, [])
        session.commit()

    assert len([text for text in store.statements if "requests" in text]) == 2
