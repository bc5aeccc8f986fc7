"""The content that a request id stands for."""

from __future__ import annotations

import pytest
from wire_requests import BUILDERS, MOBILE, policy

from points_grpc.rpc.fingerprint import fingerprint
from points_grpc.v1 import customer_service_pb2, points_service_pb2, program_service_pb2

TransferPointsRequest = points_service_pb2.TransferPointsRequest


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_every_set_field_but_the_request_id(build: object) -> None:
    """Every field that is set is content, except the request id."""
    message = build()  # type: ignore[operator]

    found = fingerprint(message)

    assert set(found) == {field.name for field, _ in message.ListFields()} - {"request_id"}
    assert found == fingerprint(type(message).FromString(message.SerializeToString()))


def test_fields_tell_values_apart() -> None:
    """Other content has another fingerprint, in the field that differs alone."""
    one = fingerprint(TransferPointsRequest(notes="a", code="1", from_customer_identifier=MOBILE))
    other = fingerprint(TransferPointsRequest(notes="b", code="1", from_customer_identifier=MOBILE))

    assert {name for name in one if one[name] != other[name]} == {"notes"}


def test_deprecated_spelling_is_the_same_content() -> None:
    """The other spelling of the points is the same field."""
    assert fingerprint(TransferPointsRequest(points_tobe_transferred=5)) == fingerprint(
        TransferPointsRequest(points_to_be_transferred=5)
    )


def test_present_and_empty() -> None:
    """A field with presence that is set to nothing is content; one that is unset is not."""
    assert fingerprint(program_service_pb2.SetConfigKeyRequest(key="K", value="")) == {"key": b"K", "value": b""}
    assert fingerprint(program_service_pb2.SetConfigKeyRequest(key="K")) == {"key": b"K"}


def test_lists_keep_their_elements_apart() -> None:
    """Lists with the same letters in other elements are other content."""
    request = customer_service_pb2.CreateCustomerRequest
    lists = ([1, 23], [12, 3], [123])

    assert len({fingerprint(request(enrolled_program_ids=ids))["enrolled_program_ids"] for ids in lists}) == 3


def test_messages_are_canonical() -> None:
    """The bytes of a message inside do not depend on the order in which it was filled."""
    given = policy()
    other = program_service_pb2.Policy()
    other.otp.CopyFrom(given.otp)
    other.MergeFromString(given.SerializeToString())
    other.otp.CopyFrom(given.otp)
    other.transfer.CopyFrom(given.transfer)
    other.redemption.CopyFrom(given.redemption)

    request = program_service_pb2.SetPolicyRequest

    assert fingerprint(request(policy=other)) == fingerprint(request(policy=given))
