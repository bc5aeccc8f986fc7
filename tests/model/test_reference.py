"""The reference model is what it says: independent of the service, and complete in what it is asked to reach."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from model_codes import LEFT_OUT, REACHED, REASONS

HERE = Path(__file__).parent
MODEL = tuple(sorted(path.stem for path in HERE.glob("reference*.py")))
DRIVEN_BY = {
    "points_grpc.cli.tokens",
    "points_grpc.rpc.server",
    "points_grpc.storage.accounts",
    "points_grpc.storage.engine",
    "points_grpc.storage.verify",
}
"""What the driver needs of the service to start it, to find its RPCs and to verify its books: none of the rules."""


def imported_by(name: str) -> set[str]:
    """The modules that a file imports, the standard library left out."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((HERE / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "no relative imports"
            found.add(node.module or "")
    return {one for one in found if one.partition(".")[0] not in sys.stdlib_module_names}


@pytest.mark.parametrize("name", MODEL)
def test_model_imports_the_stubs_alone(name: str) -> None:
    """The model knows the standard library, protobuf and the generated stubs, and nothing of the service."""
    others = {one for one in imported_by(name) if not one.startswith(("google.protobuf", "points_grpc.v1."))}

    assert others <= set(MODEL)


@pytest.mark.parametrize("name", ["model_driver", "model_machine", "model_run", "model_codes"])
def test_driver_imports_no_rules(name: str) -> None:
    """What plays model and service knows none of the service's rules."""
    ours = {one for one in imported_by(name) if one.startswith("points_grpc.") and not one.startswith("points_grpc.v1")}

    assert ours <= DRIVEN_BY


def test_every_outcome_is_reached_or_left_out_for_a_reason() -> None:
    """The catalogue has no outcome that nobody thought of."""
    assert LEFT_OUT.keys() <= REASONS
    assert len(REACHED) + len(LEFT_OUT) == len(REASONS)
    assert "TRANSFER_LOCKED" in REACHED
