"""How much each client and each organisation may ask: calls a second, and calls at once.

Rates are kept by the generic cell rate algorithm: one number for each quota, the instant at which all that was let in
so far would be used up at the quota's rate. What runs ahead of that by more than the burst is refused, and told when to
come again. The library that was to do this took 16 to 30 microseconds a call (docs/decisions/0070); this takes one or
two. What is refused costs its caller nothing: only what is let in counts.

Rates are counted for all workers of a supervisor together (`rates`). Calls at once are counted by each process for
itself, on its event loop, since they keep room free in that process; there is an entry for each organisation, for as
long as the process lives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from points_grpc import codes
from points_grpc.domain.failures import Failure, refusal_of
from points_grpc.domain.outcome import Refused
from points_grpc.rpc.call import Call
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.rates import OwnRates, Rates

IN_FLIGHT_RETRY_S = 0.1
"""How long to wait where calls of the organisation have to end first: some times what a call takes."""

WATCHES_RETRY_S = 5.0
"""How long to wait where a watch of the organisation has to end first."""

ITEMS_FIELD = "requests"
"""The field that holds the items of a batch."""

ITEMS_MAX = 1_000
"""The most items of one call."""

ITEMS_COUNTED_MAX = ITEMS_MAX + 1
"""Items are counted no further: the call is malformed."""

STRAYS_MAX = 16
"""So many fields that are no items are passed over in a batch, for clients newer than this server."""

_SECOND_NS = 1_000_000_000
_VARINT_BITS = 70
_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}

CLIENT = "client"
ORGANIZATION = "organization"


READS = "client_reads_per_s"
WRITES = "client_writes_per_s"
"""The classes of methods, each by its quota of a client. A watch counts as a read when it starts."""

ALL = "org_calls_per_s"
"""The quota of an organisation."""


@dataclass(frozen=True, slots=True)
class Metered:
    """How the calls of a method are counted: in which class, and by which tag (as it travels) the items of a batch."""

    quota: str
    items_tag: int = 0
    is_watch: bool = False


@dataclass(slots=True)
class _Organisation:
    """What an organisation is using. Mutable: it is the counter."""

    arriving: int = 0
    calls: int = 0
    items: int = 0
    watches: int = 0


class Quotas:
    """Lets calls in and out. One for a server; it is used by the event loop alone."""

    def __init__(
        self,
        services: Iterable[ServiceDescriptor],
        limits: Limits,
        *,
        rates: Rates | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`rates` are those of this process alone unless others share them; `monotonic_ns` is a steady clock."""
        self._methods = metered(services)
        self._limits = limits
        self._monotonic_ns = monotonic_ns
        self._burst_ns = limits.quota_burst_ms * 1_000_000
        self._per_s = {READS: limits.client_reads_per_s, WRITES: limits.client_writes_per_s}
        self._rates = rates or OwnRates()
        self._organisations: dict[int, _Organisation] = {}
        self._watches = 0

    def await_request(self, call: Call) -> Refused | None:
        """Takes a place for a call whose request is not there yet, until `got_request`; or says that there is none.

        Who is beyond a rate learns it here, before anything is spent on the request. Of a batch it is not known yet
        how much it asks for, nor when that would be let in.
        """
        organisation, method = self._of(call), self._methods[call.method]
        limit = self._limits.org_calls_in_flight_max
        if organisation.calls + organisation.arriving >= limit:
            return quota_refused("org_calls_in_flight_max", limit, ORGANIZATION, IN_FLIGHT_RETRY_S)
        if not method.items_tag and (refused := self._lacks(organisation, call, method, 1, self._monotonic_ns())):
            return refused
        organisation.arriving += 1
        return None

    def got_request(self, call: Call) -> None:
        """Gives that place back."""
        self._of(call).arriving -= 1

    def enter(self, call: Call, request: bytes) -> Refused | None:
        """Takes a place for a call, to be given back by `leave`; or says which quota is used up."""
        method = self._methods[call.method]
        items, call.is_too_long = _items(request, method.items_tag) if method.items_tag else (1, False)
        organisation, now = self._of(call), self._monotonic_ns()
        refused = self._lacks(organisation, call, method, items, now)
        if refused is None:
            self._charge(call, method, items, now)
            call.items, call.is_watch = items, method.is_watch
            if method.is_watch:
                organisation.watches += 1
                self._watches += 1
            else:
                organisation.calls += 1
                organisation.items += items
        return refused

    def leave(self, call: Call) -> None:
        """Gives back the place of a call, if it got one."""
        if not call.items:
            return
        organisation = self._organisations[call.known_caller.org_id]
        if call.is_watch:
            organisation.watches -= 1
            self._watches -= 1
        else:
            organisation.calls -= 1
            organisation.items -= call.items
        call.items = 0

    def _of(self, call: Call) -> _Organisation:
        """What the organisation of a call is using."""
        org_id = call.known_caller.org_id
        organisation = self._organisations.get(org_id)
        if organisation is None:
            organisation = self._organisations[org_id] = _Organisation()
        return organisation

    def _lacks(self, organisation: _Organisation, call: Call, method: Metered, items: int, now: int) -> Refused | None:
        """What keeps a call out: first what is going on at once, then the rates."""
        full = self._is_full(organisation, call, items, is_watch=method.is_watch)
        return full or self._is_beyond(call, method, items, now)

    def _is_full(self, organisation: _Organisation, call: Call, items: int, *, is_watch: bool) -> Refused | None:
        """What keeps a call out while others are going on. A large batch is let in where nothing else is."""
        limits = self._limits
        if is_watch:
            if organisation.watches >= limits.org_watches_max:
                return quota_refused("org_watches_max", limits.org_watches_max, ORGANIZATION, WATCHES_RETRY_S)
            if self._watches >= limits.watches_max:
                return refusal_of(Failure.OVERLOADED, call.operation)
            return None
        if organisation.calls >= limits.org_calls_in_flight_max:
            return quota_refused(
                "org_calls_in_flight_max", limits.org_calls_in_flight_max, ORGANIZATION, IN_FLIGHT_RETRY_S
            )
        if organisation.items and organisation.items + items > limits.org_items_in_flight_max:
            return quota_refused(
                "org_items_in_flight_max", limits.org_items_in_flight_max, ORGANIZATION, IN_FLIGHT_RETRY_S
            )
        return None

    def _is_beyond(self, call: Call, method: Metered, items: int, now: int) -> Refused | None:
        """Which rate is used up. What is larger than a whole burst waits for a full one."""
        caller, burst = call.known_caller, self._burst_ns
        rate, org_rate = self._per_s[method.quota], self._limits.org_calls_per_s
        busy_until = self._rates.busy_until((caller.org_id, caller.client, method.quota), now)
        wait = max(busy_until - now, 0) + min(items * _SECOND_NS // rate, burst) - burst
        if wait > 0:
            return quota_refused(method.quota, rate, CLIENT, wait / _SECOND_NS)
        busy_until = self._rates.busy_until((caller.org_id, "", ALL), now)
        wait = max(busy_until - now, 0) + min(items * _SECOND_NS // org_rate, burst) - burst
        if wait > 0:
            return quota_refused(ALL, org_rate, ORGANIZATION, wait / _SECOND_NS)
        return None

    def _charge(self, call: Call, method: Metered, items: int, now: int) -> None:
        """Counts a call in both rates."""
        caller = call.known_caller
        client = (caller.org_id, caller.client, method.quota)
        self._rates.use(client, items * _SECOND_NS // self._per_s[method.quota], now)
        self._rates.use((caller.org_id, "", ALL), items * _SECOND_NS // self._limits.org_calls_per_s, now)


def metered(services: Iterable[ServiceDescriptor]) -> Mapping[str, Metered]:
    """How each method is counted, by its name as a `Call` has it."""
    return {
        f"{service.full_name}/{method.name}": _metered(method) for service in services for method in service.methods
    }


def _metered(method: MethodDescriptor) -> Metered:
    """What has no side effects reads; everything else may write."""
    reads = method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    items = method.input_type.fields_by_name.get(ITEMS_FIELD)
    return Metered(
        READS if reads else WRITES,
        items_tag=items.number << 3 | _LENGTH_DELIMITED if items is not None else 0,
        is_watch=method.server_streaming,
    )


def _items(request: bytes, tag: int) -> tuple[int, bool]:
    """How many items a batch is charged for, and whether it must not even be parsed: half a million empty ones do not
    weigh much. They are looked up in its bytes, since it is not parsed before its caller may ask at all.

    What is not plainly a list of items is charged as a full one, and looked through for more.
    """
    at, found, strays, end = 0, 0, 0, len(request)
    while at < end:
        field, at = (tag, at + 1) if request[at] == tag else _varint(request, at)
        wire_type = field & 7
        if wire_type == _LENGTH_DELIMITED:
            length, at = _varint(request, at)
            at += length
        elif wire_type == _VARINT:
            _, at = _varint(request, at)
        elif wire_type in _FIXED_BYTES:
            at += _FIXED_BYTES[wire_type]
        else:
            return ITEMS_COUNTED_MAX, True  # a group, or no protobuf at all
        found += field == tag
        strays += field != tag
        if found > ITEMS_MAX or strays > STRAYS_MAX:
            return ITEMS_COUNTED_MAX, True
    return ITEMS_COUNTED_MAX if strays else max(found, 1), False


def _varint(request: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and where it ends. Of one that is cut off, what there is."""
    number = shift = 0
    end = len(request)
    while at < end and shift < _VARINT_BITS:
        byte = request[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return number, at


def quota_refused(quota: str, limit: int, scope: str, retry_after_s: float) -> Refused:
    """The refusal of a quota that is used up."""
    metadata = {"quota": quota, "limit": str(limit), "scope": scope}
    return Refused(codes.RATE_LIMITED, metadata, retry_after_s=retry_after_s)
