"""The tests, tested: each planted bug makes the test that is named beside it fail, for the bug; without it it passes.

The bug is planted in a copy of the package, which the named test then runs on in a process of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from planted_bugs import PLANTED, Planted

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "points_grpc"
RUN_S = 600
PASSED, FAILED = 0, 1
"""What pytest exits with; anything else means that the tests did not run."""

Record = Callable[[str, object], None]


def test_every_edit_finds_its_place() -> None:
    """The text that a bug replaces stands in its file, once: a table that rots proves nothing."""
    found = {
        (bug.name, edit.file): (PACKAGE / edit.file).read_text(encoding="utf-8").count(edit.old)
        for bug in PLANTED
        for edit in bug.edits
    }

    assert dict.fromkeys(found, 1) == found


def test_every_named_test_is_there() -> None:
    """The files that the table names exist, and the functions are in them."""
    missing = []
    for bug in PLANTED:
        file, *names = bug.test.partition("[")[0].split("::")
        source = (ROOT / file).read_text(encoding="utf-8") if (ROOT / file).exists() else ""
        missing += [bug.test for name in names or [""] if not re.search(rf"(def|class) {name}", source)]

    assert [] == missing


@pytest.mark.ci
@pytest.mark.timeout(RUN_S)
@pytest.mark.parametrize("bug", [one for one in PLANTED if one.quick], ids=lambda one: one.name)
def test_a_few_planted_bugs_are_caught(bug: Planted, tmp_path: Path, record_property: Record) -> None:
    """The quick ones."""
    catch(bug, tmp_path, record_property)


@pytest.mark.long
@pytest.mark.timeout(2 * RUN_S)
@pytest.mark.parametrize("bug", [one for one in PLANTED if not one.quick], ids=lambda one: one.name)
def test_every_other_planted_bug_is_caught(bug: Planted, tmp_path: Path, record_property: Record) -> None:
    """The rest."""
    catch(bug, tmp_path, record_property)


def catch(bug: Planted, folder: Path, record: Record) -> None:
    """Runs the named test on the package as it is, then with the bug."""
    copy = folder / "src"
    shutil.copytree(PACKAGE, copy / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    healthy = run(bug, copy)

    assert PASSED == healthy.returncode, healthy.stdout[-3000:]
    plant(bug, copy)
    sick = run(bug, copy)
    told = [line for line in sick.stdout.splitlines() if line.startswith(("E ", "FAILED "))]
    record("figure.planted bugs", 1)
    record("figure.planted bugs caught", int(sick.returncode == FAILED))

    assert FAILED == sick.returncode, f"not caught: {sick.stdout[-3000:]}"
    assert any(re.search(bug.because, line) for line in told), f"fails for another reason: {told[:20]}"
    named = next(line for line in told if line.startswith("FAILED "))
    record("summary", f"planted: {bug.name}; caught by {named.removeprefix('FAILED ')[:200]}")


def plant(bug: Planted, copy: Path) -> None:
    """Edits the copy."""
    for edit in bug.edits:
        path = copy / PACKAGE.name / edit.file
        text = path.read_text(encoding="utf-8")

        assert 1 == text.count(edit.old), f"{edit.file} changed: {edit.old!r} is not in it once"
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def run(bug: Planted, copy: Path) -> subprocess.CompletedProcess[str]:
    """Runs the named test on a copy of the package, in processes that see no other."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "POINTS_"))}
    environment |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not long"]
    command += ["-o", f"pythonpath={copy} {ROOT / 'tests'}", bug.test]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_S, check=False
    )
