"""Runs the random commands against a server, from a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from model_driver import ModelServer
from model_machine import machine

STEPS = 40

_MUTATE = "hypothesis.internal.conjecture.engine.ConjectureRunner.generate_mutations_from"


def run(server: ModelServer, hits: Counter[str], *, number: int, examples: int, shrink: bool = True) -> None:
    """Plays examples; the first divergence is raised, made smaller if that is wanted."""
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    with _new_examples_only():
        run_state_machine_as_test(
            seed(number)(machine(server, hits)),
            settings=settings(
                max_examples=examples,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                print_blob=True,
                phases=phases,
                suppress_health_check=list(HealthCheck),
            ),
        )


@contextmanager
def _new_examples_only() -> Iterator[None]:
    """Hypothesis would repeat each example five times with small changes, which finds nothing new here."""
    with patch(_MUTATE, lambda runner, data: None):
        yield
