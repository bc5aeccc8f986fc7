"""The limits of the wire: each a named setting with its unit, a default and a reason. GetServerInfo serves them all.

Limits on what a request may say stand in the proto comments and in parse; those of the decision core stand there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from points_grpc.rpc.ports import LimitFact


def _limit(default: int, unit: str) -> int:
    """A limit with its unit."""
    return field(default=default, metadata={"unit": unit})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one server."""

    request_message_bytes_max: int = _limit(1_048_576, "bytes")
    """A batch of 1,000 requests has about 300 KB; a compressed message is measured unpacked."""

    metadata_bytes_soft_max: int = _limit(8_192, "bytes")
    """Up to here the core takes all metadata, above it refuses some at random, from `metadata_bytes_max` on all."""

    metadata_bytes_max: int = _limit(16_384, "bytes")
    """Checked again by the interceptor: a client that sends before it has read our settings gets past the core."""

    concurrent_streams_max: int = _limit(128, "calls per connection")
    """Keeps overload out: a call that waits in the client costs the server nothing."""

    concurrent_calls_max: int = _limit(4_096, "calls")
    """The outer guard of memory. Refused without details; the queue of the writer sheds earlier and with them."""

    pending_calls_soft_max: int = _limit(2_048, "calls")
    """Calls that the core holds until the server takes them, one by one: up to here all, above it some are ended at
    random, from `pending_calls_max` on all. Its own 1,000 were a quarter of what the server serves at once."""

    pending_calls_max: int = _limit(4_096, "calls")
    """As many as are served at once. Some 10 KB each."""

    pending_age_max_s: int = _limit(1, "s")
    """How long a call may be held so. The core ends what it held for longer, unseen, as CANCELLED: in order of arrival,
    more calls than can be carried would all be served when their callers are about to give up, and none in time."""

    guest_calls_max: int = _limit(256, "calls")
    """Calls at once of health and reflection, which show no credential; beyond, the oldest is ended for the newest."""

    connections_max: int = _limit(4_096, "connections")
    """The outer guard of file descriptors."""

    handshake_timeout_ms: int = _limit(5_000, "ms")
    """Ends connections that never say anything."""

    connection_idle_ms: int = _limit(300_000, "ms")
    """Ends connections without calls."""

    connection_age_ms: int = _limit(1_800_000, "ms")
    """Spreads clients anew after a rollout, and ends streams that never send their request."""

    connection_age_grace_ms: int = _limit(30_000, "ms")
    """How long calls of an aged connection may still take; no less than `deadline_max_s`."""

    ping_strikes_max: int = _limit(2, "pings")
    """Pings too many or too early before the connection is ended."""

    ping_interval_min_ms: int = _limit(10_000, "ms")
    """How often a client without data to send may ping; common keepalive settings start at 10 s."""

    keepalive_time_ms: int = _limit(60_000, "ms")
    """How long a silent connection may be dead before the server asks."""

    keepalive_timeout_ms: int = _limit(20_000, "ms")
    """How long the server waits for an answer to that."""

    deadline_default_s: int = _limit(10, "s")
    """The deadline of a call that has none: the timeout of a client's service config does not reach the server."""

    deadline_max_s: int = _limit(30, "s")
    """The most that a call may take, whatever its deadline."""

    drain_grace_s: int = _limit(30, "s")
    """How long calls may still take when the server is told to stop."""

    client_reads_per_s: int = _limit(20_000, "calls per second")
    """Reads of one client: five times what a process was measured to answer, so that only a deployment's own figure
    limits anybody."""

    client_writes_per_s: int = _limit(20_000, "calls per second, items of a batch each")
    """Everything else that one client asks."""

    org_calls_per_s: int = _limit(40_000, "calls per second, items of a batch each")
    """All that the clients of one organisation ask."""

    quota_burst_ms: int = _limit(1_000, "ms")
    """How much of its rate a quota lets in at once: a till that was offline for a moment is not refused."""

    org_calls_in_flight_max: int = _limit(2_048, "calls")
    """Calls of one organisation at once: half of `concurrent_calls_max`, or one could keep all others out."""

    org_items_in_flight_max: int = _limit(4_096, "calls, items of a batch each")
    """The same with the items of batches: half of what may wait for the writer. A batch that is larger is taken where
    nothing else of its organisation is going on."""

    org_watches_max: int = _limit(64, "watches")
    """Watches of one organisation at once: each takes a place among the server's calls for as long as it lasts."""

    watches_max: int = _limit(1_024, "watches")
    """Watches of all organisations: a quarter of `concurrent_calls_max`."""

    org_exports_max: int = _limit(2, "exports")
    """Exports of one organisation at once: all exports take turns, so that one organisation's must not be many."""

    watch_poll_ms: int = _limit(100, "ms")
    """How often the journal is looked at for all watches together: what a change may take to be told."""

    watch_bookmark_ms: int = _limit(10_000, "ms")
    """How long a watch is silent at most: what a caller may wait before taking it for dead."""

    def facts(self) -> tuple[LimitFact, ...]:
        """Every limit, for GetServerInfo."""
        return tuple(LimitFact(one.name, getattr(self, one.name), one.metadata["unit"]) for one in fields(self))
