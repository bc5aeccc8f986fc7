"""What the raw texts of configuration keys mean."""

from __future__ import annotations

import pytest

from points_grpc.domain.configuration import PUBLISHED, first_invalid, parse_events
from points_grpc.domain.event_names import EVENT_NAMES
from points_grpc.domain.model import Kind, OrgConfig
from points_grpc.domain.notices import wanted

ALL = frozenset(EVENT_NAMES)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("true", ALL),
        (" TRUE ", ALL),
        ("false", frozenset()),
        ("points.issued", {Kind.ISSUE}),
        ("points.issued, customer.merged ", {Kind.ISSUE, Kind.MERGE}),
        (",".join(EVENT_NAMES.values()), ALL),
        ("", None),
        ("rubbish", None),
        ("Points.Issued", None),
        ("points.issued,points.isued", None),
        ("points.issued,", None),
        ("points.issued;points.expired", None),
        ("true,points.issued", None),
    ],
)
def test_events(text: str, kinds: frozenset[Kind] | None) -> None:
    """True, false, or names of events with commas between; every other text says nothing and is named as invalid."""
    config = OrgConfig({PUBLISHED: text})

    assert kinds == parse_events(text)
    assert kinds == wanted(config)
    assert (PUBLISHED if kinds is None else None) == first_invalid(config)


def test_events_without_a_text() -> None:
    """Who says nothing wants nothing; where nothing can be read nobody knows."""
    assert frozenset() == wanted(OrgConfig({}))
    assert wanted(OrgConfig({}, available=False)) is None
