"""Every code of the catalogue, and every alternative within its trigger, as an answer of the running service.

The rows are data (conformance_*.py). A row that the catalogue has and the table lacks fails here, and so do two rows
that do and ask the same. The texts compared with are the documented ones, not those of the service.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import grpc
import pytest
from conformance_expect import asked, compare, compare_acceptance, raw_of, refusal, told
from conformance_failures import ROWS as FAILURE_ROWS
from conformance_player import METHODS, Play
from conformance_rows import ROWS
from conformance_table import Row

from points_grpc.codes import BY_REASON, CATALOGUE, Table
from running import Details

NEVER_RECORDED = {412, 888, 899}
CHECKS = {"TransferPoints": "CheckTransfer", "RedeemPoints": "CheckRedemption"}
CODE_ISSUES = {"TransferPoints": "IssueTransferOtp", "RedeemPoints": "IssueRedemptionOtp"}
PROOF = {
    "INVALID_VALIDATION_CODE",
    "MISSED_CALL_NOT_FOUND",
    "MISSED_CALL_DISABLED",
    "MOBILE_VALIDATION_REQUIRED",
    "OTP_ATTEMPT_LIMIT",
}


@pytest.mark.parametrize("row", [one for one in ROWS if one.grpc != "OK"], ids=lambda row: row.name)
def test_refusal(row: Row, plays: Callable[[Row], Play]) -> None:
    """The row's request is refused with its code, text, field and numbers, and recorded as the contract says."""
    play = plays(row)
    play.do(row.setup)
    raw = raw_of(row, play)
    as_checks = checks_of(row, play)
    if row.caller == "signed twice":
        assert "TRANSFER_INVALID_PROGRAM_ID" == refusal(play, row, raw).info.reason
    found = refusal(play, row, raw)
    metadata = compare(row, play, raw, found)
    for check in as_checks:
        assert (row.grpc, row.reason, row.number) == (check.code.name, check.info.reason, check.payload.errors[0].code)
        assert (metadata, found.message, row.field) == (told(check), check.message, check.payload.errors[0].field)
    is_recorded(row, play, found, raw)


def checks_of(row: Row, play: Play) -> list[Details]:
    """What the check, the issue of a code and the hold say to the same: they judge as the deed, the proof apart."""
    rpcs = [CHECKS[row.rpc], CODE_ISSUES[row.rpc]] if row.rpc in CHECKS else []
    rpcs += ["AuthorizeRedemption"] if row.rpc == "RedeemPoints" else []
    if (
        row.caller != "admin"
        or row.raw is not None
        or row.headers
        or row.reason in PROOF
        or "request_id" in row.request
    ):
        return []
    if row.reason == "CUSTOMER_FRAUD":
        rpcs.remove("IssueRedemptionOtp")  # 820 is the issue's own
    found = []
    for rpc in rpcs:
        if set(row.request) <= set(METHODS[rpc][1].DESCRIPTOR.fields_by_name):
            try:
                play.ask(rpc, row.request)
            except grpc.RpcError as error:
                found.append(Details(error))
            else:
                raise AssertionError(f"{rpc} accepts what {row.rpc} refuses")
    return found


def is_recorded(row: Row, play: Play, found: Details, raw: bytes) -> None:
    """What is final is the outcome of its request id, and given again; what may pass is not."""
    if asked(row).get("request_id") != "conformance":
        return
    recorded = (
        (row.grpc == "FAILED_PRECONDITION" and row.number not in NEVER_RECORDED)
        or row.grpc == "NOT_FOUND"
        or found.info.metadata.get("cause") == "DUPLICATE_WINDOW"
        or row.reason == "TRANSFER_LIMIT_EXCEEDED"
    )
    kept = play.ask("GetTransaction", {"request_id": "conformance"})

    assert (row.reason if recorded else "") == kept.refusal.reason
    if recorded:
        again = refusal(play, row, raw)
        assert (found.code, told(found), "true") == (again.code, told(again), again.info.metadata["replayed"])


@pytest.mark.parametrize("row", [one for one in ROWS if one.grpc == "OK"], ids=lambda row: row.name)
def test_acceptance(row: Row, plays: Callable[[Row], Play]) -> None:
    """The row's request is accepted with its outcome, or with its warning in the answer and in the trailers."""
    play = plays(row)
    play.do(row.setup)
    compare_acceptance(row, play)


# -- the table itself


def test_every_code_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Each code of the catalogue stands in the table."""
    covered = {row.reason for row in (*ROWS, *FAILURE_ROWS)}
    reasons = {code.reason for code in CATALOGUE}
    with capsys.disabled():
        counts = Counter(BY_REASON[reason].table is Table.SERVICE for reason in covered)
        print(
            f"\nconformance: {counts[False]} of 87 documented codes, {counts[True]} of ours, "
            f"{len(ROWS) + len(FAILURE_ROWS)} rows"
        )

    assert reasons == covered


# Where a row's alternative has no such figure: the reason, what the row says of itself, and the key that it lacks.
WITHOUT = {
    "INVALID_POINTS_CATEGORY": ("category", {"UNKNOWN_CATEGORY", "NO_GROUP", "POOLING_OFF"}),  # input is not echoed
    "TRANSFER_DUPLICATE_REQUEST": ("fields", {"DUPLICATE_WINDOW"}),
    "REVERSAL_DISABLED": ("index", {""}),  # of an explicit reversal, which has no items
}

# Where the operations of a code have figures of their own: what each lacks.
OF_OTHERS = {
    ("WATCH_POSITION_LOST", "WatchWallet"): {"stream", "position", "head"},
    ("WATCH_POSITION_LOST", "WatchTransactions"): {"stream", "position", "head"},
    ("WATCH_POSITION_LOST", "ExportJournal"): {"oldest"},
}


def test_rows_have_the_numbers_behind_them() -> None:
    """Each row expects every metadata key of its code, unless its alternative has no such thing."""
    for row in (*ROWS, *FAILURE_ROWS):
        lacking = set(BY_REASON[row.reason].metadata_keys) - row.metadata.keys()
        key, causes = WITHOUT.get(row.reason, ("", set()))
        excused = {key} if row.metadata.get("cause", "") in causes else set()

        assert set() == lacking - excused - OF_OTHERS.get((row.reason, row.rpc), set()), row.name


def test_rows_differ() -> None:
    """No two rows have the same name, or do and ask the same."""
    rows = (*ROWS, *FAILURE_ROWS)

    assert [] == [name for name, count in Counter(row.name for row in rows).items() if count > 1]
    played = Counter(row.played for row in rows)
    # A warning that travels in a refusal is the refusal's own request; anything else must differ.
    assert [] == [row.name for row in rows if played[row.played] > 1]


def test_rows_say_what_the_catalogue_says() -> None:
    """Number, gRPC code and metadata keys of each row are those of the catalogue, written down a second time."""
    for row in (*ROWS, *FAILURE_ROWS):
        code = BY_REASON[row.reason]

        assert (code.number, code.grpc.name) == (row.number, row.grpc), row.name
        assert set(row.metadata) <= set(code.metadata_keys), row.name
