"""
The catalogue against the two documented tables, and codes.py against the catalogue.

documented_codes.csv transcribes the tables of the two documented pages ("points": Points (v2); "transfer": Transfer
Customer Points) as they stand there, marks and slips included, in their order. `answered` is the text that an example
answer of the page has for the row, where it differs from the table; that is what a client really saw. The page of the
transfers lists 434 twice, and repeats four warnings of the other page.
"""

from __future__ import annotations

import copy
import csv
import re
from collections import Counter
from pathlib import Path

import pytest
from google.protobuf.descriptor import EnumDescriptor, EnumValueDescriptor
from google.rpc import code_pb2

from points_grpc import codes
from points_grpc.codes import BY_REASON, CATALOGUE, Code, GrpcCode, Retry, Table
from points_grpc.v1 import (
    catalog_service_pb2,
    codes_pb2,
    customer_service_pb2,
    issuance_service_pb2,
    options_pb2,
    points_service_pb2,
    program_service_pb2,
    wallet_service_pb2,
)

TABLES = {
    Table.SUCCESS: codes_pb2.DESCRIPTOR.enum_types_by_name["SuccessCode"],
    Table.POINTS: codes_pb2.DESCRIPTOR.enum_types_by_name["PointsErrorCode"],
    Table.TRANSFER: codes_pb2.DESCRIPTOR.enum_types_by_name["TransferErrorCode"],
    Table.WARNING: codes_pb2.DESCRIPTOR.enum_types_by_name["WarningCode"],
    Table.SERVICE: codes_pb2.DESCRIPTOR.enum_types_by_name["ServiceErrorCode"],
}

SERVICES = (
    catalog_service_pb2,
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
    wallet_service_pb2,
)

# RPCs that the catalogue speaks of and the services may not have yet.
PLANNED: set[str] = set()

# Where a message is not the documented text to the letter: what stands there, and what we made of it.
ADAPTED = {
    # The page closes its code mark without a space after it.
    (Table.POINTS, 412): (("TRANSFERin", "TRANSFER in"),),
    # The rest of the sentence explains the variable to the reader of the page.
    (Table.POINTS, 419): (("{x}, where x is the user id of the customer.", "{customer_id}"),),
    (Table.POINTS, 807): (("<X>", "{multiple}"),),
    (Table.POINTS, 3045): (("{x}", "{customer_id}"),),
    # Two rows and two examples of the page, which differ in the field alone.
    (Table.TRANSFER, 434): (("transferredBy.identifierValue", "{field}"), ("fromEntity.identifierType", "{field}")),
    (Table.WARNING, 900): (
        ("{0}", "{queue_size}"),
        ("{1}", "{failed_event}"),
        ("{2}", "{failure_reason}"),
        ("{3}", "{status_code}"),
    ),
}

DOCUMENTED_ROWS = tuple(
    csv.DictReader(Path(__file__).with_name("documented_codes.csv").read_text(encoding="utf-8").splitlines())
)


def expected_message(row: dict[str, str]) -> str:
    """
    The message that a documented row asks for: without Markdown, and with named variables.
    """
    text = (row["answered"] or row["text"]).replace("`", "").replace("\\", "")
    for documented, ours in ADAPTED.get((Table(row["table"]), int(row["number"])), ()):
        text = text.replace(documented, ours)
    return text


def prefix_of(enum: EnumDescriptor) -> str:
    """
    The prefix of an enum's values: its name in UPPER_SNAKE_CASE.
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper() + "_"


def values_of(enum: EnumDescriptor) -> list[EnumValueDescriptor]:
    """
    The codes of an enum: its values but for the zero value.
    """
    return [value for value in enum.values if value.number != 0]


def spec_of(value: EnumValueDescriptor) -> options_pb2.CodeSpec:
    """
    What the catalogue says about a code.
    """
    return value.GetOptions().Extensions[options_pb2.code_spec]


def code_of(table: Table, value: EnumValueDescriptor) -> dict[str, object]:
    """
    The fields of the Code that a value of the catalogue asks for.
    """
    spec = spec_of(value)
    return {
        "table": table,
        "number": value.number,
        "reason": value.name.removeprefix(prefix_of(value.type)),
        "grpc": GrpcCode[code_pb2.Code.Name(spec.grpc_code)],
        "retry": Retry[options_pb2.RetryAdvice.Name(spec.retry).removeprefix("RETRY_ADVICE_")],
        "message": spec.message,
        "metadata_keys": tuple(spec.metadata_keys),
        "operations": tuple(spec.operations),
    }


def fields_of(code: Code) -> dict[str, object]:
    """
    The fields of a Code.
    """
    return {name: getattr(code, name) for name in Code.__dataclass_fields__}


ALL_VALUES = [pytest.param(table, value, id=value.name) for table, enum in TABLES.items() for value in values_of(enum)]
ALL_CODES = [pytest.param(code, id=code.reason) for code in CATALOGUE]


class TestDocumentedTables:
    """
    Every documented row is there, as documented, and none is made up.
    """

    @pytest.mark.parametrize(
        "row", [pytest.param(row, id="-".join((row["page"], row["table"], row["number"]))) for row in DOCUMENTED_ROWS]
    )
    def test_text(self, row: dict[str, str]) -> None:
        """
        A documented row stands in its table under its number, with its documented text.
        """
        enum = TABLES[Table(row["table"])]

        assert expected_message(row) == spec_of(enum.values_by_number[int(row["number"])]).message

    def test_no_other_rows(self) -> None:
        """
        The four documented tables hold the documented numbers and no others.
        """
        documented = {(Table(row["table"]), int(row["number"])) for row in DOCUMENTED_ROWS}

        assert documented == {(code.table, code.number) for code in CATALOGUE if code.table is not Table.SERVICE}

    def test_counts(self) -> None:
        """
        There are 87 documented codes, and 92 rows on the two pages: 434 twice, and four warnings on both.
        """
        documented = Counter(code.table for code in CATALOGUE if code.table is not Table.SERVICE)

        assert {Table.SUCCESS: 1, Table.POINTS: 55, Table.TRANSFER: 21, Table.WARNING: 10} == documented
        assert 87 == documented.total()
        assert 92 == len(DOCUMENTED_ROWS)

    @pytest.mark.parametrize("field", ["transferredBy.identifierValue", "fromEntity.identifierType"])
    def test_example_answers(self, field: str) -> None:
        """
        434 with either field gives one of the two documented example answers, to the letter.
        """
        answered = {row["answered"] for row in DOCUMENTED_ROWS if row["number"] == "434"}

        assert codes.TRANSFER_IDENTIFIER_INVALID.text({"field": field}) in answered

    def test_service_numbers(self) -> None:
        """
        Codes of our own are numbered from 10001 without a gap, clear of all documented numbers.
        """
        numbers = [code.number for code in CATALOGUE if code.table is Table.SERVICE]

        assert list(range(10001, 10001 + len(numbers))) == sorted(numbers)


class TestCatalogue:
    """
    The rules for the rows of codes.proto.
    """

    @pytest.mark.parametrize(("table", "value"), ALL_VALUES)
    def test_name(self, table: Table, value: EnumValueDescriptor) -> None:
        """
        The name of a value is the prefix of its enum and a reason in UPPER_SNAKE_CASE, of at most 63 characters.
        """
        prefix, reason = prefix_of(value.type), value.name.removeprefix(prefix_of(value.type))

        assert prefix + reason == value.name
        assert re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", reason)
        assert 63 >= len(reason)

    @pytest.mark.parametrize("enum", TABLES.values(), ids=lambda enum: enum.name)
    def test_zero(self, enum: EnumDescriptor) -> None:
        """
        The zero value is no code: it is called unspecified, and has no spec.
        """
        zero = enum.values_by_number[0]

        assert prefix_of(enum) + "UNSPECIFIED" == zero.name
        assert not zero.GetOptions().HasExtension(options_pb2.code_spec)

    def test_reasons_are_unique(self) -> None:
        """
        No reason stands in two rows, of whatever tables.
        """
        assert [] == [reason for reason, count in Counter(code.reason for code in CATALOGUE).items() if count > 1]

    @pytest.mark.parametrize("code", ALL_CODES)
    def test_variables(self, code: Code) -> None:
        """
        Every variable of a message is a metadata key, and no brace stands for itself.
        """
        variables = set(re.findall(r"\{(\w+)\}", code.message))

        assert set() == variables - set(code.metadata_keys)
        assert not re.search(r"[{}]", re.sub(r"\{\w+\}", "", code.message))
        assert 200 >= len(code.message)

    @pytest.mark.parametrize("code", ALL_CODES)
    def test_metadata_keys(self, code: Code) -> None:
        """
        Metadata keys are lower-case names, none twice, and none of those that every refusal may carry.
        """
        assert [] == [key for key in code.metadata_keys if not re.fullmatch(r"[a-z][a-z0-9_]*", key)]
        assert len(set(code.metadata_keys)) == len(code.metadata_keys)
        assert set() == {"request_id", "replayed"} & set(code.metadata_keys)

    @pytest.mark.parametrize("code", ALL_CODES)
    def test_outcome(self, code: Code) -> None:
        """
        Successes and warnings are OK with nothing to repeat; errors are neither, and never CANCELLED or UNKNOWN.
        """
        good = code.table in {Table.SUCCESS, Table.WARNING}

        assert good == (code.grpc is GrpcCode.OK)
        assert good == (code.retry is Retry.NONE)
        assert code.grpc not in {GrpcCode.CANCELLED, GrpcCode.UNKNOWN}

    @pytest.mark.parametrize("code", ALL_CODES)
    def test_transparent_retry(self, code: Code) -> None:
        """
        A transparent retry of UNAVAILABLE or ABORTED is what the advice says too: the same request_id again.
        """
        if code.grpc in {GrpcCode.UNAVAILABLE, GrpcCode.ABORTED}:
            assert Retry.SAME_REQUEST_ID_LATER is code.retry

    @pytest.mark.parametrize("code", ALL_CODES)
    def test_operations(self, code: Code) -> None:
        """
        Operations are RPCs that exist or are planned, or all of them, or all but some.
        """
        known = PLANNED | {
            method.name
            for module in SERVICES
            for service in module.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        }
        names = [name.removeprefix("!") for name in code.operations if name != "*"]

        assert [] == [name for name in names if name not in known]
        assert len(set(names)) == len(names)
        match code.operations:
            case ("*", *excepted):
                assert all(name.startswith("!") for name in excepted)
            case named:
                assert not any(name.startswith("!") for name in named)


class TestPython:
    """
    codes.py is the catalogue, in Python.
    """

    def test_equals_descriptors(self) -> None:
        """
        The catalogue of codes.py holds what the descriptors say: row by row, and in their order.
        """
        expected = [code_of(table, value) for table, enum in TABLES.items() for value in values_of(enum)]

        assert expected == [fields_of(code) for code in CATALOGUE]

    def test_grpc_codes(self) -> None:
        """
        The gRPC status codes have their canonical numbers.
        """
        assert dict(code_pb2.Code.items()) == {code.name: code.value for code in GrpcCode}

    @pytest.mark.parametrize("code", ALL_CODES)
    def test_constants(self, code: Code) -> None:
        """
        Every code is a constant of the module under its reason, and found by its reason.
        """
        assert code is getattr(codes, code.reason)
        assert code is BY_REASON[code.reason]

    def test_by_reason(self) -> None:
        """
        The codes by reason are those of the catalogue and no others.
        """
        assert [code.reason for code in CATALOGUE] == list(BY_REASON)

    def test_text(self) -> None:
        """
        A message is filled in with the metadata; keys that it has no variable for are left alone.
        """
        actual = codes.POINTS_NOT_MULTIPLE.text({"multiple": "50", "points": "120"})

        assert (
            "Unable to redeem. Make sure that the points you are trying to redeem is a multiple of 50. "
            "Check the points redemption configuration of your organization."
        ) == actual

    def test_text_without_variable(self) -> None:
        """
        A variable that the metadata lacks stays as written, and nothing is raised.
        """
        assert "A field is invalid: {field}" == codes.FIELD_INVALID.text({})

    def test_text_is_filled_once(self) -> None:
        """
        A value that looks like a variable is not filled in again.
        """
        assert "A field is invalid: {field}!" == codes.FIELD_INVALID.text({"field": "{field}!"})

    def test_one_instance(self) -> None:
        """
        Copying gives the same code back, which identity as equality depends on.
        """
        code = codes.TRANSFER_INSUFFICIENT_POINTS

        assert code is copy.deepcopy(code)
        assert code is copy.copy(code)
