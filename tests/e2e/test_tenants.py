"""The tenant matrix: every RPC of every public service, asked for what is another organisation's.

Generated from the service descriptors and the table in tenant_rows.py; an RPC without a row fails. What a refusal says
is compared byte for byte: code, message, all trailers with the status details. Put equal before are the request ids of
the two calls and the names that their callers gave (a few refusals repeat a program's id), by others of the same
length; the correlation id is given by the caller. In answers that were given, times and ids that the server makes on
the way, and the masked number to which a code goes, are left out too. How long an answer takes is not compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass
from tenant_rows import READER, ROLES, ROWS, Row
from tenant_world import (
    METHODS,
    SAME,
    Answer,
    Names,
    Server,
    fields_set,
    filled,
    guess,
    is_command,
    like,
    names_in,
    naming_fields,
    new_request_id,
)

from databases import on_postgres, on_sqlite
from points_grpc.storage.engine import Database
from points_grpc.storage.verify import verify
from points_grpc.v1 import options_pb2

Test = TypeVar("Test", bound=Callable[..., None])


@dataclass(frozen=True)
class World:
    """A server, and all that the other organisation has."""

    server: Server
    theirs: Names


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The statements that read are the same on both backends: on the second one the matrix is run at length."""
    new_database = on_sqlite if request.param == "sqlite" else on_postgres(request.getfixturevalue("postgres"))
    server = Server(tmp_path_factory.mktemp("tenants"), new_database)
    try:
        for organisation in (server.theirs, server.theirs, server.ours, server.ours):
            Names(server, organisation).value("key")  # two each: lists have two pages
        yield World(server, Names(server, server.theirs).everything())
    finally:
        server.close()


def matrix(*found: Row) -> Callable[[Test], Test]:
    """A test of the matrix for each of these rows."""

    def marked(test: Test) -> Test:
        for mark in (pytest.mark.ci, pytest.mark.parametrize("row", found, ids=[row.name for row in found])):
            test = mark(test)
        return test

    return marked


def nothing_of(theirs: Names, *but: str) -> Mapping[str, str]:
    """What of theirs may be seen nowhere."""
    return {name: value for name, value in theirs.made.items() if value not in but} | {"name": theirs.owner.name}


def seen(answer: Answer, words: Mapping[str, str]) -> set[str]:
    """Which words an answer holds."""
    told = answer.told()
    return {name for name, word in words.items() if word in told}


def taken(row: Row, theirs: Names) -> dict[str, str]:
    """All that a row names, as something that they have; what is new to us is old to them."""
    return {name: theirs.value(name.removeprefix("new_")) for name in names_in(row.fields)}


# -- the table itself --------------------------------------------------------------------------------------------------


def test_every_rpc_has_a_row() -> None:
    """An RPC that is not in the table fails, and so does a row of none."""
    assert set(METHODS) == {row.method for row in ROWS}


def test_every_row_says_who_may() -> None:
    """The role in the table is the one that the protos declare."""
    declared = {}
    for name, method in METHODS.items():
        number = method.GetOptions().Extensions[options_pb2.required_role]
        declared[name] = options_pb2.Role.Name(number).removeprefix("ROLE_").lower()

    assert declared == {row.method: row.role for row in ROWS}
    assert len(ROWS) == len({row.name for row in ROWS})


def test_every_name_has_a_row() -> None:
    """Each field by which a request can name something is set in a row of its RPC."""
    named = defaultdict(set)
    for row in ROWS:
        request = ParseDict(filled(row.fields, lambda _: "1"), GetMessageClass(METHODS[row.method].input_type)())
        named[row.method] |= set(fields_set(request))
    missing = {name: set(naming_fields(method.input_type)) - named[name] for name, method in METHODS.items()}

    assert {} == {name: fields for name, fields in missing.items() if fields}


# -- the matrix --------------------------------------------------------------------------------------------------------


@matrix(*ROWS)
def test_own(world: World, row: Row) -> None:
    """Whoever has the role may, with what is their own; a twin of another organisation, which callers call the same,
    is not touched, and nothing of it is told."""
    server = world.server
    ours = Names(server, server.ours)
    twin = Names(server, server.theirs, ours.number)
    ours.made |= {name: twin.value(name[4:]) for name in names_in(row.fields) if name.startswith("new_")}
    fields = ours.fields(row)
    twin.fields(row)
    before = server.content(server.theirs)
    messages = 1 + server.transactions(server.ours) if row.method.endswith("WatchTransactions") else 3
    answer = server.call(row, fields, server.ours.keys[row.role], messages=messages)

    assert answer.accepted, answer
    assert before == server.content(server.theirs)
    assert set() == seen(answer, nothing_of(twin, *ours.made.values()) | nothing_of(world.theirs))


@matrix(*(row for row in ROWS if names_in(row.fields)))
def test_not_yours_is_not_there(world: World, row: Row) -> None:
    """Whatever in a request names something of another organisation, the answer is the one for what is nowhere."""
    server = world.server
    ours = Names(server, server.ours)
    every = names_in(row.fields)
    sets = {name: [name] for name in every} | ({"all": every} if len(every) > 1 else {})
    expected, actual, told = {}, {}, set()
    for called, names in sets.items():
        # What we make under their names is ours from then on, so that each time others are needed.
        owner = Names(server, server.theirs) if any(name.startswith("new_") for name in names) else world.theirs
        theirs = {name: one for name, one in taken(row, owner).items() if name in names}
        guesses = {name: guess(name, one) for name, one in theirs.items()}
        before = server.content(server.theirs)
        for found, others in ((expected, guesses), (actual, theirs)):
            request_id = new_request_id()
            fields = ours.fields(row, others)
            answer = server.call(row, fields, server.ours.keys[row.role], request_id)
            told |= seen(answer, nothing_of(owner, *others.values()))
            found[called] = answer.without({request_id: SAME} | words(ours.made | others))
            if answer.code is grpc.StatusCode.OK:
                ours = Names(server, server.ours)  # for the second of the two as if there had been no first
        assert before == server.content(server.theirs)

    assert expected == actual
    assert set() == told


@matrix(*ROWS)
def test_no_credential(world: World, row: Row) -> None:
    """Without a credential nothing is told and done, whatever is named, in the same bytes."""
    refused_alike(world, row, None, grpc.StatusCode.UNAUTHENTICATED)


@matrix(*(row for row in ROWS if row.role != READER))
def test_lesser_role(world: World, row: Row) -> None:
    """With the role below the one asked for nothing is told and done, whatever is named, in the same bytes."""
    lesser = ROLES[ROLES.index(row.role) - 1]
    refused_alike(world, row, world.server.ours.keys[lesser], grpc.StatusCode.PERMISSION_DENIED)


def refused_alike(world: World, row: Row, key: str | None, code: grpc.StatusCode) -> None:
    """Asks with own, with their and with guessed names."""
    server = world.server
    ours = Names(server, server.ours)
    theirs = taken(row, world.theirs)
    guesses = {name: guess(name, value) for name, value in theirs.items()}
    asked = [ours.fields(row), ours.fields(row, theirs), ours.fields(row, guesses)]
    before = [server.content(server.ours), server.content(server.theirs)]
    answers = [server.call(row, fields, key) for fields in asked]

    assert code == answers[0].code
    assert [answers[0]] * 3 == answers
    assert set() == seen(answers[0], nothing_of(ours) | nothing_of(world.theirs))
    assert before == [server.content(server.ours), server.content(server.theirs)]


WHOLE = ("ProgramService/ListPrograms", "ProgramService/ListConfigKeys", "CatalogService/ListCodes")
"""Lists of one page, which never give a token; they are shown that of another list."""

PAGES = {"page_token": "pageToken", "resume_token": "resumeToken"}


def goes_on(row: Row) -> str:
    """The field of a row's request that says where to go on; empty if it has none."""
    return next((name for name in PAGES if name in METHODS[row.method].input_type.fields_by_name), "")


@matrix(*(row for row in ROWS if goes_on(row)))
def test_token_of_others(world: World, row: Row) -> None:
    """A page token, or a resume token, of another organisation is the same as one that was made up, for the very same
    query too: our names are a twin's."""
    server = world.server
    owner = Names(server, server.theirs).everything()
    theirs, ours = taken(row, owner), Names(server, server.ours, owner.number)
    field = PAGES[goes_on(row)]
    asked = {name: value for name, value in ours.fields(row).items() if name != "fromBeginning"}
    copied = {name: value for name, value in ours.fields(row, theirs).items() if name != "fromBeginning"}
    made_up = ours.fields(row, {name: guess(name, value) for name, value in theirs.items()})
    size = {"pageSize": 1} if field == "pageToken" else {}
    key = server.theirs.keys["admin"]
    giver = next(one for one in ROWS if one.method.endswith("ListAuditEvents")) if row.method in WHOLE else row
    token = server.call(giver, {**copied, **size}, key).answered["nextPageToken" if size else field]
    used = server.call(giver, {**copied, **size, field: token}, key)
    before = server.content(server.theirs)

    assert used.accepted, used
    others = ours.fields(row, taken(row, world.theirs))  # which are not ours: no twin was made of them
    for with_theirs, with_none in (
        (asked, asked),
        tuple({name: one[name] for name in asked} for one in (others, made_up)),
    ):
        answers = [
            server.call(row, {**fields, **size, field: given}, server.ours.keys[row.role])
            for fields, given in ((with_theirs, token), (with_none, like(token)))
        ]
        assert grpc.StatusCode.OK != answers[0].code
        assert answers[1] == answers[0]
        assert set() == seen(answers[0], nothing_of(owner, *ours.made.values()))
    assert before == server.content(server.theirs)


@matrix(*(row for row in ROWS if is_command(METHODS[row.method])))
def test_request_id_of_others(world: World, row: Row) -> None:
    """Another organisation's request id is a new one, and its outcome is not replayed to us, not even for its very
    request; it stays theirs."""
    server = world.server
    our_key, their_key = server.ours.keys[row.role], server.theirs.keys[row.role]
    theirs = [Names(server, server.theirs) for _ in range(2)]
    asked, ids = [one.fields(row) for one in theirs], [new_request_id() for _ in theirs]
    done = [server.call(row, fields, their_key, name) for fields, name in zip(asked, ids, strict=True)]
    nowhere = {name: guess(name, value) for name, value in taken(row, world.theirs).items()}
    ours, made_up_id = Names(server, server.ours), new_request_id()
    our_fields, made_up_fields = ours.fields(row), ours.fields(row, nowhere)
    before = server.content(server.theirs)
    mine = server.call(row, our_fields, our_key, ids[0])
    copied = server.call(row, asked[1], our_key, ids[1])
    made_up = server.call(row, made_up_fields, our_key, made_up_id)
    after = server.content(server.theirs)
    again = server.call(row, asked[0], their_key, ids[0])
    recorded = {"replayed": True} if server.is_recorded(server.theirs, ids[0]) else {}

    assert [True, True, True] == [one.accepted for one in (*done, mine)], (done, mine)
    assert not mine.answered.get("replayed")
    assert made_up.without({made_up_id: SAME, **words(nowhere)}) == copied.without(
        {ids[1]: SAME, **words(theirs[1].made)}
    )
    assert set() == seen(mine, nothing_of(theirs[0])) | seen(copied, nothing_of(theirs[0]))
    assert before == after
    assert {**done[0].answered, **recorded} == again.answered


def words(names: Mapping[str, str]) -> dict[str, str]:
    """What names are put by, so that answers about them can be equal."""
    return {value: name.ljust(len(value), ".")[: len(value)] for name, value in names.items()}


@pytest.mark.ci
def test_books_are_in_order(world: World) -> None:
    """After all that, `verify` finds nothing in either organisation."""
    database = Database(world.server.running.database)
    found = list(verify(database).differences)
    database.close()

    assert [] == found
