"""The organisation's configuration keys: their documented names, and what their raw text means when it is used.

Keys are stored as raw text under their documented names and judged at use; spelling and case of the names are those of
the documented pages, odd ones included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from points_grpc.domain.event_names import EVENT_NAMES
from points_grpc.domain.model import Kind, OrgConfig

FRAUD_CHECK = "CONF_FRAUD_STATUS_CHECK_POINTS_TRANSFER"
"""Whether transfers judge the parties' fraud status. Must be set (412); a new organisation gets "true"."""

TRANSFERS_ALLOWED = "ALLOW_POINTS_TRANSFER"
"""Whether the organisation transfers points (818). Unset reads as true."""

REDEMPTIONS_ALLOWED = "ALLOW_POINTS_REDEMPTION"
"""Whether the organisation redeems points (827). Unset reads as true. A name of ours: none is documented."""

REVERSALS_ALLOWED = "Allow_points_redemption_reversal"
"""Whether the organisation reverses redemptions (903 with warning 905). Unset reads as true."""

POOLING_ALLOWED = "ENABLE_GROUP_PROGRAMS_REDEMPTION"
"""Whether points are pooled across the programs of a group (3316, 826). Unset reads as true."""

STATUS_MODULE = "ENABLE_CUSTOMER_STATUS_MODULE"
"""Whether status labels replace the fraud status. Unset reads as false. A name of ours: none is documented."""

MISSED_CALLS_ALLOWED = "ENABLE_MISSED_CALL_REDEMPTION"
"""Whether a missed call proves a redemption (823). Unset reads as false. A name of ours: none is documented."""

REQUEST_IDS_REQUIRED = "REQUIRE_REQUEST_ID"
"""Whether every write of the organisation needs a request id of its caller's (10005). Unset reads as false. A name of
ours: none is documented. Judged where requests are read, and within seconds of a change."""

PUBLISHED = "PUBLISH_EVENTS"
"""Which business events the organisation wants: true for all, false for none, or their names with commas between. Unset
reads as false. A name of ours: none is documented."""

DEFAULTS = {
    TRANSFERS_ALLOWED: True,
    REDEMPTIONS_ALLOWED: True,
    REVERSALS_ALLOWED: True,
    POOLING_ALLOWED: True,
    STATUS_MODULE: False,
    MISSED_CALLS_ALLOWED: False,
    REQUEST_IDS_REQUIRED: False,
}
"""What an unset switch reads as. The fraud key has no default: unset is 412."""

NEW_ORGANISATION = {
    FRAUD_CHECK: "true",
    TRANSFERS_ALLOWED: "true",
    REDEMPTIONS_ALLOWED: "true",
    REVERSALS_ALLOWED: "true",
    POOLING_ALLOWED: "true",
}
"""The keys that a new organisation starts with."""

_WORDS = {"true": True, "false": False}
_KNOWN_EVENTS = frozenset(EVENT_NAMES.values())


def parse_switch(text: str | None) -> bool | None:
    """What a raw text says: true, false, or None if it says neither."""
    if text is None or text in _WORDS:
        return _WORDS.get(text or "")
    return _WORDS.get(text.strip().lower())


def parse_events(text: str) -> frozenset[Kind] | None:
    """The journal transactions of which a raw text asks to be told, or None if it says nothing that is known."""
    switch = parse_switch(text)
    if switch is not None:
        return frozenset(EVENT_NAMES) if switch else frozenset()
    names = {word.strip() for word in text.split(",")}
    return frozenset(kind for kind, name in EVENT_NAMES.items() if name in names) if names <= _KNOWN_EVENTS else None


def is_on(config: OrgConfig, key: str) -> bool:
    """Whether a switch is on. The text must have been judged before (`first_invalid`)."""
    text = config.values.get(key)
    if text is None:
        return DEFAULTS[key]
    parsed = parse_switch(text)
    return DEFAULTS[key] if parsed is None else parsed


def first_invalid(config: OrgConfig) -> str | None:
    """The first key, the fraud key apart, whose text does not parse."""
    for key, parse in _PARSERS.items():
        text = config.values.get(key)
        if text is not None and text not in _WORDS and parse(text) is None:
            return key
    return None


_PARSERS: Mapping[str, Callable[[str], object]] = {**dict.fromkeys(DEFAULTS, parse_switch), PUBLISHED: parse_events}
"""What reads each key that must parse."""
