"""The same scenario by Go, Java, Node and Python against one server, each through a proxy that cuts its first answer.

Each program runs in an organisation of its own, and prints the same lines: the transfer was replayed and done once, the
refusal has its numbers, the warning its code, and the wallets are the same.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from toolchains import ALL, EXAMPLES, ROOT, Example, toolchains_are_required

from client_world import ClientShop, open_shop
from cutting_proxy import CuttingProxy
from running import RunningServer

EXPECTED = [
    '{"step":"transfer","points":"1000","replayed":true}',
    (
        '{"step":"refusal","code":817,"reason":"TRANSFER_INSUFFICIENT_POINTS",'
        '"points":"9000","current":"7500","short_by":"1500"}'
    ),
    (
        '{"step":"warning","code":876,"reason":"REDEEMABLE_BUT_OTP_NOT_ISSUED",'
        '"message":"Points are redeemable but unable to generate OTP."}'
    ),
    '{"step":"wallet","customer_id":"565039505","current":"7500","redeemable":"7500","transferable":"7500"}',
    '{"step":"wallet","customer_id":"565039506","current":"1000","redeemable":"1000","transferable":"1000"}',
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("polyglot"))
    yield running
    running.close()


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_all_four(server: RunningServer, record_property: Callable[[str, object], None]) -> None:
    """All four print the same lines. Without its toolchain one says so in the summary; on CI that fails."""
    missing = {one.language: one.missing() for one in ALL if one.missing()}
    there = [one for one in ALL if one.language not in missing]
    for language, tools in missing.items():
        record_property("summary", f"examples/{language}: NOT RUN, missing: {', '.join(tools)}")
    assert not (missing and toolchains_are_required()), missing

    org_ids = [server.organisation(one.language) for one in there]
    tokens = [server.key(org_id) for org_id in org_ids]
    server.start()
    shops = [open_shop(server, org_id, token) for org_id, token in zip(org_ids, tokens, strict=True)]
    with ThreadPoolExecutor(2) as threads:
        for one, seconds in zip(there, threads.map(Example.make, there), strict=True):
            record_property("summary", f"examples/{one.language}: built in {seconds:.0f} s")

    assert {one.language: (EXPECTED, 1) for one in there} == {
        one.language: run_through_a_cut(one, shop) for one, shop in zip(there, shops, strict=True)
    }


def run_through_a_cut(example: Example, shop: ClientShop) -> tuple[list[str], int]:
    """What a program prints whose first answer is cut, and how many were."""
    with CuttingProxy(shop.server.port) as proxy:
        return example.lines(proxy.address, shop.token), proxy.cuts_made


def test_the_readme_of_the_examples_shows_what_they_print() -> None:
    """What examples/README.md shows are the lines above, for a program whose first answer was not cut."""
    shown = (EXAMPLES / "README.md").read_text().split("```json\n")[1].split("\n```")[0].splitlines()

    assert [EXPECTED[0].replace("true", "false"), *EXPECTED[1:]] == shown


def test_nothing_that_is_made_is_committed() -> None:
    """Stubs, builds and lock files that hold addresses stay out of the repository."""
    committed = subprocess.run(
        ["git", "ls-files", "examples", "deploy"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    made = ("/gen/", "/target/", "/node_modules/", "/dist/", "package-lock.json", "grpc-gateway/gateway")

    assert [] == [path for path in committed if any(part in path for part in made)]
