"""The normal forms of customer identifiers, and texts that have none."""

from __future__ import annotations

import pytest

from points_grpc.domain.identifiers import fits_another_kind, normalise
from points_grpc.domain.model import Identifier, IdentifierType

ID, MOBILE, EXTERNAL_ID, EMAIL = (
    IdentifierType.ID,
    IdentifierType.MOBILE,
    IdentifierType.EXTERNAL_ID,
    IdentifierType.EMAIL,
)

NORMAL_FORMS = (
    # kind, value, region, normal form
    (ID, "1", "IN", "1"),
    (ID, "9223372036854775807", "IN", "9223372036854775807"),
    (MOBILE, "9148574269", "IN", "+919148574269"),
    (MOBILE, "09148574269", "IN", "+919148574269"),
    (MOBILE, "919148574269", "IN", "+919148574269"),
    (MOBILE, "+919148574269", "US", "+919148574269"),
    (MOBILE, "+91 91485-74269", "IN", "+919148574269"),
    (MOBILE, "(650) 253-0000", "US", "+16502530000"),
    (MOBILE, "+39 06 1234 5678", "IN", "+390612345678"),
    (MOBILE, "+33 06 12 34 56 78", "IN", "+33612345678"),
    (EXTERNAL_ID, " Crm/ÄÖ 7 ", "IN", " Crm/ÄÖ 7 "),
    (EMAIL, "Jo.Hn@SHOP.Example", "IN", "Jo.Hn@shop.example"),
    (EMAIL, "a@b.test", "IN", "a@b.test"),
    (EMAIL, "INFO@Shop.Example", "IN", "INFO@shop.example"),
    (EMAIL, "PostMaster@shop.example", "IN", "PostMaster@shop.example"),
    (EMAIL, "Jo@B\u00dccher.Example", "IN", "Jo@b\u00fccher.example"),
    (EMAIL, "JO\u0308@shop.example", "IN", "J\u00d6@shop.example"),
)

MALFORMED = (
    (ID, "", "IN"),
    (ID, "0", "IN"),
    (ID, "-1", "IN"),
    (ID, "+1", "IN"),
    (ID, "007", "IN"),
    (ID, "1.0", "IN"),
    (ID, " 1", "IN"),
    (ID, "1\n", "IN"),
    (ID, "\u096f", "IN"),
    (ID, "9223372036854775808", "IN"),
    (MOBILE, "", "IN"),
    (MOBILE, "12345", "IN"),
    (MOBILE, "nobody", "IN"),
    (MOBILE, "1-800-FLOWERS", "US"),
    (MOBILE, "\uff19\uff11\uff14\uff18\uff15\uff17\uff14\uff12\uff16\uff19", "IN"),
    (MOBILE, "tel:+919148574269", "IN"),
    (MOBILE, "+919148574269;ext=3", "IN"),
    (MOBILE, "+999123456789", "IN"),
    (MOBILE, "9148574269" * 4, "IN"),
    (MOBILE, "+910040123456", "IN"),
    (MOBILE, "+9100401234567", "US"),
    (MOBILE, "+4400791112345", "GB"),
    (EXTERNAL_ID, "", "IN"),
    (EXTERNAL_ID, "x" * 255, "IN"),
    (EXTERNAL_ID, "a\x00b", "IN"),
    (EXTERNAL_ID, "a\x7fb", "IN"),
    (EXTERNAL_ID, "a\x85b", "IN"),
    (EMAIL, "a", "IN"),
    (EMAIL, "a@b", "IN"),
    (EMAIL, "a@@b.example", "IN"),
    (EMAIL, "a b@c.example", "IN"),
    (EMAIL, "@c.example", "IN"),
    (EMAIL, "Name <a@c.example>", "IN"),
    (EMAIL, "a@[127.0.0.1]", "IN"),
)


@pytest.mark.parametrize(("kind", "value", "region", "normal"), NORMAL_FORMS)
def test_normal_form(kind: IdentifierType, value: str, region: str, normal: str) -> None:
    """A well-formed identifier has one normal form, which is its own normal form."""
    found = normalise(kind, value, region)

    assert found == Identifier(kind, normal)
    assert normalise(kind, normal, region) == found


@pytest.mark.parametrize(("kind", "value", "region"), MALFORMED)
def test_malformed(kind: IdentifierType, value: str, region: str) -> None:
    """A malformed identifier has none."""
    assert normalise(kind, value, region) is None


def test_other_kinds() -> None:
    """A value may be well formed for another kind; every text is an external id, which does not count."""
    assert fits_another_kind(MOBILE, "a@shop.example", "IN")
    assert fits_another_kind(EMAIL, "9148574269", "IN")
    assert fits_another_kind(ID, "+919148574269", "IN")
    assert not fits_another_kind(MOBILE, "nobody", "IN")
    assert not fits_another_kind(ID, "7", "IN")
