"""The rows of the service table, and those of codes that reads and administration give."""

from __future__ import annotations

from typing import Any

from conformance_table import (
    BASE,
    Do,
    Elapse,
    Fields,
    Row,
    Step,
    Wait,
    customer,
    group,
    issue,
    key,
    member,
    program,
    purchase,
    redeem,
    transfer,
    wallet,
)

FIELD_10004 = "10004 INVALID_ARGUMENT FIELD_INVALID"
NOBODY_10001 = "10001 UNAUTHENTICATED UNAUTHENTICATED"
DENIED_10002 = "10002 PERMISSION_DENIED PERMISSION_DENIED"
NO_ID_10005 = "10005 INVALID_ARGUMENT REQUEST_ID_REQUIRED"
REUSED_10006 = "10006 ALREADY_EXISTS REQUEST_ID_REUSED"
REMAIN_10019 = "10019 FAILED_PRECONDITION POINTS_REMAIN"
LOST_10018 = "10018 OUT_OF_RANGE WATCH_POSITION_LOST"
TOKEN_10007 = "10007 INVALID_ARGUMENT PAGE_TOKEN_INVALID"
NOT_FOUND_10012 = "10012 NOT_FOUND RESOURCE_NOT_FOUND"
EXISTS_10013 = "10013 ALREADY_EXISTS RESOURCE_EXISTS"
UNKNOWN_8015 = "8015 NOT_FOUND CUSTOMER_NOT_FOUND"
MERGE = Do(
    "MergeCustomers",
    {"victim_customer_identifier": customer(1), "survivor_customer_identifier": customer(2), "reason": "x"},
)
ERASE = Do("EraseCustomer", {"customer_identifier": customer(1), "forfeit_points": True, "reason": "x"})
HELD = Do("AuthorizeRedemption", redeem(), {"hold": "hold_id"})
SIGNATURE_825 = "825 UNAUTHENTICATED CLIENT_SIGNATURE_REQUIRED"
PROGRAM_895 = "895 FAILED_PRECONDITION PROGRAM_NOT_CONFIGURED"


def row(case: str, outcome: str, rpc: str, request: Fields, *setup: Step, **more: Any) -> Row:
    """A row."""
    return Row(case, outcome, rpc, request, setup, **more)


def field_row(case: str, rpc: str, request: Fields, field: str, *setup: Step) -> Row:
    """A row of 10004."""
    return row(case, FIELD_10004, rpc, request, *setup, metadata={"field": field}, field=field)


CALLERS = (
    *(
        row(case, NOBODY_10001, "GetWallet", {"customer_identifier": customer(1)}, caller=caller)
        for case, caller in (
            ("no credential", "nobody"),
            ("unknown key", "unknown"),
            ("wrong secret", "wrong"),
            ("malformed credential", "malformed"),
            ("expired key", "expired"),
            ("revoked key", "revoked"),
        )
    ),
    row(
        "reader transfers",
        DENIED_10002,
        "TransferPoints",
        transfer(),
        caller="reader",
        metadata={"required_role": "OPERATOR"},
    ),
    row(
        "operator pauses",
        DENIED_10002,
        "SetPause",
        {"paused": True, "reason": "x"},
        caller="operator",
        metadata={"required_role": "MANAGER"},
    ),
    row(
        "manager creates a program",
        DENIED_10002,
        "CreateProgram",
        {"name": "x"},
        caller="manager",
        metadata={"required_role": "ADMIN"},
    ),
    *(
        row(f"{rpc}: {case}", SIGNATURE_825, rpc, request, *BASE, caller=caller)
        for rpc, request in (
            ("TransferPoints", transfer(request_id="signed")),
            ("RedeemPoints", redeem(request_id="signed")),
            ("IssuePoints", {"customer_identifier": customer(1), "points": 5, "source": "GOODWILL", "request_id": "s"}),
            ("ReverseRedemption", {"customer_identifier": customer(1), "redemption_id": "r1", "request_id": "s"}),
        )
        for case, caller in (
            ("absent", "unsigned"),
            ("wrong", "signed wrong"),
            ("outside the window", "signed late"),
        )
    ),
    *(
        row(f"{rpc}: absent", SIGNATURE_825, rpc, request, *BASE, caller="unsigned")
        for rpc, request in (
            ("AuthorizeRedemption", redeem(request_id="signed")),
            ("CaptureRedemption", {"hold_id": "h1", "request_id": "signed"}),
            ("ReleaseRedemption", {"hold_id": "h1", "request_id": "signed"}),
            ("ReturnTransaction", {"customer_identifier": customer(1), "transaction_number": "BILL-1"}),
            ("ReverseTransfer", {"transfer_id": 1, "shortfall": "FAIL", "reason": "x"}),
            ("AdjustPoints", {"customer_identifier": customer(1), "points": 5, "reason": "x"}),
            ("MergeCustomers", MERGE.fields),
            ("EraseCustomer", {**ERASE.fields, "request_id": "signed"}),
            ("BatchTransferPoints", {"requests": [transfer(request_id="signed")]}),
            ("BatchRedeemPoints", {"requests": [redeem(request_id="signed")]}),
            ("BatchIssuePoints", {"requests": [{**issue(1, 5).fields, "request_id": "signed"}]}),
        )
    ),
    row(
        "used up",
        SIGNATURE_825,
        "TransferPoints",
        transfer(program_id=99, request_id="signed"),
        *BASE,
        caller="signed twice",
    ),
    row("the client demands one", NO_ID_10005, "TransferPoints", transfer(), caller="strict", field="request_id"),
    row("a signed request", NO_ID_10005, "RedeemPoints", redeem(), caller="signed", field="request_id"),
    row(
        "the organisation demands one",
        NO_ID_10005,
        "IssuePoints",
        {"customer_identifier": customer(1), "points": 5, "source": "GOODWILL"},
        *BASE,
        key("REQUIRE_REQUEST_ID", "true"),
        Wait(3),
        field="request_id",
    ),
)

FIELDS = (
    field_row("notes too long", "RedeemPoints", redeem(notes="n" * 501), "notes"),
    field_row("request_id with a space", "RedeemPoints", redeem(request_id="two words"), "request_id"),
    field_row("validation type that the enum lacks", "RedeemPoints", redeem(validation_type=99), "validation_type"),
    field_row("source missing", "IssuePoints", {"customer_identifier": customer(1), "points": 5}, "source"),
    field_row(
        "no day",
        "IssuePoints",
        {"customer_identifier": customer(1), "points": 5, "source": "GOODWILL", "expires_on": "tomorrow"},
        "expires_on",
    ),
    field_row("reason missing", "SetPause", {"paused": True}, "reason"),
    field_row("no time zone", "CreateProgram", {"name": "x", "time_zone": "Mars/Olympus"}, "time_zone"),
    field_row("no key", "SetConfigKey", {"key": "with space"}, "key"),
    field_row("neither id", "GetTransaction", {}, "transaction_id"),
    field_row("page too large", "ListLots", {"customer_identifier": customer(1), "page_size": 1001}, "page_size"),
    field_row(
        "program already grouped",
        "CreateProgramGroup",
        {"name": "Again", "program_ids": [10], "default_program_id": 10},
        "program_ids",
        program(),
        group(10),
    ),
    row(
        "no protobuf message",
        FIELD_10004,
        "RedeemPoints",
        {},
        raw=b"\xff\xff\xff",
        metadata={"field": "request"},
        field="request",
    ),
)

LOTS = {"customer_identifier": customer(1), "page_size": 1}

IDS = (
    row(
        "other content",
        REUSED_10006,
        "RedeemPoints",
        redeem(99, notes="x", request_id="again"),
        *BASE,
        Do("RedeemPoints", redeem(request_id="again")),
        metadata={"fields": "notes,points"},
        field="request_id",
    ),
    row(
        "another operation",
        REUSED_10006,
        "RedeemPoints",
        redeem(request_id="again"),
        *BASE,
        Do("TransferPoints", transfer(request_id="again")),
        metadata={"fields": "operation"},
        field="request_id",
    ),
    *(
        row(
            case,
            TOKEN_10007,
            rpc,
            {**fields, "page_token": token},
            *BASE,
            issue(1, 5),
            issue(1, 6),
            Do("ListLots", LOTS, {"token": "next_page_token"}),
            field="page_token",
            caller=caller,
        )
        for case, rpc, fields, token, caller in (
            ("malformed", "ListLots", LOTS, "?", "admin"),
            ("of another query", "ListLots", {**LOTS, "include_spent": True}, "$token", "admin"),
            ("of another list", "ListTransactions", LOTS, "$token", "admin"),
            *(
                (f"of another list: {rpc}", rpc, {}, "$token", "admin")
                for rpc in ("ListCustomers", "ListWallets", "ListLiveLots", "ListJournalTransactions")
            ),
            ("of another client", "ListLots", LOTS, "$token", "reader"),
            ("of what is kept", "ExportCustomerData", {"customer_identifier": customer(1)}, "$token", "admin"),
            ("for a list of one page", "ListPrograms", {}, "$token", "admin"),
        )
    ),
    row(
        "of another organisation",
        TOKEN_10007,
        "ListAuditEvents",
        {"page_size": 1, "page_token": "$token"},
        *BASE,
        Do("ListAuditEvents", {"page_size": 1}, {"token": "next_page_token"}),
        field="page_token",
        caller="elsewhere",
    ),
    row(
        "of another redemption",
        "10010 ALREADY_EXISTS EXTERNAL_REFERENCE_REUSED",
        "RedeemPoints",
        redeem(7, external_reference_number="REF-1"),
        *BASE,
        Do("RedeemPoints", redeem(external_reference_number="REF-1")),
        field="external_reference_number",
    ),
    *(
        row(
            f"{rpc}: {resource.lower()} by id",
            NOT_FOUND_10012,
            rpc,
            fields,
            *BASE,
            metadata={"resource": resource},
            field=field,
        )
        for resource, rpc, fields, field in (
            ("Program", "GetProgram", {"program_id": 99}, "program_id"),
            ("Policy revision", "GetPolicy", {"revision": 7}, "revision"),
            ("Transaction", "GetTransaction", {"transaction_id": 7}, "transaction_id"),
            ("Lot", "TraceLot", {"lot_id": 7}, "lot_id"),
            ("Transfer", "ReverseTransfer", {"transfer_id": 7, "shortfall": "FAIL", "reason": "x"}, "transfer_id"),
            ("hold", "CaptureRedemption", {"hold_id": "h7"}, "hold_id"),
            ("hold", "ReleaseRedemption", {"hold_id": "h7"}, "hold_id"),
        )
    ),
    row(
        "a return of another customer's bill",
        NOT_FOUND_10012,
        "ReturnTransaction",
        {"customer_identifier": customer(2), "transaction_number": "BILL-1"},
        *BASE,
        purchase(1, "BILL-1"),
        metadata={"resource": "Transaction"},
        field="transaction_number",
    ),
    row(
        "policy of an unknown program",
        NOT_FOUND_10012,
        "GetPolicy",
        {"program_id": 99},
        *BASE,
        metadata={"resource": "Program"},
        field="program_id",
    ),
    *(
        row(case, EXISTS_10013, rpc, fields, *BASE, *setup, metadata={"resource": resource}, field=field)
        for case, rpc, fields, setup, resource, field in (
            ("customer id", "CreateCustomer", {"customer_id": 1}, (), "customer", "customer_id"),
            (
                "identifier",
                "CreateCustomer",
                {"identifiers": [{"type": "EXTERNAL_ID", "value": "E-1"}]},
                (member(3, identifiers=[{"type": "EXTERNAL_ID", "value": "E-1"}]),),
                "customer",
                "identifiers",
            ),
            ("program", "CreateProgram", {"program_id": 10, "name": "Again"}, (), "program", "program_id"),
            (
                "group",
                "CreateProgramGroup",
                {"program_group_id": 1, "name": "Again", "program_ids": [11], "default_program_id": 11},
                (group(10), program(11)),
                "program group",
                "program_group_id",
            ),
            (
                "return",
                "ReturnTransaction",
                {"customer_identifier": customer(1), "transaction_number": "BILL-1"},
                (Do("ReturnTransaction", {"customer_identifier": customer(1), "transaction_number": "BILL-1"}),),
                "Return",
                "transaction_number",
            ),
            (
                "bill",
                "RecordPurchase",
                purchase(2, "BILL-1").fields,
                (purchase(1, "BILL-1"),),
                "transaction number",
                "transaction_number",
            ),
        )
    ),
    row(
        "stale",
        "10014 ABORTED REVISION_CONFLICT",
        "SetPolicy",
        {"policy": {}, "expected_revision": 7},
        *BASE,
        metadata={"current_revision": lambda playing: playing.read("GetPolicy", {}, "policy.revision")},
        field="expected_revision",
    ),
    *(
        row(
            f"{rpc}: 10,001 lots",
            "10015 FAILED_PRECONDITION TOO_MANY_LOTS",
            rpc,
            request,
            program(),
            member(1),
            member(2),
            issue(1, 1, times=10_001),
            metadata={"lots": "more than 10000", "maximum": "10000"},
        )
        for rpc, request in (("TransferPoints", transfer(10_001)),)
    ),
)

READS = (
    *(
        row(
            rpc,
            UNKNOWN_8015,
            rpc,
            {"customer_identifier": customer(9), **fields},
            *BASE,
            metadata={"party": "CUSTOMER"},
            field="customer_identifier.value",
        )
        for rpc, fields in (
            ("GetWallet", {}),
            ("ListLots", {}),
            ("ListTransactions", {}),
            ("GetCustomer", {}),
            ("EnrolCustomer", {}),
            ("SetCustomerStatus", {"fraud_status": "MARKED", "reason": "x"}),
            ("SetTransferLock", {"reason": "x"}),
            ("RecordPurchase", {"transaction_number": "BILL-1"}),
            ("ListTransfers", {}),
            ("ReturnTransaction", {"transaction_number": "BILL-1"}),
            ("ExportCustomerData", {}),
            ("EraseCustomer", {"reason": "x"}),
        )
    ),
    row(
        "ReverseTransfer: the sender was erased",
        "8015 NOT_FOUND TRANSFER_CUSTOMER_NOT_FOUND",
        "ReverseTransfer",
        {"transfer_id": "$transfer", "shortfall": "FAIL", "reason": "x"},
        *BASE,
        Do("TransferPoints", transfer(80), {"transfer": "data[0].transfer_id"}),
        ERASE,
        metadata={"party": "SOURCE"},
        field="transfer_id",
    ),
    row(
        "erased",
        UNKNOWN_8015,
        "EnrolCustomer",
        {"customer_identifier": customer(1)},
        *BASE,
        ERASE,
        metadata={"party": "CUSTOMER"},
        field="customer_identifier.value",
    ),
    *(
        row(f"{rpc}: unknown program", PROGRAM_895, rpc, {**fields, "program_id": 99}, *BASE, field="program_id")
        for rpc, fields in (
            ("GetWallet", {"customer_identifier": customer(1)}),
            ("ListWallets", {}),
            ("ListLiveLots", {}),
            ("SetPause", {"paused": True, "reason": "x"}),
            ("SetPolicy", {"policy": {}}),
            ("EnrolCustomer", {"customer_identifier": customer(1)}),
            ("SetProgramActive", {"active": False, "reason": "x"}),
        )
    ),
)

MERGED = (
    *(
        row(
            rpc if not case else f"{rpc}: {case}",
            "419 FAILED_PRECONDITION MERGED_CUSTOMER",
            rpc,
            fields,
            *BASE,
            MERGE,
            metadata={"customer_id": "1", "survivor_id": "2"},
        )
        for rpc, case, fields in (
            ("TransferPoints", "source", transfer()),
            ("TransferPoints", "destination", transfer(source=2, destination=1)),
            ("RedeemPoints", "", redeem()),
            ("AuthorizeRedemption", "", redeem()),
            ("IssuePoints", "", {"customer_identifier": customer(1), "points": 5, "source": "LOYALTY_PLUS"}),
            ("AdjustPoints", "", {"customer_identifier": customer(1), "points": 5, "reason": "x"}),
            ("MergeCustomers", "", MERGE.fields),
            ("EraseCustomer", "", ERASE.fields),
        )
    ),
)

HOLDS = (
    *(
        row(
            f"{rpc}: {case}",
            "10017 FAILED_PRECONDITION HOLD_NOT_OPEN",
            rpc,
            {"hold_id": "$hold"},
            *BASE,
            HELD,
            *setup,
            metadata={"state": state},
        )
        for rpc in ("CaptureRedemption", "ReleaseRedemption")
        for case, state, setup in (
            ("captured", "CAPTURED", (Do("CaptureRedemption", {"hold_id": "$hold"}),)),
            ("released", "RELEASED", (Do("ReleaseRedemption", {"hold_id": "$hold"}),)),
            ("past its deadline", "EXPIRED", (Elapse(3600),)),
        )
    ),
)

ERASURES = (
    row(
        "not forfeited",
        REMAIN_10019,
        "EraseCustomer",
        {"customer_identifier": customer(1), "reason": "x"},
        *BASE,
        metadata={"points": wallet("wallet.current"), "held": "0"},
    ),
    row(
        "held",
        REMAIN_10019,
        "EraseCustomer",
        ERASE.fields,
        *BASE,
        HELD,
        metadata={"points": wallet("wallet.current"), "held": wallet("wallet.held")},
    ),
)

WATCHES = (
    row(
        "a version that the wallet has not",
        LOST_10018,
        "WatchWallet",
        {"customer_identifier": customer(1), "after_version": 2},
        *BASE,
        metadata={"oldest": "0"},
        field="after_version",
    ),
    *(
        row(
            case,
            LOST_10018,
            "WatchTransactions",
            {"resume_token": token},
            *BASE,
            metadata={
                "oldest": lambda playing: playing.read("WatchTransactions", {"from_beginning": True}, "resume_token")
            },
            field="resume_token",
        )
        for case, token in (("a token that is none", "x"), ("a token that is cut", "A" * 22))
    ),
    row(
        "an export behind the end of the journal",
        LOST_10018,
        "ExportJournal",
        {"after": {"positions": [{"stream": 0, "position": 0}, {"stream": 7, "position": 3}]}},
        *BASE,
        metadata={"stream": "7", "position": "3", "head": "0"},
        field="after.positions[1].position",
    ),
)

ROWS = (*CALLERS, *FIELDS, *IDS, *READS, *MERGED, *HOLDS, *ERASURES, *WATCHES)
