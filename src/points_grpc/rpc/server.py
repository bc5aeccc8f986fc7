"""The gRPC server: all services, health, reflection, limits; how it starts and how it drains.

The composition root hands in a `Wiring`. Which event loop runs, which signals stop it and where settings come from is
decided there and not here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from points_grpc.rpc.answers import Answers
from points_grpc.rpc.catalog_service import CatalogServicer
from points_grpc.rpc.customer_service import CustomerServicer
from points_grpc.rpc.exports import Exports
from points_grpc.rpc.health import Health
from points_grpc.rpc.interceptor import EXEMPT, Gate, required_roles
from points_grpc.rpc.issuance_service import IssuanceServicer
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.listings import Listings
from points_grpc.rpc.metrics import NoMetrics
from points_grpc.rpc.pages import Pages, TokenKeys
from points_grpc.rpc.points_service import PointsServicer
from points_grpc.rpc.ports import (
    CallLog,
    Checker,
    Exporting,
    Facts,
    Identity,
    Lists,
    Metrics,
    Reads,
    Submitter,
    Tracer,
    Watching,
)
from points_grpc.rpc.positions import Positions
from points_grpc.rpc.program_service import ProgramServicer
from points_grpc.rpc.quotas import Quotas
from points_grpc.rpc.rates import Rates
from points_grpc.rpc.self_description import SelfDescription
from points_grpc.rpc.serve import Desk
from points_grpc.rpc.signature import Signatures
from points_grpc.rpc.wallet_service import WalletServicer
from points_grpc.rpc.watches import Watches
from points_grpc.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    codes_pb2,
    customer_service_pb2,
    customer_service_pb2_grpc,
    issuance_service_pb2,
    issuance_service_pb2_grpc,
    points_service_pb2,
    points_service_pb2_grpc,
    program_service_pb2,
    program_service_pb2_grpc,
    wallet_service_pb2,
    wallet_service_pb2_grpc,
)

SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    file.DESCRIPTOR.services_by_name[name]
    for file, name in (
        (points_service_pb2, "PointsService"),
        (issuance_service_pb2, "IssuanceService"),
        (wallet_service_pb2, "WalletService"),
        (customer_service_pb2, "CustomerService"),
        (program_service_pb2, "ProgramService"),
        (catalog_service_pb2, "CatalogService"),
    )
)
"""Every service of ours."""

RESOLVABLE = (error_details_pb2.DESCRIPTOR, codes_pb2.DESCRIPTOR)
"""Files that no service imports and that reflection must resolve: what refusals carry, and the catalogue's options."""


DRAIN_TICK_S = 0.04
"""How often a draining server looks whether its calls have ended."""

DRAIN_QUIET_TICKS = 2
"""For so many ticks nothing may have come before it stops. grpc.aio takes calls one by one; those that it has received
and not yet taken when it stops end as CANCELLED, which tells nobody anything."""

DROPPED_S = 0.5
"""How long the commands that the writer has in hand may still take once the grace is over and the rest was dropped."""

TOLD_S = 1.0
"""How long the statuses of calls that were cut off may take to leave."""


def _now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What a server is made of.

    `token_keys` gives the same on every process of a deployment. `exempt` are the beginnings of method names that need
    no credential: health and reflection, unless the deployment wants one there too. `rates` are those that the
    processes on the port share; None: of this process alone. `shares_port`: other processes of the deployment bind the
    same port, and the system spreads connections over them.
    """

    submitter: Submitter
    checker: Checker
    reads: Reads
    lists: Lists
    watching: Watching
    exporting: Exporting
    identity: Identity
    facts: Facts
    log: CallLog
    token_keys: TokenKeys = field(repr=False)
    metrics: Metrics = field(default_factory=NoMetrics)
    tracer: Tracer | None = None
    limits: Limits = field(default_factory=Limits)
    rates: Rates | None = None
    clock: Callable[[], datetime] = _now
    exempt: tuple[str, ...] = EXEMPT
    has_reflection: bool = True
    shares_port: bool = False


class PointsServer:
    """One server: `bind`, then `start`; `drain` ends it."""

    def __init__(self, wiring: Wiring) -> None:
        """Builds the server. Must run in the event loop that will serve."""
        limits = wiring.limits
        self._limits = limits
        self._submitter = wiring.submitter
        self._is_started = self._is_suspended = False
        self._gate = Gate(
            identity=wiring.identity,
            roles=required_roles(SERVICES),
            limits=limits,
            metrics=wiring.metrics,
            log=wiring.log,
            signatures=Signatures(wiring.clock),
            quotas=Quotas(SERVICES, limits, rates=wiring.rates),
            exempt=wiring.exempt,
            tracer=wiring.tracer,
        )
        self._server = grpc.aio.server(
            interceptors=(self._gate,),
            options=channel_options(limits, shares_port=wiring.shares_port),
            maximum_concurrent_rpcs=limits.concurrent_calls_max,
        )
        self._health = Health(service.full_name for service in SERVICES)
        methods = _GenericOnly(self._server)
        add_services(methods, wiring)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, methods)
        if wiring.has_reflection:
            names = [service.full_name for service in SERVICES]
            names += [health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self._server)  # it looks whether the server is asynchronous

    @property
    def not_ready(self) -> str:
        """Why it does not serve, in a word; empty if it does."""
        return self._health.not_ready or ""

    @property
    def calls_in_flight(self) -> int:
        """How many calls are being served, watches left out."""
        return self._gate.serving

    def bind(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Takes an address, with TLS if there are credentials, and returns the port."""
        if credentials is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, credentials)

    async def start(self) -> None:
        """Starts to serve, and says so."""
        await self._server.start()
        self._is_started = True
        if not self._is_suspended:
            self._health.serve()

    def suspend(self) -> None:
        """Says that it cannot serve for the time being, for want of a writer. Reads are answered all the same."""
        self._is_suspended = True
        self._health.suspend()

    def resume(self) -> None:
        """Says that it serves again."""
        self._is_suspended = False
        if self._is_started:
            self._health.serve()

    async def drain(self, grace_s: float | None = None) -> None:
        """Says that it serves no more, refuses what still comes, lets calls end for a while, and stops.

        The port stays open until the last call has ended: whoever comes meanwhile is told so (896, 898), where a closed
        port would leave callers to guess. Calls that outlast the grace are told what is known of them: what waited for
        the writer was not taken (896, 898), what it has in hand is answered or open (887, 896 UNKNOWN).
        """
        self._health.stop()
        self._gate.drain()
        until = time.monotonic() + (self._limits.drain_grace_s if grace_s is None else grace_s)
        await self._quiet(until)
        if self._gate.serving:
            self._submitter.drop_waiting()
            await self._quiet(time.monotonic() + DROPPED_S)
            self._gate.cut_off()
        await self._server.stop(max(TOLD_S, until - time.monotonic()))

    async def _quiet(self, until: float) -> None:
        """Waits until all calls have ended and no more come."""
        quiet_ticks = 0
        while quiet_ticks < DRAIN_QUIET_TICKS and time.monotonic() < until:
            arrived = self._gate.arrived
            await asyncio.sleep(DRAIN_TICK_S)
            is_quiet = arrived == self._gate.arrived and not self._gate.serving
            quiet_ticks = quiet_ticks + 1 if is_quiet else 0

    async def wait(self) -> None:
        """Waits until the server has stopped."""
        await self._server.wait_for_termination()


class _GenericOnly:
    """Registers methods as generic handlers alone.

    For methods that are registered by name, too, grpc.aio 1.85 waits on one future for each of them at every call: 60
    of 960 microseconds a transfer, and more with every RPC that is added.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Leaves them out: the generic handlers serve them."""


def add_services(server: Any, wiring: Wiring) -> None:
    """Adds all services of ours to a server."""
    desk = Desk(wiring.submitter, wiring.checker, wiring.clock)
    pages = Pages(wiring.token_keys)
    answers = Answers(wiring.reads, pages, wiring.clock)
    listings = Listings(wiring.reads, wiring.lists, pages, wiring.clock)
    watches = Watches(
        wiring.watching,
        answers,
        Positions(wiring.token_keys),
        wiring.clock,
        bookmark_s=wiring.limits.watch_bookmark_ms / 1000,
    )
    exports = Exports(wiring.exporting, wiring.clock, org_exports_max=wiring.limits.org_exports_max)
    description = SelfDescription(wiring.facts, wiring.limits, wiring.clock)
    points_service_pb2_grpc.add_PointsServiceServicer_to_server(PointsServicer(desk), server)
    issuance_service_pb2_grpc.add_IssuanceServiceServicer_to_server(IssuanceServicer(desk), server)
    wallet_service_pb2_grpc.add_WalletServiceServicer_to_server(
        WalletServicer(desk, answers, listings, watches, exports), server
    )
    customer_service_pb2_grpc.add_CustomerServiceServicer_to_server(CustomerServicer(desk, answers, listings), server)
    program_service_pb2_grpc.add_ProgramServiceServicer_to_server(ProgramServicer(desk, answers), server)
    catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(CatalogServicer(desk, description), server)


def channel_options(limits: Limits, *, shares_port: bool = False) -> tuple[tuple[str, int], ...]:
    """The limits as the core takes them. Decompression stays on: the message size is measured unpacked."""
    return (
        ("grpc.max_receive_message_length", limits.request_message_bytes_max),
        ("grpc.max_metadata_size", limits.metadata_bytes_soft_max),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes_max),
        ("grpc.max_concurrent_streams", limits.concurrent_streams_max),
        # With it the core refuses, bare, what a client may rightly send once it has seen another call end.
        ("grpc.http.overload_protection", 0),
        ("grpc.server.max_pending_requests", limits.pending_calls_soft_max),
        ("grpc.server.max_pending_requests_hard_limit", limits.pending_calls_max),
        ("grpc.server_max_unrequested_time_in_server", limits.pending_age_max_s),
        ("grpc.max_allowed_incoming_connections", limits.connections_max),
        ("grpc.server_handshake_timeout_ms", limits.handshake_timeout_ms),
        ("grpc.max_connection_idle_ms", limits.connection_idle_ms),
        ("grpc.max_connection_age_ms", limits.connection_age_ms),
        ("grpc.max_connection_age_grace_ms", limits.connection_age_grace_ms),
        ("grpc.keepalive_time_ms", limits.keepalive_time_ms),
        ("grpc.keepalive_timeout_ms", limits.keepalive_timeout_ms),
        ("grpc.http2.max_ping_strikes", limits.ping_strikes_max),
        ("grpc.http2.min_ping_interval_without_data_ms", limits.ping_interval_min_ms),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", limits.ping_interval_min_ms),
        ("grpc.so_reuseport", int(shares_port)),
    )
