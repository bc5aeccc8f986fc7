"""The words of messages: whose text is taken, what is wrong with one, and what placeholders become."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from points_grpc.domain.letters import MOBILE_LENGTH_MAX, SUBJECT_LENGTH_MAX, Letter, filled, flaw_of, wording
from points_grpc.domain.model import Channel, OrgConfig, OtpAction

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CODE = "{{ validation_code }}"


def fill(text: str, code: str = "123456", **left: float) -> str:
    """A text as it leaves when the code has so long to live."""
    return filled(text, code=code, expires_at=NOW + timedelta(**(left or {"minutes": 5})), now=NOW)


def test_an_organisation_without_texts_has_ours() -> None:
    """In English, with the code and how long it is good for; a short message has no subject."""
    found = wording(OrgConfig({}), OtpAction.TRANSFER, Channel.MOBILE, "de")
    expected = "123456 is your code for the transfer of points. It is valid for 5 minutes."

    assert ("", {}) == (found.subject, found.flaws)
    assert fill(found.text).startswith(expected)
    assert "Your code for the redemption of points" == (
        wording(OrgConfig({}), OtpAction.REDEMPTION, Channel.EMAIL, "").subject
    )


@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        ("pt-BR", "brasil"),
        ("pt-PT", "portugal"),
        ("pt", "portugal"),
        ("zh-Hant-TW", "hant"),
        ("de", "plain"),
        ("", "plain"),
    ],
)
def test_the_nearest_locale_is_taken(locale: str, expected: str) -> None:
    """From the whole tag to the language alone, then the organisation's text without a locale."""
    name = "OTP_TRANSFER_EMAIL_TEXT"
    texts = {f"{name}_pt_BR": "brasil", f"{name}_pt": "portugal", f"{name}_zh_Hant": "hant", name: "plain"}
    config = OrgConfig({key: f"{text} {CODE}" for key, text in texts.items()})

    assert f"{expected} {CODE}" == wording(config, OtpAction.TRANSFER, Channel.EMAIL, locale).text


def test_texts_are_looked_up_by_action_channel_and_part() -> None:
    """A text for transfers by e-mail is none for redemptions or short messages."""
    config = OrgConfig({"OTP_TRANSFER_EMAIL_TEXT": f"own {CODE}", "OTP_TRANSFER_EMAIL_SUBJECT": "own subject"})

    assert "own subject" == wording(config, OtpAction.TRANSFER, Channel.EMAIL, "").subject
    assert f"own {CODE}" != wording(config, OtpAction.REDEMPTION, Channel.EMAIL, "").text
    assert f"own {CODE}" != wording(config, OtpAction.TRANSFER, Channel.MOBILE, "").text


def test_a_flawed_text_is_passed_over_for_the_next_best() -> None:
    """The code goes out all the same, and the key is named with its flaw."""
    name = "OTP_TRANSFER_MOBILE_TEXT"
    config = OrgConfig({f"{name}_de_AT": "ohne Kode", f"{name}_de": "{{ secret_key }}", name: f"good {CODE}"})
    found = wording(config, OtpAction.TRANSFER, Channel.MOBILE, "de-AT")

    assert f"good {CODE}" == found.text
    assert {f"{name}_de_AT": "WITHOUT_CODE", f"{name}_de": "UNKNOWN_PLACEHOLDER"} == found.flaws


@pytest.mark.parametrize(
    ("part", "text", "expected"),
    [
        ("TEXT", "no code", "WITHOUT_CODE"),
        ("TEXT", CODE + "{{ customer }}", "UNKNOWN_PLACEHOLDER"),
        ("TEXT", CODE + "{{ validation_code.__class__ }}", "UNFINISHED_PLACEHOLDER"),
        ("TEXT", CODE + "{{", "UNFINISHED_PLACEHOLDER"),
        ("TEXT", CODE + "}}", "UNFINISHED_PLACEHOLDER"),
        ("TEXT", CODE + "\x00", "CONTROL_CHARACTER"),
        ("TEXT", CODE + "x" * (MOBILE_LENGTH_MAX - len(CODE) + 1), "TOO_LONG"),
        ("TEXT", CODE + "x" * (MOBILE_LENGTH_MAX - len(CODE)), ""),
        ("TEXT", f"two\nlines\r\n\t{CODE} {{%x%}} ${{x}} %(x)s {{x}}", ""),
        ("TEXT", "{{validation_code}}{{valid_minutes}}", ""),
        ("SUBJECT", "a\r\nBcc: everybody@example.org", "CONTROL_CHARACTER"),
        ("SUBJECT", "a\u2028b", "CONTROL_CHARACTER"),
        ("SUBJECT", " ", "EMPTY"),
        ("SUBJECT", "x" * (SUBJECT_LENGTH_MAX + 1), "TOO_LONG"),
        ("SUBJECT", "x" * SUBJECT_LENGTH_MAX, ""),
    ],
)
def test_flaws_of_a_text(part: str, text: str, expected: str) -> None:
    """A text must have the code, name nothing unknown, fit, and hold nothing that ends a line of a header."""
    assert expected == flaw_of(Channel.MOBILE, part, text)


def test_what_a_placeholder_becomes_is_not_looked_at_again() -> None:
    """A value that looks like a placeholder, or like anything a template engine would run, stays as it is."""
    assert "{{ valid_minutes }} 5 \\1" == fill(f"{CODE} {{{{valid_minutes}}}} \\1", code="{{ valid_minutes }}")


@pytest.mark.parametrize(("seconds", "expected"), [(300, "5"), (299.9, "5"), (61, "2"), (60, "1"), (0, "1"), (-5, "1")])
def test_minutes_are_those_that_are_left(seconds: float, expected: str) -> None:
    """Rounded up, and never none."""
    assert expected == fill("{{ valid_minutes }}", seconds=seconds)


def test_a_letter_shows_nothing_of_itself() -> None:
    """Neither target nor code nor text is in what a log would get."""
    letter = Letter(1, 2, OtpAction.TRANSFER, Channel.EMAIL, "ann@example.org", "123456", "s", "t 123456", NOW)

    assert "Letter(2)" == repr(letter) == str(letter)
