"""What all suites share: the summary of how long each suite took."""

from __future__ import annotations

from collections import defaultdict

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints tests and seconds of each suite, a folder of tests/, and the notes that tests recorded."""
    notes: list[str] = []
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, int] = defaultdict(int)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if not isinstance(report, pytest.TestReport):
                continue
            parts = report.nodeid.split("/")
            suite = parts[1] if len(parts) > 2 else "tests"
            seconds[suite] += report.duration
            tests[suite] += report.when == "call"
            if report.when == "call":
                notes += [str(value) for key, value in report.user_properties if key == "note"]
    terminalreporter.section("suites")
    for suite in sorted(seconds):
        terminalreporter.write_line(f"{suite:<14} {tests[suite]:>5} tests {seconds[suite]:8.1f} s of work")
    for note in sorted(notes):
        terminalreporter.write_line(note)
