"""What all suites share: the summary of how long each suite took, and of what tests record under "summary"."""

from __future__ import annotations

from collections import defaultdict

import pytest


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
