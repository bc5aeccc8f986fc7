"""The service against the reference model: random commands over the wire, the same answers and the same wallets.

`POINTS_MODEL_SEED` plays a run again, `POINTS_MODEL_EXAMPLES` makes it longer or shorter.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom

import pytest
from model_codes import HITS_MIN, REACHED
from model_driver import ModelServer
from model_run import run

CI_EXAMPLES, LONG_EXAMPLES = 12, 1_000


def play(folder: Path, record: Callable[[str, object], None], *, examples: int) -> Counter[str]:
    """Plays examples and verifies the books; how often each outcome was reached, which the summary shows too."""
    examples = int(os.environ.get("POINTS_MODEL_EXAMPLES", examples))
    number = int(os.environ.get("POINTS_MODEL_SEED", SystemRandom().randrange(2**32)))
    hits: Counter[str] = Counter()
    server = ModelServer(folder, orgs=examples + 5)
    try:
        run(server, hits, number=number, examples=examples)
        server.verify()
    finally:
        server.close()
        again = f"POINTS_MODEL_SEED={number} POINTS_MODEL_EXAMPLES={examples} plays this run again"
        counts = (f"{count:>7} {reason}" for reason, count in sorted(hits.items(), key=lambda one: (-one[1], one[0])))
        record("figure.examples played", examples)
        record("figure.calls sent again that the server ended unseen", server.unseen["calls"])
        record("summary", "\n".join(["reached by the random commands:", *counts, again]))
    return hits


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_service_and_model_agree(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Whatever is asked, in whatever order and at whatever time, the service answers as the model does."""
    hits = play(tmp_path, record_property, examples=CI_EXAMPLES)

    assert [] == [one for one in ("TransferPoints", "RedeemPoints", "ReverseRedemption") if not hits[f"accepted {one}"]]


@pytest.mark.long
@pytest.mark.timeout(0)
def test_service_and_model_agree_for_long(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """The same for long: every outcome that the commands can reach is reached often."""
    hits = play(tmp_path, record_property, examples=LONG_EXAMPLES)

    assert {} == {reason: hits[reason] for reason in sorted(REACHED) if hits[reason] < HITS_MIN}
