"""One server for all tests of the client; each test has an organisation of its own, and its key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from client_world import ClientShop, open_shop
from running import RunningServer

ORGANISATIONS = 40
"""More than there are tests that want one. Made before the start: a running server takes seconds to see a new key."""


@dataclass(frozen=True)
class Mall:
    """A server, and organisations that nobody has used."""

    server: RunningServer
    tokens: Iterator[tuple[int, str]]


@pytest.fixture(scope="session")
def mall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mall]:
    server = RunningServer(tmp_path_factory.mktemp("client"))
    org_ids = [server.organisation(f"client-{number}") for number in range(ORGANISATIONS)]
    tokens = [(org_id, server.key(org_id)) for org_id in org_ids]
    server.start()
    yield Mall(server, iter(tokens))
    server.close()


@pytest.fixture
def shop(mall: Mall) -> ClientShop:
    org_id, token = next(mall.tokens)
    return open_shop(mall.server, org_id, token)
