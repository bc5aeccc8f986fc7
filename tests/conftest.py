"""What all suites share: the backends that tests run on, and the summary of how long each suite took, and of what tests
record under "summary".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pytest

from databases import NewDatabase, on_postgres, on_sqlite
from postgres_cluster import Cluster, cluster

BACKENDS = ("sqlite", "postgresql")

LONGEST_FIRST = (
    "bench",
    "planted",
    "model",
    "polyglot",
    "conformance",
    "e2e",
    "faults",
    "fuzz",
    "docs",
    "imports",
    "cli",
    "client",
)
"""The suites that start servers come first, so that the processes of the tests end together; a file is run by one of
them, so that what its tests share is started once."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server, one for each process of the tests; a test that needs one fails where there is none."""
    with cluster() as found:
        yield found


@pytest.fixture(scope="session", params=BACKENDS)
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    """Makes empty databases; what uses it runs once on each backend."""
    return on_sqlite if request.param == "sqlite" else on_postgres(request.getfixturevalue("postgres"))


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.ci)])
def new_database_in_ci(request: pytest.FixtureRequest) -> NewDatabase:
    """As `new_database`, for suites that take long: on PostgreSQL in CI only."""
    return on_sqlite if request.param == "sqlite" else on_postgres(request.getfixturevalue("postgres"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the suites in their order."""
    items.sort(key=place)


def place(item: pytest.Item) -> int:
    """Where the suite of a test stands."""
    suite = item.nodeid.split("/")[1]
    return LONGEST_FIRST.index(suite) if suite in LONGEST_FIRST else len(LONGEST_FIRST)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--record` (without `-n`) takes down what the service answers now, for tests/conformance; it is committed."""
    parser.addoption("--record", action="store_true", help="write recorded.json and docs/codes.md")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints tests and seconds of each suite, a folder of tests/, and the notes that tests recorded."""
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, int] = defaultdict(int)
    told: list[str] = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            if not isinstance(report, pytest.TestReport):
                continue
            parts = report.nodeid.split("/")
            suite = parts[1] if len(parts) > 2 else "tests"
            seconds[suite] += report.duration
            tests[suite] += report.when == "call"
            if report.when == "call":
                told += [str(text) for name, text in report.user_properties if name == "summary"]
    terminalreporter.section("suites")
    for suite in sorted(seconds):
        terminalreporter.write_line(f"{suite:<14} {tests[suite]:>5} tests {seconds[suite]:8.1f} s of work")
    for text in told:
        terminalreporter.write_line(text)
