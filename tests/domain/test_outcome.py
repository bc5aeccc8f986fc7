"""Which outcomes are recorded under their request id, and what a failure of the machinery is answered with."""

from __future__ import annotations

import pytest

from points_grpc import codes
from points_grpc.codes import CATALOGUE, Code, GrpcCode, Table
from points_grpc.domain.failures import TRANSFER_OPERATIONS, Failure, refusal_of
from points_grpc.domain.outcome import Refused

REFUSALS = [code for code in CATALOGUE if code.table in {Table.POINTS, Table.TRANSFER, Table.SERVICE}]
NEVER = {412, 888, 899}


class TestRecorded:
    """Which refusals the contract wants recorded: some statuses, with exceptions, and two codes of transfers."""

    @pytest.mark.parametrize("code", REFUSALS, ids=lambda one: f"{one.table.value}-{one.number}")
    def test_code(self, code: Code) -> None:
        """A refusal is recorded by its gRPC code, but for the exceptions."""
        by_status = code.grpc in {GrpcCode.FAILED_PRECONDITION, GrpcCode.NOT_FOUND} and code.number not in NEVER
        limit = (code.table, code.number) == (Table.TRANSFER, 903)

        assert (by_status or limit) == Refused(code).recorded

    @pytest.mark.parametrize(("cause", "recorded"), [("DUPLICATE_WINDOW", True), ("REQUEST_ID_REUSED", False)])
    def test_duplicates(self, cause: str, recorded: bool) -> None:
        """902 is recorded for the duplicate window, and not for a reused request id."""
        assert recorded == Refused(codes.TRANSFER_DUPLICATE_REQUEST, {"cause": cause}).recorded


class TestFailures:
    """Each failure of the machinery, in the two tables that operations answer from."""

    @pytest.mark.parametrize(
        ("failure", "of_transfer", "of_others"),
        [
            (Failure.STORAGE_UNAVAILABLE, codes.TRANSFER_STORAGE_UNAVAILABLE, codes.STORAGE_UNAVAILABLE),
            (Failure.STORAGE_FULL, codes.STORAGE_FULL, codes.STORAGE_FULL),
            (Failure.CONFLICT, codes.TRANSFER_NOT_PROCESSED, codes.CONFLICT),
            (Failure.OUTCOME_UNKNOWN, codes.TRANSFER_NOT_PROCESSED, codes.OUTCOME_UNKNOWN),
            (Failure.WRITE_FAILED, codes.TRANSFER_PROCESSING_FAILED, codes.INTERNAL_FAILURE),
            (Failure.INTERNAL, codes.TRANSFER_PROCESSING_FAILED, codes.INTERNAL_FAILURE),
            (Failure.OVERLOADED, codes.TRANSFER_UNAVAILABLE, codes.OVERLOADED),
            (Failure.SHUTTING_DOWN, codes.TRANSFER_UNAVAILABLE, codes.SHUTTING_DOWN),
            (Failure.EXPIRED_IN_QUEUE, codes.DEADLINE_EXCEEDED, codes.DEADLINE_EXCEEDED),
            (Failure.EXPIRED_UNKNOWN, codes.DEADLINE_EXCEEDED, codes.DEADLINE_EXCEEDED),
        ],
    )
    def test_code(self, failure: Failure, of_transfer: Code, of_others: Code) -> None:
        """Transfers answer from the transfer table where it has a row, everything else from the points table."""
        found = {operation: refusal_of(failure, operation).code for operation in TRANSFER_OPERATIONS}

        assert dict.fromkeys(TRANSFER_OPERATIONS, of_transfer) == found
        assert of_others is refusal_of(failure, "IssuePoints").code

    def test_redemption_that_could_not_be_written(self) -> None:
        """817 is of redemptions alone: the decision was made, and writing it failed."""
        refused = refusal_of(Failure.WRITE_FAILED, "RedeemPoints", {"points": "50", "current": "100"})

        assert codes.REDEMPTION_FAILED is refused.code
        assert {"points": "50", "current": "100"} == refused.metadata
        assert codes.INTERNAL_FAILURE is refusal_of(Failure.INTERNAL, "RedeemPoints").code

    @pytest.mark.parametrize("failure", Failure)
    @pytest.mark.parametrize("operation", ["TransferPoints", "RedeemPoints"])
    def test_unknown_outcomes_say_so(self, failure: Failure, operation: str) -> None:
        """UNAVAILABLE means that nothing was written; an open outcome says so, and none of these is recorded."""
        refused = refusal_of(failure, operation)
        unknown = failure in {Failure.OUTCOME_UNKNOWN, Failure.EXPIRED_UNKNOWN}

        assert not (unknown and refused.code.grpc is GrpcCode.UNAVAILABLE)
        assert unknown == (refused.metadata.get("outcome") == "UNKNOWN" or refused.code is codes.OUTCOME_UNKNOWN)
        assert not refused.recorded

    @pytest.mark.parametrize(
        ("failure", "waits"),
        [
            (Failure.STORAGE_UNAVAILABLE, True),
            (Failure.CONFLICT, True),
            (Failure.OVERLOADED, True),
            (Failure.SHUTTING_DOWN, True),
            (Failure.STORAGE_FULL, True),
            (Failure.OUTCOME_UNKNOWN, False),
            (Failure.EXPIRED_UNKNOWN, False),
            (Failure.INTERNAL, False),
        ],
    )
    @pytest.mark.parametrize("operation", ["TransferPoints", "RedeemPoints"])
    def test_retry(self, failure: Failure, waits: bool, operation: str) -> None:
        """What passes by itself tells when to try again; an open outcome invites no blind retry."""
        assert waits == (refusal_of(failure, operation).retry_after_s is not None)

    @pytest.mark.parametrize(
        ("failure", "wanted"),
        [
            (Failure.CONFLICT, {"outcome": "NOT_WRITTEN"}),
            (Failure.OUTCOME_UNKNOWN, {"outcome": "UNKNOWN"}),
            (Failure.OVERLOADED, {"cause": "OVERLOADED"}),
            (Failure.SHUTTING_DOWN, {"cause": "SHUTTING_DOWN"}),
        ],
    )
    def test_metadata_of_transfers(self, failure: Failure, wanted: dict[str, str]) -> None:
        """Where one code stands for several failures, its metadata tells which."""
        assert wanted == refusal_of(failure, "TransferPoints").metadata
