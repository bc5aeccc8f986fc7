"""docs/proof.md and scripts/prove: each proof is a run of tests that there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COLLECT = """
import sys
import pytest

sys.path.insert(0, "scripts")
import prove

class Counter:
    def pytest_collection_finish(self, session):
        self.found = len(session.items)

for proof in prove.PROOFS:
    for form, marks, tests in (
        ("long", proof.long_marks, proof.tests),
        ("short", proof.quick_marks, proof.quick_tests or proof.tests),
    ):
        counter = Counter()
        pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "-m", marks, *tests], plugins=[counter])
        print(f"proof {proof.name} {form} {counter.found}")
"""


@pytest.mark.ci
def test_each_proof_has_tests_in_either_form() -> None:
    """Marks that select nothing would prove nothing."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECT], cwd=ROOT, capture_output=True, text=True, timeout=110, check=True
    )
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("proof ")]

    assert len(found) > 20
    assert [] == [(proof, form) for proof, form, number in found if int(number) == 0]


def test_each_proof_is_on_the_page() -> None:
    """What it shows is told beside its name."""
    page = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "scripts/prove.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = done.stdout.partition("--only {")[2].partition("}")[0].replace("\n", "").replace(" ", "").split(",")

    assert len(names) > 10
    assert [] == [name for name in names if f"`{name}`" not in page]
