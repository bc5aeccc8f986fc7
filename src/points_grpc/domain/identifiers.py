"""How customers are named: the normal form of each kind of identifier, and whether a text has it at all.

Pure: nothing is looked up, neither a customer nor a mail server. What is compared and stored is always the normal form:
a mobile in E.164, an e-mail with its domain in lower case, an external id verbatim, an id in decimal digits.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from points_grpc.domain.model import Identifier, IdentifierType

VALUE_LENGTH_MAX = 254
"""The most characters of an identifier: what an e-mail address may have (RFC 5321)."""

ID_MAX = 2**63 - 1
"""The largest customer id."""

_ID = re.compile(r"[1-9][0-9]{0,18}")
_MOBILE = re.compile(r"\+?[0-9(][0-9 ().\-]{3,30}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_REMEMBERED = 65_536
"""Parsing takes 30 to 40 µs, and twice that for a number that does not come in E.164, so that many recent ones are
remembered (about 16 MB)."""


def normalise(kind: IdentifierType, value: str, default_region: str) -> Identifier | None:
    """The identifier in its normal form; None if the value is malformed for its kind.

    `default_region` (ISO 3166, two letters) is where a mobile without country code belongs.
    """
    if not value or len(value) > VALUE_LENGTH_MAX or has_control_characters(value):
        return None
    normal: str | None = value
    if kind == IdentifierType.MOBILE:
        normal = _mobile(value, default_region)
    elif kind == IdentifierType.EMAIL:
        normal = _email(value)
    elif kind == IdentifierType.ID and (not _ID.fullmatch(value) or int(value) > ID_MAX):
        return None
    return None if normal is None else Identifier(kind, normal)


def fits_another_kind(kind: IdentifierType, value: str, default_region: str) -> bool:
    """Whether a value is well formed for another kind than the one given: then the kind is what is wrong (434).

    External ids are left out: every text is a well-formed one, which says nothing.
    """
    others = (IdentifierType.ID, IdentifierType.MOBILE, IdentifierType.EMAIL)
    return any(normalise(other, value, default_region) is not None for other in others if other is not kind)


def has_control_characters(text: str) -> bool:
    """Whether a text holds a control character, NUL included. They have no place in any text of the service."""
    return not text.isprintable() and _CONTROL.search(text) is not None


@lru_cache(maxsize=_REMEMBERED)
def _mobile(value: str, default_region: str) -> str | None:
    """E.164, if the number is possible: its length fits its country.

    Not whether its range is known to be in use: countries open new ranges faster than libraries are updated. A number
    with more zeros before it than its country has is none: in E.164 it would be read as another one.
    """
    if not _MOBILE.fullmatch(value):
        return None
    normal = _e164(value, default_region)
    if normal is None or normal == value:  # a second reading says the same of a number that came in this form
        return normal
    return normal if _e164(normal, default_region) == normal else None


def _e164(value: str, default_region: str) -> str | None:
    """A number in E.164, read once; None if it is not possible."""
    try:
        number = phonenumbers.parse(value, default_region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@lru_cache(maxsize=_REMEMBERED)
def _email(value: str) -> str | None:
    """The address with its domain in lower case, local part as given, both in Unicode's composed form. Asks no server.

    The local part is taken from the value: the library puts names such as INFO into lower case, and no others.
    """
    try:
        found = validate_email(value, check_deliverability=False, globally_deliverable=False, test_environment=True)
    except EmailNotValidError:
        return None
    local_part = unicodedata.normalize("NFC", value.rpartition("@")[0])
    return f"{local_part}@{found.domain}" if "." in found.domain else None
