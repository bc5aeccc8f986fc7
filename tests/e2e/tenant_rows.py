"""The table of the tenant matrix: for each RPC how it is asked, what in the request names something, and who may ask.

A `$name` stands for something that the organisation has, `$new_name` for something that it is about to have: both are
kinds of `tenant_world.Names`. The rest of the matrix (paging, request ids, streams) is read from the descriptors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

READER, OPERATOR, MANAGER, ADMIN = ROLES = ("reader", "operator", "manager", "admin")


@dataclass(frozen=True, slots=True)
class Row:
    """An RPC, asked in one way. `how` tells the ways of one RPC apart."""

    method: str
    role: str
    fields: Mapping[str, Any]
    how: str = ""

    @property
    def name(self) -> str:
        """What the row is called in the output of tests."""
        return f"{self.method}-{self.how}" if self.how else self.method


def _by(kind: str, name: str) -> dict[str, str]:
    """A customer, named in a way."""
    return {"type": kind, "value": f"${name}"}


_CUSTOMER, _RECEIVER = _by("ID", "customer"), _by("ID", "receiver")
_WALLET = {"customerIdentifier": _CUSTOMER, "programId": "$program"}
_POINTS = {**_WALLET, "points": "10"}
_TRANSFER = {
    "fromCustomerIdentifier": _CUSTOMER,
    "toCustomerIdentifier": _RECEIVER,
    "programId": "$program",
    "pointsToBeTransferred": "10",
}
_REDEMPTION = {**_POINTS, "transactionNumber": "$new_bill", "externalReferenceNumber": "$new_reference"}
_ISSUE = {**_POINTS, "source": "GOODWILL", "earningProgramId": "$second", "transactionNumber": "$new_bill"}
_NEW_CUSTOMER = {
    "customerId": "$new_customer",
    "enrolledProgramIds": ["$program", "$second"],
    "identifiers": [_by("MOBILE", "new_mobile"), _by("EMAIL", "new_email"), _by("EXTERNAL_ID", "new_external")],
}
_RETURN = {
    "transactionNumber": "$bill",
    "customerIdentifier": _CUSTOMER,
    "items": [{"redemptionId": "$redemption", "customerIdentifier": _CUSTOMER}],
}
_NEW_GROUP = {
    "programGroupId": "$new_group",
    "name": "Group",
    "programIds": ["$lone", "$lone_too"],
    "defaultProgramId": "$lone",
}


def _points(method: str, fields: Mapping[str, Any], how: str = "", role: str = OPERATOR) -> Row:
    return Row(f"PointsService/{method}", role, fields, how)


def _wallet(method: str, fields: Mapping[str, Any], how: str = "") -> Row:
    return Row(f"WalletService/{method}", READER, fields, how)


def _customer(method: str, role: str, fields: Mapping[str, Any], how: str = "") -> Row:
    return Row(f"CustomerService/{method}", role, fields, how)


def _program(method: str, role: str, fields: Mapping[str, Any], how: str = "") -> Row:
    return Row(f"ProgramService/{method}", role, fields, how)


ROWS = (
    # transfers
    _points("CheckTransfer", _TRANSFER),
    _points("CheckTransfer", {**_TRANSFER, "issueOtp": True}, "and issue"),
    _points("IssueTransferOtp", _TRANSFER),
    _points("TransferPoints", _TRANSFER),
    _points("TransferPoints", {**_TRANSFER, "groupProgramTransfer": True}, "of a group"),
    _points("TransferPoints", {**_TRANSFER, "fromCustomerIdentifier": _by("MOBILE", "mobile")}, "by mobile"),
    _points("ReverseTransfer", {"transferId": "$transfer", "shortfall": "FAIL", "reason": "why"}, role=MANAGER),
    _points("BatchTransferPoints", {"requests": [_TRANSFER]}),
    # redemptions
    _points("CheckRedemption", {**_POINTS, "transactionNumber": "$new_bill"}),
    _points("CheckRedemption", {**_POINTS, "transactionNumber": "$new_bill", "issueOtp": True}, "and issue"),
    _points("IssueRedemptionOtp", _POINTS),
    _points("RedeemPoints", _REDEMPTION),
    _points("RedeemPoints", {**_POINTS, "groupRedemption": True}, "of a group"),
    _points("BatchRedeemPoints", {"requests": [_REDEMPTION]}),
    _points("AuthorizeRedemption", _REDEMPTION),
    _points("CaptureRedemption", {"holdId": "$hold"}),
    _points("ReleaseRedemption", {"holdId": "$hold"}),
    _points("ReverseRedemption", {"redemptionId": "$redemption", "customerIdentifier": _CUSTOMER}),
    _points(
        "ReverseRedemption",
        {"externalReferenceNumber": "$reference", "customerIdentifier": _CUSTOMER},
        "by reference",
    ),
    _points("ReverseRedemption", {"transactionNumber": "$bill", "customerIdentifier": _CUSTOMER}, "by bill"),
    _points("ReturnTransaction", _RETURN),
    # issuance
    Row("IssuanceService/IssuePoints", OPERATOR, _ISSUE),
    Row("IssuanceService/BatchIssuePoints", OPERATOR, {"requests": [_ISSUE]}),
    Row("IssuanceService/AdjustPoints", MANAGER, {**_POINTS, "reason": "why"}),
    # wallets and the journal
    _wallet("GetWallet", _WALLET),
    _wallet("GetWallet", {**_WALLET, "readTime": "2020-01-01T00:00:00Z"}, "of long ago"),
    _wallet("ListLots", _WALLET),
    _wallet("ListTransactions", _WALLET),
    _wallet("GetTransaction", {"transactionId": "$transaction"}),
    _wallet("GetTransaction", {"requestId": "$request"}, "by request id"),
    _wallet("ListTransfers", _WALLET),
    _wallet("TraceLot", {"lotId": "$lot"}),
    Row("WalletService/ListWallets", MANAGER, {"countTotal": True}),
    Row("WalletService/ListWallets", MANAGER, {"programId": "$program"}, "of a program"),
    Row("WalletService/ListLiveLots", MANAGER, {"countTotal": True}),
    Row("WalletService/ListLiveLots", MANAGER, {"programId": "$program"}, "of a program"),
    Row("WalletService/ListJournalTransactions", MANAGER, {"countTotal": True}),
    _wallet("WatchWallet", {**_WALLET, "afterVersion": "0"}),
    _wallet("WatchTransactions", {"fromBeginning": True}),
    _wallet("ExportJournal", {}),
    _wallet("ExportJournal", {"after": {"positions": [{"stream": 0, "position": "0"}]}}, "from a place"),
    # customers
    _customer("CreateCustomer", OPERATOR, _NEW_CUSTOMER),
    _customer("GetCustomer", READER, {"customerIdentifier": _CUSTOMER}),
    _customer("GetCustomer", READER, {"customerIdentifier": _by("MOBILE", "mobile")}, "by mobile"),
    _customer("GetCustomer", READER, {"customerIdentifier": _by("EMAIL", "email")}, "by e-mail"),
    _customer("GetCustomer", READER, {"customerIdentifier": _by("EXTERNAL_ID", "external")}, "by external id"),
    _customer("ListCustomers", MANAGER, {"countTotal": True}),
    _customer("EnrolCustomer", OPERATOR, {"customerIdentifier": _CUSTOMER, "programId": "$lone"}),
    _customer(
        "SetCustomerStatus", MANAGER, {"customerIdentifier": _CUSTOMER, "fraudStatus": "MARKED", "reason": "why"}
    ),
    _customer(
        "SetTransferLock",
        MANAGER,
        {"customerIdentifier": _CUSTOMER, "lockedUntil": "2050-01-01T00:00:00Z", "reason": "why"},
    ),
    _customer("RecordPurchase", OPERATOR, {**_WALLET, "transactionNumber": "$new_purchase", "amountMinorUnits": "100"}),
    _customer(
        "MergeCustomers",
        MANAGER,
        {"victimCustomerIdentifier": _CUSTOMER, "survivorCustomerIdentifier": _RECEIVER, "reason": "why"},
    ),
    _customer("RecordMissedCall", OPERATOR, {"mobileNumber": "$mobile"}),
    _customer("ExportCustomerData", MANAGER, {"customerIdentifier": _CUSTOMER}),
    _customer("ExportCustomerData", MANAGER, {"customerIdentifier": _by("MOBILE", "mobile")}, "by mobile"),
    _customer("EraseCustomer", ADMIN, {"customerIdentifier": _CUSTOMER, "forfeitPoints": True, "reason": "why"}),
    _customer(
        "EraseCustomer",
        ADMIN,
        {"customerIdentifier": _by("EXTERNAL_ID", "external"), "forfeitPoints": True, "reason": "why"},
        "by external id",
    ),
    # programs
    _program("CreateProgram", ADMIN, {"programId": "$new_program", "name": "Program"}),
    _program("GetProgram", READER, {"programId": "$program"}),
    _program("ListPrograms", READER, {}),
    _program("CreateProgramGroup", ADMIN, _NEW_GROUP),
    _program(
        "SetPolicy",
        ADMIN,
        {"programId": "$program", "policy": {"redemption": {"minimumPoints": "1"}}, "reason": "why"},
    ),
    _program("GetPolicy", READER, {"programId": "$program"}),
    _program("GetPolicy", READER, {"programId": "$program", "revision": "2"}, "of a revision"),
    _program("SetConfigKey", ADMIN, {"key": "TENANTS_$new_key", "value": "text"}),
    _program("ListConfigKeys", MANAGER, {}),
    _program("ListAuditEvents", MANAGER, {}),
    _program("ListAuditEvents", MANAGER, {"subject": "program/$program"}, "of a program"),
    _program("SetPause", MANAGER, {"programId": "$program", "paused": True, "reason": "why"}),
    _program("SetProgramActive", ADMIN, {"programId": "$lone", "active": False, "reason": "why"}),
    # the service itself
    Row("CatalogService/ListCodes", READER, {}),
    Row("CatalogService/GetServerInfo", READER, {}),
)
