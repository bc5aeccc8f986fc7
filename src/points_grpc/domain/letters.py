"""What is handed to a sender, in which words, and how a sender says that it failed.

The words are an organisation's own, where it has some: configuration keys, raw text with placeholders in double braces.
They are judged at use; a text that is flawed is passed over for the next best, because a code that is due is worth more
than its wording. Placeholders are replaced by values in one pass, and nothing in a text is ever executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime

from msgspec import Struct

from points_grpc.domain.model import Channel, OrgConfig, OtpAction

CODE = "validation_code"
MINUTES = "valid_minutes"
PLACEHOLDERS = frozenset({CODE, MINUTES})
"""What a text may name: the code, and for how many more minutes it is good."""

SUBJECT_LENGTH_MAX = 150
MOBILE_LENGTH_MAX = 480
"""Three short messages of 160 characters."""

_PLACEHOLDER = re.compile(r"\{\{ *([A-Za-z_]{1,40}) *\}\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LINES = str.maketrans({"\n": " ", "\r": " ", "\t": " "})

_DEEDS = {OtpAction.TRANSFER: "transfer", OtpAction.REDEMPTION: "redemption"}


class Letter(Struct, frozen=True):
    """A message as it leaves: whom it is for, what it says. A sender that got it twice got the same `message_id`."""

    org_id: int
    message_id: int
    action: OtpAction
    channel: Channel
    target: str
    code: str
    subject: str
    text: str
    expires_at: datetime

    def __repr__(self) -> str:
        """Shows neither target nor code."""
        return f"Letter({self.message_id})"


class Undelivered(Exception):
    """A letter was not handed over. `cause` is a word of ours, and never what the other side said.

    `final`: to try again is of no use. `answered`: the other side works, and refused this letter alone.
    """

    def __init__(self, cause: str, *, final: bool = False, answered: bool = False) -> None:
        super().__init__(cause)
        self.cause = cause
        self.final = final
        self.answered = answered or final


class Wording(Struct, frozen=True):
    """The texts of a message, and the configuration keys that were passed over, with what is wrong with them."""

    subject: str
    text: str
    flaws: Mapping[str, str]


def wording(config: OrgConfig, action: OtpAction, channel: Channel, locale: str) -> Wording:
    """The texts for a message, placeholders still in them: the organisation's in that locale, its own, or ours."""
    flaws: dict[str, str] = {}
    return Wording(
        subject=_text(config, action, channel, "SUBJECT", locale, flaws) if channel is Channel.EMAIL else "",
        text=_text(config, action, channel, "TEXT", locale, flaws),
        flaws=flaws,
    )


def filled(text: str, *, code: str, expires_at: datetime, now: datetime) -> str:
    """A text with its placeholders replaced. Minutes are rounded up: a code of five minutes is good for five."""
    left_s = max(0.0, (expires_at - now).total_seconds())
    values = {CODE: code, MINUTES: str(max(1, int(-(-left_s // 60))))}
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def flaw_of(channel: Channel, part: str, text: str) -> str:
    """What is wrong with a text; empty if nothing is."""
    if not set(_PLACEHOLDER.findall(text)) <= PLACEHOLDERS:
        return "UNKNOWN_PLACEHOLDER"
    rest = _PLACEHOLDER.sub("", text)
    if "{{" in rest or "}}" in rest:
        return "UNFINISHED_PLACEHOLDER"
    if _CONTROL.search(rest.translate(_LINES) if part == "TEXT" else rest):
        return "CONTROL_CHARACTER"
    if part == "SUBJECT":
        return "EMPTY" if not text.strip() else "TOO_LONG" if len(text) > SUBJECT_LENGTH_MAX else ""
    if CODE not in _PLACEHOLDER.findall(text):
        return "WITHOUT_CODE"
    return "TOO_LONG" if channel is Channel.MOBILE and len(text) > MOBILE_LENGTH_MAX else ""


def template_keys(action: OtpAction, channel: Channel, part: str, locale: str) -> Iterator[str]:
    """The configuration keys of a text, the best first: `OTP_TRANSFER_EMAIL_TEXT_pt_BR`, `…_pt`, and without any."""
    name = f"OTP_{action.name}_{channel.value}_{part}"
    tags = locale.split("-") if locale else []
    for count in range(len(tags), 0, -1):
        yield "_".join((name, *tags[:count]))
    yield name


def _text(config: OrgConfig, action: OtpAction, channel: Channel, part: str, locale: str, flaws: dict[str, str]) -> str:
    for key in template_keys(action, channel, part, locale):
        text = config.values.get(key)
        if text is None:
            continue
        flaw = flaw_of(channel, part, text)
        if not flaw:
            return text
        flaws[key] = flaw
    return _default(action, part)


def _default(action: OtpAction, part: str) -> str:
    deed = _DEEDS[action]
    if part == "SUBJECT":
        return f"Your code for the {deed} of points"
    return (
        f"{{{{{CODE}}}}} is your code for the {deed} of points. "
        f"It is valid for {{{{{MINUTES}}}}} minutes. Never tell it to anybody who calls you."
    )
