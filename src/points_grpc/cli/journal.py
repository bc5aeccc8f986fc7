"""`points-grpc journal checkpoint`, `export` and `fetch`, and the proof of an export: `verify --export --checkpoint`.

Export and checkpoint read the database, beside whatever serves it; fetch asks a server, as any client may. The proof
opens no database at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from points_grpc.cli.calling import Server, server_options
from points_grpc.cli.databases import DATABASE, ID_MAX, ORG, accounts_of, plain_errors, require_org
from points_grpc.cli.export_file import new_file
from points_grpc.cli.setting_options import keys_file_option
from points_grpc.cli.typed import SECONDS

if TYPE_CHECKING:
    from points_grpc.domain.checkpoint import Checkpoint
    from points_grpc.domain.exported import FileEnd
    from points_grpc.storage.exports import SqlExports
    from points_grpc.v1.wallet_service_pb2 import ExportJournalResponse

FILE = click.Path(path_type=Path, dir_okay=False)


def _not_there(_context: click.Context, _parameter: click.Parameter, file: Path) -> Path:
    """Nothing is written over: not the database, not the secret keys, not yesterday's evidence."""
    if file.is_symlink() or file.exists():
        raise click.UsageError(f"{file} is there already: name another file, or move that one away")
    return file


NEW_FILE = click.argument("file", type=FILE, callback=_not_there)


@click.group()
def journal() -> None:
    """The journal as a chain: signed checkpoints, and exports that anybody can prove."""


@journal.command()
@DATABASE
@click.option("--org", "org_id", type=click.IntRange(1, ID_MAX), help="One organisation's streams; all if unset.")
@keys_file_option
@NEW_FILE
def checkpoint(database: str, org_id: int | None, keys_file: Path | None, file: Path) -> None:
    """Writes into FILE, which is new, where every journal stream stands, signed.

    Keep it where the database's owner cannot write.
    """
    from points_grpc.cli.keys_file import keyring_of  # noqa: PLC0415 - the other commands need none of it
    from points_grpc.domain.checkpoint import to_text  # noqa: PLC0415
    from points_grpc.settings import keys_path  # noqa: PLC0415
    from points_grpc.storage.engine import Database  # noqa: PLC0415

    if org_id is not None:
        require_org(accounts_of(database), org_id)
    with plain_errors():
        heads = _exports(database).heads(org_id or 0)
        keyring = keyring_of(keys_path(keys_file, Database(database).path))
        made, signature = keyring.checkpoint(time.time_ns() // 1_000, heads)
    with new_file(file) as out:
        out.write(to_text(made, signature).encode())
    click.echo(f"{file}: {_count(len(heads), 'stream')}, signed with {made.key_id}")
    click.echo(f"public key {made.public_key.hex()}")


@journal.command()
@DATABASE
@ORG
@NEW_FILE
def export(database: str, org_id: int, file: Path) -> None:
    """Writes an organisation's journal into FILE, which is new, up to where it stands now, as docs/journal.md says."""
    from points_grpc.domain.exported import start_of_file  # noqa: PLC0415

    require_org(accounts_of(database), org_id)
    entries = 0
    with plain_errors(), new_file(file) as out:
        exports = _exports(database)
        out.write(start_of_file(org_id))
        for head in exports.heads(org_id):
            for page in exports.pages(org_id, head.stream, after=0, until=head.position):
                for one in page:
                    out.write(one.data)
            entries += head.position
    click.echo(f"{file}: {_count(entries, 'entry')}, {_count(file.stat().st_size, 'byte')}")


@journal.command()
@server_options
@click.option(
    "--timeout",
    "timeout_s",
    default=60.0,
    show_default=True,
    type=SECONDS,
    help="Seconds without anything new after which it is given up.",
)
@click.argument("file", type=FILE)
def fetch(file: Path, server: Server, timeout_s: float) -> None:
    """Gets the journal of the caller's organisation from a server into FILE; goes on where FILE ends, if it is there.

    A file that was fetched before, or cut in between, gets what is new; any other is left alone.
    """
    from points_grpc.client import PointsError  # noqa: PLC0415 - gRPC takes a while to import
    from points_grpc.client.refusals import WatchPositionLost  # noqa: PLC0415
    from points_grpc.v1 import wallet_service_pb2 as pb  # noqa: PLC0415

    try:
        with _plain_file_errors(file), file.open("r+b" if file.exists() else "x+b") as out:
            end = _end_of(file, out)
            request = pb.ExportJournalRequest()
            if end is not None:
                positions = [
                    pb.JournalPlace.Position(stream=stream, position=position)
                    for stream, position in sorted(end.places.items())
                ]
                request.after.CopyFrom(pb.JournalPlace(positions=positions))
                out.seek(end.length)
                out.truncate()
            with server.client() as points:
                _append(out, points.export_journal(request, timeout_s=timeout_s), None if end is None else end.org_id)
            length = out.tell()
    except WatchPositionLost as lost:
        raise click.ClickException(
            f"{file} goes on to position {lost.position} of stream {lost.stream}, and the journal ends at {lost.head}: "
            "it is of another journal, or that was restored or cut"
        ) from None
    except PointsError as error:
        raise click.ClickException(f"{error}; {file} is whole as far as it goes: run it again to go on") from None
    click.echo(f"{file}: {_count(length, 'byte')}")


def _end_of(file: Path, out: BinaryIO) -> FileEnd | None:
    """Where a file ends that is to be gone on with; None for one that is empty."""
    from points_grpc.domain.chain import NoEntry  # noqa: PLC0415 - the other commands need none of it
    from points_grpc.domain.exported import Cut, end_of  # noqa: PLC0415

    if not out.seek(0, os.SEEK_END):
        return None
    out.seek(0)
    try:
        return end_of(out)
    except Cut as cause:
        raise click.ClickException(f"{file} {cause}: it is left as it is") from None
    except NoEntry as cause:
        raise click.ClickException(
            f"{file} is damaged, or is of a broken journal: an entry {cause}. It is left as it is, and "
            "`points-grpc verify --export` says more; fetch into another file"
        ) from None


def _append(out: BinaryIO, pieces: Iterable[ExportJournalResponse], org_id: int | None) -> None:
    """Writes what comes; `org_id`: whose journal the file holds, if it holds one."""
    from points_grpc.domain.exported import org_of_record  # noqa: PLC0415 - the other commands need none of it

    for piece in pieces:
        if org_id is not None and org_of_record(piece.data) != org_id:
            raise click.ClickException(f"the file is of organisation {org_id}, and the token of another")
        org_id = None  # it is looked at once: all that comes is of one
        out.write(piece.data)
    out.flush()
    os.fsync(out.fileno())


@journal.command("keys")
@DATABASE
@keys_file_option
def public_keys(database: str, keys_file: Path | None) -> None:
    """Prints the public half of what each secret key signs checkpoints with: to be kept by whoever will prove them."""
    from points_grpc.cli import keys_file as file_of_keys  # noqa: PLC0415 - the other commands need none of it
    from points_grpc.settings import keys_path  # noqa: PLC0415
    from points_grpc.storage.engine import Database  # noqa: PLC0415

    with plain_errors():
        path = keys_path(keys_file, Database(database).path)
    keyring = file_of_keys.load(path).keyring_at(datetime.now(UTC))
    for key_id, public_key in sorted(keyring.checkpoint_keys().items()):
        click.echo("\t".join((key_id, public_key.hex(), *["signs now"] * (key_id == keyring.active))))


def prove(export_file: Path, checkpoint_file: Path, public_keys: Sequence[str]) -> None:
    """Proves an export with a checkpoint; says what is wrong, and fails."""
    from points_grpc.domain.chain import StreamHead  # noqa: PLC0415
    from points_grpc.domain.exported import Audit  # noqa: PLC0415

    made = _believed(checkpoint_file, public_keys)
    audit = Audit({(one.org_id, one.stream): StreamHead(one.position, one.hash) for one in made.heads})
    with _plain_file_errors(export_file), export_file.open("rb") as file:
        audit.read(file)
    click.echo(f"{_count(audit.entries, 'entry')}, of which the checkpoint vouches for {audit.vouched}")
    total = sum(audit.balances.values())
    click.echo(f"{_count(len(audit.balances), 'wallet')} with {_count(total, 'point')}, expired ones included")
    for problem in audit.problems:
        click.echo(f"PROBLEM {problem}")
    if audit.problems:
        raise click.ClickException(f"the export is not proved: {_problems(len(audit.problems))}")
    if not public_keys:
        click.echo(f"signed with {made.key_id}, public key {made.public_key.hex()}: compare it, or give --public-key")
    click.echo("verify: OK")


def _believed(file: Path, public_keys: Sequence[str]) -> Checkpoint:
    """A checkpoint whose signature is right, and with one of the keys that were expected."""
    from points_grpc.domain.checkpoint import NoCheckpoint, from_text  # noqa: PLC0415
    from points_grpc.service.keyring import is_signed  # noqa: PLC0415

    try:
        made, signature = from_text(file.read_text())
    except (NoCheckpoint, ValueError, OSError) as error:
        raise click.ClickException(f"{file} is no checkpoint: {error}") from None
    if not is_signed(made, signature):
        raise click.ClickException(f"{file}: its signature is not that of its key: it was changed")
    if public_keys and made.public_key.hex() not in {one.lower() for one in public_keys}:
        raise click.ClickException(f"{file}: it was signed with another key, {made.public_key.hex()}")
    return made


def _problems(found: int) -> str:
    """How many; no more are looked for than so many."""
    from points_grpc.domain.exported import PROBLEMS_MAX  # noqa: PLC0415 - the other commands need none of it

    return f"{PROBLEMS_MAX} problems or more" if found == PROBLEMS_MAX else _count(found, "problem")


def _count(number: int, of: str) -> str:
    """So many of something."""
    plural = f"{of.removesuffix('y')}ies" if of.endswith("y") else f"{of}s"
    return f"{number} {of if number == 1 else plural}"


@contextmanager
def _plain_file_errors(file: Path) -> Iterator[None]:
    """What ails a file is a sentence, too."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{file}: {(error.strerror or str(error)).lower()}") from None


def _exports(database: str) -> SqlExports:
    from points_grpc.storage.engine import Database, require_schema  # noqa: PLC0415 - SQLAlchemy takes a while
    from points_grpc.storage.exports import SqlExports  # noqa: PLC0415

    opened = Database(database)
    click.get_current_context().call_on_close(opened.close)
    require_schema(opened)
    return SqlExports(opened)
