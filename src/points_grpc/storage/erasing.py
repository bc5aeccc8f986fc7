"""Erasure in the store: what says who customers were is taken out of every table, in the transaction of the batch.

Rules of this file: the journal's chain, its numbers and the keyed hashes of requests stay; texts by which somebody may
be known go, those of transactions with others too, whoever wrote them; what is recorded of a request is answered again
as it was, blanked. It runs before the batch is written, so that the erasure's own reason, which is about nobody, stays.
Customers' rows come with the batch. docs/people.md has the table of what is kept where: a new text belongs there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Table, bindparam, delete, literal_column, select, update

from points_grpc.domain.erasure import blanked
from points_grpc.domain.events import CustomersErased, Event
from points_grpc.domain.outcome import Accepted, ReturnResult
from points_grpc.storage.codec import decode_outcome, encode_outcome
from points_grpc.storage.driver import Driver, Row, Value
from points_grpc.storage.key_lists import among
from points_grpc.storage.schema import (
    audit_events,
    missed_calls,
    otp_counters,
    otps,
    outbox,
    postings,
    requests,
    returns,
    transactions,
)
from points_grpc.storage.statements import compiled


def erased_in(events: Iterable[Event]) -> tuple[int, ...]:
    """The customers whom a batch erases; mostly nobody."""
    return tuple(one for event in events if isinstance(event, CustomersErased) for one in event.customer_ids)


def erase(driver: Driver, org_id: int, customer_ids: Sequence[int]) -> None:
    """Takes out what says who the customers were, their rows apart."""
    ids = driver.bind_values(customer_ids)
    _blank_answers(driver, org_id, driver.query(_PERSONAL_ANSWERS, (org_id, ids)))
    _erase_notes(driver, org_id, ids)
    driver.change(_ERASE_CALLS, (org_id, ids))
    driver.change(_ERASE_CODES, (org_id, ids))
    driver.change(_ERASE_COUNTERS, (org_id, ids))
    driver.change(_CANCEL_QUEUED, (None, org_id, ids))
    driver.change(_ERASE_TARGETS, ("", "", org_id, ids))
    subjects = driver.bind_values([f"customer/{one}" for one in customer_ids])
    driver.change(_ERASE_REASONS, ("", org_id, subjects))


def _erase_notes(driver: Driver, org_id: int, ids: Value) -> None:
    """Those of all that customers had a part in. A return gives its text to each of its reversals, whoever it is of."""
    noted: dict[int, str] = dict(driver.query(_NOTED_TRANSACTIONS, (org_id, org_id, ids)))
    noted |= dict(driver.query(_NOTED_REVERSALS, (org_id, ids)))
    returned = {request_id for (request_id,) in driver.query(_NOTED_RETURNS, (org_id, ids))}
    if not noted and not returned:
        return
    request_ids = driver.bind_values(sorted({*filter(None, noted.values()), *returned}))
    with_returns = _blank_answers(driver, org_id, driver.query(_ANSWERS, (org_id, request_ids)))
    driver.change(_ERASE_NOTES, ("", None, org_id, driver.bind_values(sorted({*noted, *with_returns}))))
    driver.change(_ERASE_NOTES_OF_RETURNS, ("", org_id, request_ids))


def _blank_answers(driver: Driver, org_id: int, recorded: Sequence[Row]) -> Sequence[int]:
    """Blanks recorded answers, and tells the reversals that came with the returns among them."""
    changed: list[tuple[Value, ...]] = []
    reversals: list[int] = []
    for request_id, operation, text in recorded:
        outcome = decode_outcome(text, operation=operation, accepted=True)
        assert isinstance(outcome, Accepted), "only acceptances are asked for"
        again = encode_outcome(Accepted(blanked(outcome.result), outcome.warnings, outcome.transaction_id))
        changed.append((again, org_id, request_id))
        if isinstance(outcome.result, ReturnResult):
            reversals += [share.transaction_id for share in outcome.result.shares if share.transaction_id]
    if changed:
        driver.put(_BLANK_ANSWER, changed)
    return reversals


# -- the statements ----------------------------------------------------------------------------------------------------


def _of(table: Table, column: str = "customer_id") -> tuple[ColumnElement[bool], ...]:
    return table.c.org_id == bindparam("of_org"), among(table.c[column], "ids")


_NOTED_TRANSACTIONS = compiled(
    select(transactions.c.transaction_id, transactions.c.request_id).where(
        transactions.c.org_id == bindparam("of_org"),
        transactions.c.transaction_id.in_(
            select(postings.c.transaction_id).where(
                postings.c.org_id == bindparam("org_again"),
                among(postings.c.customer_id, "ids"),
                postings.c.customer_id.is_not(None),
            )
        ),
        transactions.c.notes != literal_column("''"),
    ),
    "of_org",
    "org_again",
    "ids",
)
"""Transactions with notes that moved points of customers, with the requests that asked for them."""

_NOTED_REVERSALS = compiled(
    select(transactions.c.transaction_id, transactions.c.request_id).where(
        *_of(transactions),
        transactions.c.kind == literal_column("4"),
        transactions.c.notes != literal_column("''"),
    ),
    "of_org",
    "ids",
)
"""Reversals with notes. One whose points had all expired moves points of nobody, and is found here alone."""

_NOTED_RETURNS = compiled(
    select(returns.c.request_id).where(*_of(returns), returns.c.notes != literal_column("''")),
    "of_org",
    "ids",
)

_ANSWER = (requests.c.request_id, requests.c.operation, requests.c.outcome)

_PERSONAL_ANSWERS = compiled(
    select(*_ANSWER).where(
        requests.c.org_id == bindparam("of_org"),
        among(requests.c.customer_id, "ids"),
        requests.c.customer_id.is_not(None),
    ),
    "of_org",
    "ids",
)

_ANSWERS = compiled(
    select(*_ANSWER).where(
        requests.c.org_id == bindparam("of_org"),
        among(requests.c.request_id, "ids"),
        requests.c.accepted == literal_column("1"),
    ),
    "of_org",
    "ids",
)

_BLANK_ANSWER = compiled(
    update(requests)
    .where(requests.c.org_id == bindparam("of_org"), requests.c.request_id == bindparam("of_request"))
    .values(outcome=bindparam("new_outcome")),
    "new_outcome",
    "of_org",
    "of_request",
)

_ERASE_NOTES = compiled(
    update(transactions)
    .where(*_of(transactions, "transaction_id"))
    .values(notes=bindparam("new_notes"), notes_salt=bindparam("no_salt")),
    "new_notes",
    "no_salt",
    "of_org",
    "ids",
)
"""As docs/journal.md says: the hash stays in the chain, and without the salt says nothing."""

_ERASE_NOTES_OF_RETURNS = compiled(
    update(returns)
    .where(*_of(returns, "request_id"), returns.c.notes != literal_column("''"))
    .values(notes=bindparam("new_notes")),
    "new_notes",
    "of_org",
    "ids",
)

_ERASE_CALLS, _ERASE_CODES, _ERASE_COUNTERS = (
    compiled(delete(table).where(*_of(table)), "of_org", "ids") for table in (missed_calls, otps, otp_counters)
)

_QUEUED = outbox.c.state == literal_column("'QUEUED'")
_SETTLED = outbox.c.state != literal_column("'QUEUED'")

_CANCEL_QUEUED = compiled(
    update(outbox)
    .where(*_of(outbox), _QUEUED)
    .values(sealed=bindparam("no_code"), state=literal_column("'CANCELLED'")),
    "no_code",
    "of_org",
    "ids",
)

_ERASE_TARGETS = compiled(
    update(outbox)
    .where(*_of(outbox), _SETTLED)
    .values(target=bindparam("no_target"), last_error=bindparam("no_error")),
    "no_target",
    "no_error",
    "of_org",
    "ids",
)
"""After `_CANCEL_QUEUED`, of all messages."""

_ERASE_REASONS = compiled(
    update(audit_events)
    .where(audit_events.c.org_id == bindparam("of_org"), among(audit_events.c.subject, "subjects"))
    .values(reason=bindparam("no_reason")),
    "no_reason",
    "of_org",
    "subjects",
)
"""What people wrote about a customer. Who did what and when stays, and so do numbers and statuses."""
