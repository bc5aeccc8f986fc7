"""The model finds what it is there to find: rule changes planted in the service are caught by the same random commands.

A planted change lives in a test build (stepped/plants.py) and breaks one promise. What catches it is the run of
test_model.py with its comparisons, from seeds that are fixed so that the budget is; each divergence is printed.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from model_driver import BUILD, Divergence, ModelServer
from model_run import run

sys.path.append(str(BUILD))
from plants import PLANTS

EXAMPLES = 40

SHORT = ("spending order", "attempt not counted", "expiry of received lots")
"""The changes that are found soon, and shown at every run of CI."""


@pytest.mark.ci
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in SHORT else pytest.mark.long) for one in PLANTS])
def test_planted_rule_change_is_caught(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A service with one rule changed diverges from the model within the budget."""
    server = ModelServer(tmp_path, orgs=EXAMPLES + 5, plant=name)
    try:
        record_property("figure.planted bugs", 1)
        with pytest.raises(Divergence) as caught:
            run(server, Counter(), number=SEEDS.get(name, 1), examples=EXAMPLES, shrink=False)
    finally:
        server.close()
    record_property("figure.planted bugs caught", 1)
    record_property("summary", f"planted: {name}; caught: {' '.join(str(caught.value).split('-- ')[0].split())[:300]}")


SEEDS: dict[str, int] = {}
"""Where the first seed does not lead to the change soon."""
