"""The journal through a real server: fetched by the command, gone on with, and proved with a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result

from cutting_proxy import CuttingProxy, Frame
from databases import NewDatabase
from points_grpc.cli.main import main
from points_grpc.storage.engine import Database
from points_grpc.storage.exports import SqlExports
from points_grpc.v1 import issuance_service_pb2, wallet_service_pb2
from points_grpc.v1.customer_service_pb2 import CreateCustomerRequest
from points_grpc.v1.program_service_pb2 import CreateProgramRequest
from running import Caller, RunningServer

MEMBER = {"type": "ID", "value": "1"}


class Journal:
    """A server with a journal of an organisation, and the commands."""

    def __init__(self, running: RunningServer) -> None:
        self.running = running
        self.org_id = running.organisation()
        self.token = running.key(self.org_id, role="admin")
        self.other = running.key(running.organisation("other"), role="reader")
        self.auditor = running.key(self.org_id, role="reader", client="auditor")
        running.start()
        self.caller = Caller(running.address, self.token)
        self.caller.ask(self.caller.programs.CreateProgram, CreateProgramRequest(), {"programId": 10, "name": "P"})
        member = {"customerId": 1, "enrolledProgramIds": [10]}
        self.caller.ask(self.caller.customers.CreateCustomer, CreateCustomerRequest(), member)

    def issue(self, count: int) -> None:
        """So many more entries, with notes on some."""
        one = {"customerIdentifier": MEMBER, "points": 3, "source": "LOYALTY_PLUS"}
        request = issuance_service_pb2.BatchIssuePointsRequest()
        issuance = self.caller.issuance
        self.caller.ask(issuance.BatchIssuePoints, request, {"requests": [one] * count}, timeout_s=60)

    def run(self, *arguments: str | Path) -> Result:
        """Runs a command."""
        return CliRunner().invoke(main, [str(one) for one in arguments])

    def fetch(self, file: Path, token: str = "", address: str = "") -> Result:
        """Fetches the journal as the auditor does."""
        where = address or self.running.address
        return self.run("journal", "fetch", "--address", where, "--token", token or self.auditor, file)

    def exported(self, file: Path) -> bytes:
        """The journal as it is in the database."""
        done = self.run("journal", "export", "--database", self.running.database, "--org", self.org_id, file)
        assert done.exit_code == 0, done.output
        return file.read_bytes()

    def entries(self) -> int:
        """How many entries the journal has, all of one stream."""
        database = Database(self.running.database)
        [head] = SqlExports(database).heads(self.org_id)
        database.close()
        return head.position

    def proved(self, file: Path) -> Result:
        """Proves a file with a checkpoint that is made now."""
        keys, made = ("--keys-file", self.running.keys), file.with_suffix(f".{self.entries()}.checkpoint")
        done = self.run("journal", "checkpoint", "--database", self.running.database, *keys, made)
        assert done.exit_code == 0, done.output
        return self.run("verify", "--export", file, "--checkpoint", made)


@pytest.fixture(scope="module")
def journal(new_database_in_ci: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    """A server with a journal of some pages."""
    folder = tmp_path_factory.mktemp("journal")
    running = RunningServer(folder, on=new_database_in_ci(folder))
    found = Journal(running)
    found.issue(700)
    yield found
    found.caller.close()
    running.close()


def test_fetched_and_proved(journal: Journal, tmp_path: Path) -> None:
    """The file is the one that is exported beside the server, it is proved, and it goes on when there is more."""
    file = tmp_path / "journal.pgx"
    first = journal.fetch(file)
    same = file.read_bytes() == journal.exported(tmp_path / "beside")
    proved = journal.proved(file)
    entries = journal.entries()
    journal.issue(300)
    again = journal.fetch(file)

    assert (0, True, 0, 0) == (first.exit_code, same, proved.exit_code, again.exit_code), first.output + proved.output
    assert f"{entries} entries, of which the checkpoint vouches for {entries}" in proved.output
    assert file.read_bytes() == journal.exported(tmp_path / "later")
    now = entries + 300
    assert f"{now} entries, of which the checkpoint vouches for {now}" in journal.proved(file).output


def test_gone_on_with_wherever_it_was_cut(journal: Journal, tmp_path: Path) -> None:
    """A file that ends within an entry, or within its first, is made whole."""
    file = tmp_path / "journal.pgx"
    whole = journal.exported(tmp_path / "beside")
    for length in (0, 12, 15, 500, len(whole) // 2, len(whole) - 1, len(whole)):
        file.write_bytes(whole[:length])
        done = journal.fetch(file)

        assert (0, whole) == (done.exit_code, file.read_bytes()), (length, done.output)


def test_connections_that_are_cut(journal: Journal, tmp_path: Path) -> None:
    """Connections that are cut in the midst of the answer lose and repeat nothing."""
    file = tmp_path / "journal.pgx"
    with CuttingProxy(journal.running.port, cuts=4, at=Frame.DATA) as proxy:
        done = journal.fetch(file, address=proxy.address)
        made = proxy.cuts_made

    assert (0, 4) == (done.exit_code, made), done.output
    assert file.read_bytes() == journal.exported(tmp_path / "beside")


def test_deadlines_lose_nothing(journal: Journal, tmp_path: Path) -> None:
    """Whoever is cut after each message, and goes on from the last place told, gets the same file."""
    request, pieces = wallet_service_pb2.ExportJournalRequest(), []
    wallets, metadata = journal.caller.wallets, (("authorization", f"Bearer {journal.auditor}"),)
    while True:
        stream = wallets.ExportJournal(request, metadata=metadata, timeout=60)
        try:
            message = next(stream)
        except StopIteration:
            break
        stream.cancel()
        pieces.append(message.data)
        request.after.CopyFrom(message.reached)
    with pytest.raises(grpc.RpcError) as late:
        list(wallets.ExportJournal(wallet_service_pb2.ExportJournalRequest(), metadata=metadata, timeout=0.001))

    assert journal.exported(tmp_path / "beside") == b"".join(pieces)
    assert 4 <= len(pieces)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_another_organisation(journal: Journal, tmp_path: Path) -> None:
    """Its file is its own, and is not gone on with by the key of another; nor is what is no export at all."""
    theirs, mine, text = tmp_path / "theirs.pgx", tmp_path / "mine.pgx", tmp_path / "text"
    text.write_text("a letter to somebody")
    journal.exported(mine)
    content = mine.read_bytes()
    empty = journal.fetch(theirs, journal.other)
    other = journal.fetch(mine, journal.other)
    none = journal.fetch(text)

    assert (0, 12) == (empty.exit_code, theirs.stat().st_size)
    assert (1, content) == (other.exit_code, mine.read_bytes())
    assert f"goes on to position {journal.entries()} of stream 0, and the journal ends at 0" in other.output
    assert (1, "a letter to somebody") == (none.exit_code, text.read_text())
    assert "is no export of a journal: it is left as it is" in none.output


def test_nothing_is_written_over(journal: Journal, tmp_path: Path) -> None:
    """Whatever is there stays as it is, the secret keys and the database above all; and nothing half-written stays."""
    theirs, linked = tmp_path / "theirs.pgx", tmp_path / "linked"
    theirs.write_text("yesterday's")
    linked.symlink_to(tmp_path / "nowhere")
    there = [theirs, linked, journal.running.keys]
    before = journal.running.keys.read_bytes()
    database = ("--database", journal.running.database)
    commands: list[tuple[str | Path, ...]] = [
        ("journal", "export", *database, "--org", journal.org_id),
        ("journal", "checkpoint", *database, "--keys-file", journal.running.keys),
    ]
    done = [journal.run(*command, file) for command in commands for file in there]

    assert [2] * 6 == [one.exit_code for one in done], [one.output for one in done]
    assert ("yesterday's", before) == (theirs.read_text(), journal.running.keys.read_bytes())
    assert {theirs, linked} == set(tmp_path.iterdir())
