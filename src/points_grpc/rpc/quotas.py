"""How much each client and each organisation may ask: calls a second, and calls at once.

Rates are kept by the generic cell rate algorithm: one number for each quota, the instant at which all that was let in
so far would be used up at the quota's rate. What runs ahead of that by more than the burst is refused, and told when to
come again. The library that was to do this took 16 to 30 microseconds a call (docs/decisions/0070); this takes one or
two. What is refused costs its caller nothing: only what is let in counts.

Everything is counted by this process alone, on its event loop. An entry lives as long as the process: there is one for
each organisation, and one for each client and class of methods, of those that have a key.
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

CLIENTS_MAX = 10_000
"""From so many on, the rates of idle clients are forgotten: an issuer of tokens may name any number of clients."""

CLIENT = "client"
ORGANIZATION = "organization"


READS = "client_reads_per_s"
WRITES = "client_writes_per_s"
"""The classes of methods, each by its quota of a client. A watch counts as a read when it starts."""


@dataclass(frozen=True, slots=True)
class Metered:
    """How the calls of a method are counted: in which class, and by which tag (as it travels) the items of a batch."""

    quota: str
    items_tag: int = 0
    is_watch: bool = False


@dataclass(slots=True)
class _Organisation:
    """What an organisation is using. Mutable: it is the counter."""

    busy_until_ns: int = 0
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
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`monotonic_ns` is a steady clock."""
        self._methods = metered(services)
        self._limits = limits
        self._monotonic_ns = monotonic_ns
        self._burst_ns = limits.quota_burst_ms * 1_000_000
        self._rates = {READS: limits.client_reads_per_s, WRITES: limits.client_writes_per_s}
        self._organisations: dict[int, _Organisation] = {}
        self._clients: dict[tuple[int, str, str], int] = {}
        self._clients_max = CLIENTS_MAX
        self._watches = 0

    def await_request(self, call: Call) -> Refused | None:
        """Takes a place for a call whose request is not there yet, until `got_request`; or says that there is none."""
        organisation = self._of(call)
        limit = self._limits.org_calls_in_flight_max
        if organisation.calls + organisation.arriving >= limit:
            return quota_refused("org_calls_in_flight_max", limit, ORGANIZATION, IN_FLIGHT_RETRY_S)
        organisation.arriving += 1
        return None

    def got_request(self, call: Call) -> None:
        """Gives that place back."""
        self._of(call).arriving -= 1

    def enter(self, call: Call, request: bytes) -> Refused | None:
        """Takes a place for a call, to be given back by `leave`; or says which quota is used up."""
        method = self._methods[call.method]
        items, call.is_too_long = _items(request, method.items_tag) if method.items_tag else (1, False)
        caller = call.known_caller
        organisation = self._of(call)
        refused = self._is_full(organisation, call, items, is_watch=method.is_watch)
        if refused is None:
            refused = self._charge(organisation, (caller.org_id, caller.client, method.quota), items)
        if refused is None:
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

    def _charge(self, organisation: _Organisation, client: tuple[int, str, str], items: int) -> Refused | None:
        """Counts a call in both rates, or in none. What is larger than a whole burst waits for a full one."""
        now, burst = self._monotonic_ns(), self._burst_ns
        quota = client[2]
        rate, org_rate = self._rates[quota], self._limits.org_calls_per_s
        cost, org_cost = items * _SECOND_NS // rate, items * _SECOND_NS // org_rate
        busy_until = max(self._clients.get(client, 0), now)
        org_busy_until = max(organisation.busy_until_ns, now)
        wait = busy_until - now + min(cost, burst) - burst
        if wait > 0:
            return quota_refused(quota, rate, CLIENT, wait / _SECOND_NS)
        wait = org_busy_until - now + min(org_cost, burst) - burst
        if wait > 0:
            return quota_refused("org_calls_per_s", org_rate, ORGANIZATION, wait / _SECOND_NS)
        if len(self._clients) >= self._clients_max:
            self._forget_idle(now)
        self._clients[client] = busy_until + cost
        organisation.busy_until_ns = org_busy_until + org_cost
        return None

    def _forget_idle(self, now: int) -> None:
        """Lets go of clients that asked nothing lately: they are as those who never asked."""
        self._clients = {client: until for client, until in self._clients.items() if until > now}
        self._clients_max = max(CLIENTS_MAX, 2 * len(self._clients))


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
