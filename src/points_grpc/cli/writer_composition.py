"""The composition root of the writer's process: what decides and writes, and nothing else.

Everything it is told comes in the first frame; secrets it reads from the keys file. Neither gRPC nor protobuf is
imported, directly or not: it needs neither, and what it imports is part of how soon a server is back.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from points_grpc import __version__
from points_grpc.cli.collector import calm_collector
from points_grpc.cli.watched_keys import NoKeysLog, WatchedKeys
from points_grpc.domain import model
from points_grpc.service.channel import Channel, ServerGone
from points_grpc.service.executor import Executor
from points_grpc.service.frames import Garbled, Hello, Setup, Unable
from points_grpc.service.ids import IdSource
from points_grpc.service.meter import Meter
from points_grpc.service.ports import StorageConflict, StorageFull, StorageUnavailable, WriterFenced
from points_grpc.service.writer import Writer, bug_report
from points_grpc.storage.driver import Probe
from points_grpc.storage.engine import Database, NotDurable, SchemaMismatch
from points_grpc.storage.lease import LeaseHeld
from points_grpc.storage.opening import open_repository
from points_grpc.storage.repository import SqlRepository
from points_grpc.storage.schema import REVISION

READERS = 2
"""Connections for what the writer reads apart from its transactions: the schema's revision, configurations."""

CONFLICT_PAUSE_S = 0.005
"""The first pause before a batch is run again after a conflict; it doubles, with jitter."""

CANNOT_START = (LeaseHeld, NotDurable, SchemaMismatch, StorageConflict, StorageFull, StorageUnavailable, ValueError)
"""What an operator can mend, and is told in a sentence."""


def run(stream: int, marks: int) -> int:
    """Serves the link until it ends; returns the exit code: 0 after its end, 1 after a bug or if it cannot write."""
    channel = Channel(socket.socket(fileno=stream), marks)
    try:
        return _serve(channel, _setup(channel))
    except ServerGone:
        return 0
    except Exception as error:  # noqa: BLE001 - the last resort, and the text of it may hold values of customers
        channel.send(bug_report(error))
        return 1
    finally:
        channel.close()


def _setup(channel: Channel) -> Setup:
    [first] = channel.receive(block=True)
    if not isinstance(first, Setup):
        raise Garbled
    return first


def _serve(channel: Channel, setup: Setup) -> int:
    meter = Meter()
    database = Database(setup.database, readers=READERS)
    try:
        repository = open_repository(database, lease_wait_s=setup.lease_wait_s, probe=_probe(meter, setup))
        last_id = repository.last_id()
        keys = WatchedKeys(Path(setup.keys_file), NoKeysLog())
    except CANNOT_START as error:
        channel.send(Unable(str(error)))
        return 1
    except click.ClickException as error:
        channel.send(Unable(error.message))
        return 1
    executor = Executor(
        repository,
        next_id=IdSource(repository.slot.number, lambda: time.time_ns() // 1_000_000, after=last_id),
        keyring=keys.keyring,
        channels=frozenset(model.Channel(one) for one in setup.channels),
        monotonic=time.monotonic,
        meter=meter,
        traced=setup.traced,
        publishes=setup.publishes,
    )
    writer = Writer(
        executor,
        channel,
        monotonic=time.monotonic,
        pause=_pause,
        sleep=time.sleep,
        batch_max=setup.batch_max,
        keep_lease=repository.keep_lease,
        meter=meter,
    )
    calm_collector()
    keys.start()
    with _closing(repository, database):
        channel.send(_hello(repository))
        try:
            writer.serve()
        except WriterFenced as error:
            channel.send(Unable(str(error)))
            return 1
    return 0


def _probe(meter: Meter, setup: Setup) -> Probe | None:
    """What tells a trace which statements begin."""
    return (lambda text: meter.step(time.monotonic(), text)) if setup.traced else None


def _hello(repository: SqlRepository) -> Hello:
    durability = repository.durability
    return Hello(
        version=__version__,
        pid=os.getpid(),
        slot=repository.slot.number,
        epoch=repository.slot.epoch,
        schema_revision=REVISION,
        backend=repository.backend_name,
        durability=durability.settings,
        durable=durability.survives_power_loss,
    )


@contextmanager
def _closing(repository: SqlRepository, database: Database) -> Iterator[None]:
    """The lease is given back at the end, after the connections."""
    try:
        yield
    finally:
        repository.close()
        database.close()


def _pause(attempt: int) -> None:
    time.sleep(CONFLICT_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
