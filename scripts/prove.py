"""Runs the proofs and writes down what came out, with figures.

    scripts/prove                    the long forms, at most 75 minutes
    scripts/prove --quick            the short forms, in minutes: shows that the proofs run
    scripts/prove --only fuzz kill   some of them
    scripts/prove --lanes 1          one after the other
    scripts/prove --report FILE      writes elsewhere than to prove-report.md

Each proof is a run of pytest over suites that are there anyway; this file knows which, and in which form. First come
those that measure somebody's waiting, each alone on the machine; of the others two run at a time. Tests tell
their figures by `record_property("figure.<name>", number)`: figures of one name are added up, those whose name ends
with ", s" are times, of which the longest counts. The run fails if a test failed, or was not run because time was up.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from bench_machine import Machine, look_around

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "prove-report.md"
LIMIT_MINUTES = 75
LANES = 2
FIGURE = "figure."
SECONDS = ", s"
PROGRESS_S = 30.0
TEST_S = 900
"""How long a test may take that sets no limit itself: what a developer waits for is no measure here."""

SHOWN_CHARS = 60_000
"""How much of the log of a proof that does not hold is shown: what failed first stands far from its end."""

MUST_BE_ZERO = ("acknowledged lost", "doubled", "unreconciled", "cycles and other violations", "failures of ours")
"""Figures that say that a promise was broken, wherever they come from."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What is proved, and by which tests in either form. `alone`: its figures tell what somebody waits."""

    name: str
    proves: str
    tests: Sequence[str]
    long_marks: str
    quick_marks: str
    quick_tests: Sequence[str] = ()
    quick_environment: Mapping[str, str] = field(default_factory=dict)
    alone: bool = False


PROOFS = (
    Proof(
        "model",
        "random commands answered as by a model that was written from the contract alone",
        ("tests/model/test_model.py",),
        "long",
        "not long",
        quick_environment={"POINTS_MODEL_EXAMPLES": "15"},
    ),
    Proof(
        "kill",
        "kill -9 of server, writer or both under 64 callers",
        ("tests/faults/test_kill.py",),
        "long",
        "not long",
    ),
    Proof(
        "order",
        "strictly serial: the history of concurrent calls through kills, on both engines",
        ("tests/faults/test_history.py", "tests/faults/test_serial_order.py"),
        "not ci",
        "not long",
    ),
    Proof(
        "workers",
        "one effect of a command sent again through two workers; death and standstill of workers",
        ("tests/faults/test_workers.py",),
        "ci or long",
        "not long",
    ),
    Proof(
        "restarts",
        "rolling restarts of two servers: no call of the shipped client fails",
        ("tests/faults/test_rolling_restart.py",),
        "long",
        "not long",
    ),
    Proof(
        "faults",
        "drain, contention, death of the writer, durability, backup, duty, guesses, imports and checkpoints cut short",
        tuple(
            f"tests/faults/test_{name}.py"
            for name in (
                "backup",
                "checkpoint_kill",
                "contention",
                "drain",
                "durability",
                "guesses",
                "import_kill",
                "one_dispatcher",
                "starts",
                "writer",
            )
        ),
        "not long",
        "not ci and not long",
        quick_tests=("tests/faults/test_writer.py", "tests/faults/test_durability.py", "tests/faults/test_drain.py"),
    ),
    Proof(
        "disk",
        "a full disk under load, on both engines: refused as such, nothing lost, and no restart afterwards",
        ("tests/faults/test_disk_full.py",),
        "ci or long",
        "not long",
    ),
    Proof(
        "clock",
        "jumps of the calendar clock by hours, both ways: ids, order, codes, leases, expiry",
        ("tests/faults/test_clock_jumps.py",),
        "ci or long",
        "not long",
    ),
    Proof(
        "failover",
        "PostgreSQL fails over to a synchronous standby under load; an asynchronous one is found to lose",
        ("tests/faults/test_failover.py",),
        "ci or long",
        "not long",
    ),
    Proof(
        "overload",
        "1.3, 2 and 5 times more calls than can be carried: what is still done of them, memory, recovery",
        ("tests/faults/test_overload.py",),
        "long",
        "not long",
        alone=True,
    ),
    Proof(
        "abuse",
        "HTTP/2 abuse and an organisation beyond its quota: what they cost somebody else",
        ("tests/faults/test_http2_abuse.py", "tests/faults/test_loud_organisation.py"),
        "ci or long",
        "not long",
        alone=True,
    ),
    Proof(
        "statements",
        "a fault at every statement, commits of unknown outcome, two writers at every gate",
        ("tests/service/test_executor.py", "tests/service/test_two_writers.py", "tests/storage/test_faults.py"),
        "ci or long or not ci",
        "not ci and not long",
    ),
    Proof(
        "model-planted",
        "the model finds rule changes that are planted in the service",
        ("tests/model/test_planted.py",),
        "ci or long or not ci",
        "not long",
        quick_tests=("tests/model/test_planted.py::test_planted_rule_change_is_caught[spending order]",),
    ),
    Proof(
        "planted",
        "the suites find bugs that are planted in the sources",
        ("tests/planted",),
        "ci or long or not ci",
        "not long",
    ),
    Proof(
        "fuzz",
        "mutations of valid requests of every RPC, in process and over the wire",
        ("tests/fuzz",),
        "ci or long",
        "not long",
        quick_environment={"POINTS_FUZZ_CASES": "3000"},
    ),
)


@dataclass(slots=True)
class Outcome:
    """What came of a proof."""

    proof: Proof
    seconds: float = 0.0
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ran: bool = True

    @property
    def holds(self) -> bool:
        """Whether it ran, nothing failed, and no figure says that a promise was broken."""
        broken = any(self.figures.get(name) for name in MUST_BE_ZERO)
        return self.ran and self.passed > 0 and not self.failed and not broken


def main() -> int:
    """Runs what was asked for; 0 if all of it holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the short forms")
    parser.add_argument("--only", nargs="+", choices=[one.name for one in PROOFS], help="some of the proofs")
    parser.add_argument("--report", type=Path, default=REPORT, help="where to write the report")
    parser.add_argument("--lanes", type=int, default=LANES, help="how many proofs run at a time, where that is allowed")
    parser.add_argument("--minutes", type=float, default=LIMIT_MINUTES, help="when to stop")
    arguments = parser.parse_args()

    began, started = datetime.now(UTC), time.monotonic()
    until = started + arguments.minutes * 60
    wanted = [one for one in PROOFS if not arguments.only or one.name in arguments.only]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="points-prove-") as name:
        machine = look_around(Path(name))
        for outcome in in_lanes(wanted, arguments.lanes, Path(name), quick=arguments.quick, until=until):
            outcomes = sorted([*outcomes, outcome], key=lambda one: PROOFS.index(one.proof))
            text = report(outcomes, machine, began, time.monotonic() - started, quick=arguments.quick)
            arguments.report.write_text(text, encoding="utf-8")
    print(f"prove: report in {arguments.report}")
    if all(one.holds for one in outcomes):
        print("prove: OK")
        return 0
    print(f"prove: FAILED: {', '.join(one.proof.name for one in outcomes if not one.holds)}", file=sys.stderr)
    return 1


def in_lanes(proofs: Sequence[Proof], lanes: int, folder: Path, *, quick: bool, until: float) -> Iterator[Outcome]:
    """Runs proofs: those that want to be alone one by one, then the others in lanes. What came of each, as it ends."""
    for proof in proofs:
        if proof.alone:
            yield run(proof, folder, quick=quick, until=until)
    with ThreadPoolExecutor(lanes) as pool:
        others = [pool.submit(run, one, folder, quick=quick, until=until) for one in proofs if not one.alone]
        for done in as_completed(others):
            yield done.result()


def run(proof: Proof, folder: Path, *, quick: bool, until: float) -> Outcome:
    """Runs the tests of a proof within the time that is left."""
    outcome = Outcome(proof)
    left_s = until - time.monotonic()
    if left_s <= 0:
        outcome.ran = False
        print(f"prove: {proof.name}: not run, time is up", flush=True)
        return outcome
    print(f"prove: {proof.name}: {proof.proves} ...", flush=True)
    results, log = folder / f"{proof.name}.xml", folder / f"{proof.name}.log"
    tests = (proof.quick_tests or proof.tests) if quick else proof.tests
    marks = proof.quick_marks if quick else proof.long_marks
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marks]
    command += ["-o", "junit_family=xunit1", "-o", f"timeout={TEST_S}", f"--junitxml={results}", *tests]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **(proof.quick_environment if quick else {})}
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        outcome.ran = watch(process, proof, until)
    outcome.seconds = time.monotonic() - started
    if results.exists():
        read(results, outcome)
    if process.returncode != 0 and not outcome.failed:
        outcome.failed.append(f"pytest ended with {process.returncode}")
    if not outcome.holds:
        print(log.read_text(encoding="utf-8", errors="replace")[-SHOWN_CHARS:], flush=True)
    verdict = "holds" if outcome.holds else "DOES NOT HOLD"
    print(f"prove: {proof.name}: {verdict}, {outcome.passed} tests, {outcome.seconds:.0f} s", flush=True)
    return outcome


def watch(process: subprocess.Popen[bytes], proof: Proof, until: float) -> bool:
    """Waits for a proof and says from time to time that it goes on; False if time was up before."""
    started = time.monotonic()
    while True:
        try:
            process.wait(timeout=max(0.1, min(PROGRESS_S, until - time.monotonic())))
            return True
        except subprocess.TimeoutExpired:
            if time.monotonic() >= until:
                process.terminate()
                process.wait(timeout=60)
                return False
            print(f"prove: {proof.name}: {time.monotonic() - started:.0f} s so far", flush=True)


def read(results: Path, outcome: Outcome) -> None:
    """Reads what pytest wrote: how many passed, what failed, and the figures."""
    for case in ElementTree.parse(results).getroot().iter("testcase"):  # noqa: S314 - pytest wrote it a moment ago
        if any(case.find(kind) is not None for kind in ("failure", "error", "skipped")):
            outcome.failed.append(f"{case.get('classname')}::{case.get('name')}")
        else:
            outcome.passed += 1
        for one in case.iter("property"):
            name, value = one.get("name", ""), one.get("value", "")
            if name.startswith(FIGURE):
                add(outcome.figures, name.removeprefix(FIGURE), float(value))
            elif name == "summary":
                outcome.notes.append(value)


def add(figures: dict[str, float], name: str, value: float) -> None:
    """Adds a figure to those of the same name; of times the longest counts."""
    figures[name] = max(figures.get(name, 0.0), value) if name.endswith(SECONDS) else figures.get(name, 0.0) + value


# -- the report --------------------------------------------------------------------------------------------------------


def report(outcomes: Sequence[Outcome], machine: Machine, began: datetime, seconds: float, *, quick: bool) -> str:
    """The report as Markdown."""
    holds = all(one.holds for one in outcomes)
    form = "Short" if quick else "Long"
    where = f"{machine.processor}, {machine.cores} cores, {machine.system}, {machine.filesystem}"
    how = f"{machine.fsync_ms:.2f} ms an fsync, load before {machine.load_before}; {machine.software}"
    lines = [
        "# What was proved",
        "",
        f"{form} forms, {began:%Y-%m-%d %H:%M} UTC, commit {commit()}, {seconds / 60:.0f} minutes.",
        f"{where}, {how}.",
        "",
        f"**{'All proofs hold' if holds else 'NOT ALL PROOFS HOLD'}.**",
        "",
        *totals(outcomes),
        "",
        "| proof | what it shows | verdict | tests | seconds | figures |",
        "| --- | --- | --- | --- | --- | --- |",
        *(row(one) for one in outcomes),
    ]
    if failed := [(one.proof.name, name) for one in outcomes for name in one.failed]:
        lines += ["", "## What failed", "", *(f"- {proof}: `{name}`" for proof, name in failed)]
    lines += ["", "## In the words of the tests"]
    for one in outcomes:
        if one.notes:
            lines += ["", f"### {one.proof.name}", "", "```", *one.notes, "```"]
    return "\n".join(lines) + "\n"


def totals(outcomes: Iterable[Outcome]) -> list[str]:
    """The figures of all proofs together."""
    together: dict[str, float] = {}
    for outcome in outcomes:
        for name, value in outcome.figures.items():
            add(together, name, value)
    return ["| figure | |", "| --- | --- |", *(f"| {name} | {value:g} |" for name, value in sorted(together.items()))]


def row(outcome: Outcome) -> str:
    """The line of a proof."""
    verdict = "holds" if outcome.holds else ("does not hold" if outcome.ran else "time was up")
    figures = "; ".join(f"{name} {value:g}" for name, value in sorted(outcome.figures.items()))
    cells = (outcome.proof.name, outcome.proof.proves, verdict, str(outcome.passed), f"{outcome.seconds:.0f}", figures)
    return f"| {' | '.join(cells)} |"


def commit() -> str:
    """What was proved."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
