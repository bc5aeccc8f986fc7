"""What the server tells about itself: the catalogue of codes, and the limits and durability in force."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from points_grpc.codes import CATALOGUE, Code, Table
from points_grpc.domain.holds import HOLD_S_DEFAULT, HOLD_S_MAX, HOLD_S_MIN
from points_grpc.domain.identifiers import VALUE_LENGTH_MAX
from points_grpc.domain.lots import LOTS_PER_COMMAND_MAX, LOTS_SHOWN_MAX
from points_grpc.domain.model import POINTS_MAX
from points_grpc.domain.outcome import Refused
from points_grpc.domain.policy import MISSED_CALL_WINDOW_S_MAX
from points_grpc.domain.programs import CONFIG_KEYS_MAX, PROGRAMS_MAX
from points_grpc.domain.references import TRANSACTION_NUMBER_MAX
from points_grpc.rpc import parse, parse_policy, quotas, shape
from points_grpc.rpc.answers import (
    AUDIT_PAGE_MAX,
    LOTS_PAGE_MAX,
    RECORDS_PAGE_MAX,
    SUBJECT_LENGTH_MAX,
    TRACED_LOTS_MAX,
    TRANSACTIONS_PAGE_MAX,
    one_page_only,
)
from points_grpc.rpc.call import Caller
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.listings import CUSTOMERS_PAGE_MAX, PAGE_MAX
from points_grpc.rpc.ports import CheckpointFact, Facts, LimitFact
from points_grpc.v1 import catalog_service_pb2, options_pb2

_OTP_UNITS = {
    "length": "characters of a code",
    "attempts": "wrong codes",
    "attempts_per_window": "wrong codes",
    "issues_per_window": "codes",
}


def _otp_limits() -> Iterator[LimitFact]:
    """From what to what the numbers of a policy of codes may be."""
    for name, (low, high) in parse_policy.OTP_BOUNDS.items():
        stem, unit, ending = (name[:-2], "s", "_s") if name.endswith("_s") else (name, _OTP_UNITS[name], "")
        yield LimitFact(f"otp_{stem}_min{ending}", low, unit)
        yield LimitFact(f"otp_{stem}_max{ending}", high, unit)


REQUEST_LIMITS = (
    LimitFact("points_max", POINTS_MAX, "points in the smallest unit"),
    LimitFact("request_id_length_max", shape.REQUEST_ID_LENGTH_MAX, "characters"),
    LimitFact("identifier_length_max", VALUE_LENGTH_MAX, "characters"),
    LimitFact("notes_length_max", shape.NOTES_LENGTH_MAX, "characters"),
    LimitFact("code_length_max", shape.CODE_LENGTH_MAX, "characters"),
    LimitFact("name_length_max", parse.NAME_LENGTH_MAX, "characters"),
    LimitFact("category_length_max", parse.CATEGORY_LENGTH_MAX, "characters"),
    LimitFact("transaction_number_length_max", TRANSACTION_NUMBER_MAX, "characters"),
    LimitFact("external_reference_length_max", parse.EXTERNAL_REFERENCE_LENGTH_MAX, "characters"),
    LimitFact("audit_subject_length_max", SUBJECT_LENGTH_MAX, "characters"),
    LimitFact("config_keys_max", CONFIG_KEYS_MAX, "configuration keys"),
    LimitFact("config_key_length_max", parse.CONFIG_KEY_LENGTH_MAX, "characters"),
    LimitFact("config_value_length_max", parse.CONFIG_VALUE_LENGTH_MAX, "characters"),
    LimitFact("programs_max", PROGRAMS_MAX, "programs"),
    LimitFact("decimal_places_max", parse.DECIMAL_PLACES_MAX, "decimal places"),
    LimitFact("identifiers_max", parse.IDENTIFIERS_MAX, "identifiers"),
    LimitFact("enrolments_max", parse.ENROLMENTS_MAX, "programs"),
    LimitFact("group_programs_max", parse.GROUP_PROGRAMS_MAX, "programs"),
    LimitFact("expiry_days_max", parse.EXPIRY_DAYS_MAX, "days"),
    LimitFact("expiry_months_max", parse.EXPIRY_MONTHS_MAX, "months"),
    LimitFact("hold_min_s", HOLD_S_MIN, "s"),
    LimitFact("hold_max_s", HOLD_S_MAX, "s"),
    LimitFact("hold_default_s", HOLD_S_DEFAULT, "s"),
    LimitFact("missed_call_window_max_s", MISSED_CALL_WINDOW_S_MAX, "s"),
    LimitFact("categories_max", parse_policy.CATEGORIES_MAX, "categories"),
    LimitFact("velocity_limits_max", parse_policy.VELOCITY_LIMITS_MAX, "limits"),
    LimitFact("duplicate_window_max_s", parse_policy.DUPLICATE_WINDOW_S_MAX, "s"),
    LimitFact("redemption_time_days_max", parse_policy.DAYS_MAX, "days"),
    LimitFact("reversal_days_max", parse_policy.DAYS_MAX, "days"),
    LimitFact("point_value_max", parse_policy.RATIO_MAX, "numerator, and denominator"),
    *_otp_limits(),
    LimitFact("returned_items_max", parse.RETURNED_ITEMS_MAX, "items of a return"),
    LimitFact("lots_per_command_max", LOTS_PER_COMMAND_MAX, "lots"),
    LimitFact("lots_shown_max", LOTS_SHOWN_MAX, "lots of a breakup"),
    LimitFact("items_max", quotas.ITEMS_MAX, "items of a batch"),
    LimitFact("lots_page_max", LOTS_PAGE_MAX, "lots"),
    LimitFact("customers_page_max", CUSTOMERS_PAGE_MAX, "customers"),
    LimitFact("listed_page_max", PAGE_MAX, "wallets, lots or transactions of an organisation"),
    LimitFact("records_page_max", RECORDS_PAGE_MAX, "records about a customer"),
    LimitFact("audit_events_page_max", AUDIT_PAGE_MAX, "lines of the audit log"),
    LimitFact("transactions_page_max", TRANSACTIONS_PAGE_MAX, "transactions"),
    LimitFact("traced_lots_max", TRACED_LOTS_MAX, "lots"),
)
"""The bounds of requests and answers, which no setting changes."""

_TABLES = tuple(Table)


class SelfDescription:
    """Describes the server."""

    def __init__(self, facts: Facts, limits: Limits, clock: Callable[[], datetime]) -> None:
        """Takes who knows the server, and the limits of the wire."""
        self._facts = facts
        self._limits = limits
        self._clock = clock

    async def list_codes(
        self, request: catalog_service_pb2.ListCodesRequest, caller: Caller
    ) -> catalog_service_pb2.ListCodesResponse | Refused:
        """ListCodes."""
        if refused := one_page_only(request, shape.Shape(shape.SERVICE, caller.default_region, self._clock())):
            return refused
        return catalog_service_pb2.ListCodesResponse(codes=_ENTRIES)

    async def get_server_info(
        self,
        request: catalog_service_pb2.GetServerInfoRequest,  # noqa: ARG002 - it is empty
        caller: Caller,  # noqa: ARG002 - all callers may know
    ) -> catalog_service_pb2.GetServerInfoResponse | Refused:
        """GetServerInfo."""
        facts = await self._facts.server_facts()
        response = catalog_service_pb2.GetServerInfoResponse
        told = response(
            version=facts.version,
            schema_revision=facts.schema_revision,
            limits=[
                response.Limit(name=one.name, value=one.value, unit=one.unit)
                for one in (*self._limits.facts(), *REQUEST_LIMITS, *facts.limits)
            ],
            durability=response.Durability(
                backend=facts.durability.backend,
                settings=facts.durability.settings,
                durable=facts.durability.durable,
            ),
        )
        if facts.checkpoints is not None:
            told.journal_checkpoints.CopyFrom(_checkpoints(facts.checkpoints))
        return told


def _checkpoints(fact: CheckpointFact) -> catalog_service_pb2.GetServerInfoResponse.JournalCheckpoints:
    """How the server makes checkpoints."""
    told = catalog_service_pb2.GetServerInfoResponse.JournalCheckpoints(
        interval_s=int(fact.interval_s), key_id=fact.key_id, public_key=fact.public_key
    )
    if fact.last_made_at is not None:
        told.last_made_at.FromMicroseconds(fact.last_made_at)
    return told


def _entry(code: Code) -> catalog_service_pb2.CodeEntry:
    """One coded outcome."""
    return catalog_service_pb2.CodeEntry(
        table=code.table.value,
        code=code.number,
        reason=code.reason,
        grpc_code=code.grpc.name,
        retry=options_pb2.RetryAdvice.Value(f"RETRY_ADVICE_{code.retry.value}"),
        message=code.message,
        metadata_keys=code.metadata_keys,
        operations=code.operations,
    )


_ENTRIES = [_entry(code) for code in sorted(CATALOGUE, key=lambda code: (_TABLES.index(code.table), code.number))]
