"""Names become customers: each kind of identifier, exactly as it is stored, in one statement per kind."""

from __future__ import annotations

import pytest
from stores import ANN, BEN, CID, NO_KEYS, NOTHING, ORG, Store, by_id, customer, next_id

from points_grpc.domain import events as ev
from points_grpc.domain.model import Identifier, IdentifierType
from points_grpc.domain.snapshot import Keys, Lookups

MOBILE = Identifier(IdentifierType.MOBILE, f"+1555{ANN:07d}")
EMAIL = Identifier(IdentifierType.EMAIL, "ben@example.org")
EXTERNAL = Identifier(IdentifierType.EXTERNAL_ID, f"X-{CID}")


def test_every_kind_of_identifier_is_found(store: Store) -> None:
    """And what nobody has is absent."""
    unknown = Identifier(IdentifierType.MOBILE, "+15559999999")
    found = store.resolve(Lookups(identifiers=(MOBILE, EMAIL, EXTERNAL, by_id(BEN), by_id(99), unknown)))

    assert found.customers == {MOBILE: ANN, EMAIL: BEN, EXTERNAL: CID, by_id(BEN): BEN}


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1.5", "٣", "9" * 19, "9" * 40, str(2**63)])
def test_what_is_no_id_names_nobody(store: Store, text: str) -> None:
    """Nothing that a column could not hold reaches the database."""
    found = store.resolve(Lookups(identifiers=(Identifier(IdentifierType.ID, text),)))

    assert found.customers == {}


@pytest.mark.parametrize("text", ["x' OR 1=1 --", '"],["', "\U0001f600", "e\u0301", "'", "\\", "%", "null"])
def test_hostile_texts_are_data(store: Store, text: str) -> None:
    """They are stored and found as they are, and find nothing else."""
    new_id = next_id()
    odd = customer(new_id, "Odd", mobile=None, email=None, external_id=text)
    store.apply([ev.CustomerSaved(odd, created=True)], keys=NO_KEYS)
    named = Identifier(IdentifierType.EXTERNAL_ID, text)

    assert store.resolve(Lookups(identifiers=(named,))).customers == {named: new_id}
    assert store.load(Keys(customers=frozenset({new_id}))).customers[new_id] == odd


def test_a_text_with_nul_names_nobody(store: Store) -> None:
    """No engine could keep it, and it is never cut short to somebody's name."""
    cut = Identifier(IdentifierType.EXTERNAL_ID, f"X-{ANN}\x00")

    assert store.resolve(Lookups(identifiers=(cut, by_id(BEN)), external_references=("\x00",))).customers == {
        by_id(BEN): BEN
    }


def test_identifiers_are_compared_verbatim(store: Store) -> None:
    """Upper and lower case differ; normalising is done before."""
    shout = Identifier(IdentifierType.EXTERNAL_ID, EXTERNAL.value.lower())

    assert store.resolve(Lookups(identifiers=(shout,))).customers == {}


def test_resolving_costs_one_statement_a_kind(store: Store) -> None:
    """However many names, and a kind that nobody named costs none."""
    many = tuple(Identifier(IdentifierType.MOBILE, f"+1555{n:07d}") for n in range(500))
    store.statements.clear()
    with store.repository.read(ORG) as session:
        session.resolve(Lookups(identifiers=(*many, EMAIL)))

    assert len([text for text in store.statements if "FROM customers" in text]) == 2


def test_customers_who_were_resolved_are_not_read_again(store: Store) -> None:
    """Nobody else can have changed them within the transaction."""
    store.statements.clear()
    with store.repository.read(ORG) as session:
        directory = session.resolve(Lookups(identifiers=(MOBILE, EMAIL)))
        loaded = session.load(Keys(customers=frozenset({ANN, BEN})), session.book(), directory, {})

    assert set(loaded.customers) == {ANN, BEN}
    assert len([text for text in store.statements if "FROM customers" in text]) == 2


def test_declared_ids_that_nobody_has_are_absent(store: Store) -> None:
    """A free id is not an error."""
    with store.repository.read(ORG) as session:
        loaded = session.load(Keys(customers=frozenset({ANN, 4711})), session.book(), NOTHING, {})

    assert set(loaded.customers) == {ANN}


def test_parties_are_the_names_of_today(store: Store) -> None:
    """In a write session and in a read."""
    with store.repository.write(ORG) as session:
        inside = session.parties({ANN, 4711})
    outside = store.queries.parties(ORG, {ANN, 4711})

    assert inside == outside
    assert {ANN} == set(inside)
    assert (inside[ANN].first_name, inside[ANN].external_id) == ("Ann", f"X-{ANN}")
