"""`points-grpc journal checkpoint` and `journal export`, and the proof of an export: `verify --export --checkpoint`.

Export and checkpoint read the database, beside whatever serves it. The proof opens no database at all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from points_grpc.cli.databases import DATABASE, ORG, accounts_of, plain_errors, require_org

if TYPE_CHECKING:
    from points_grpc.domain.checkpoint import Checkpoint
    from points_grpc.storage.exports import SqlExports

KEYS_FILE = click.option(
    "--keys-file",
    type=click.Path(path_type=Path),
    envvar="POINTS_GRPC_KEYS_FILE",
    help="File with the secret keys of the server; beside a SQLite database if unset.",
)
NEW_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=False))


@click.group()
def journal() -> None:
    """The journal as a chain: signed checkpoints, and exports that anybody can prove."""


@journal.command()
@DATABASE
@click.option("--org", "org_id", type=click.IntRange(1), help="One organisation's streams; all if unset.")
@KEYS_FILE
@NEW_FILE
def checkpoint(database: str, org_id: int | None, keys_file: Path | None, file: Path) -> None:
    """Writes into FILE where every journal stream stands, signed. Keep it where the database's owner cannot write."""
    from points_grpc.cli.keys_file import load_or_create  # noqa: PLC0415 - the other commands need none of it
    from points_grpc.domain.checkpoint import to_text  # noqa: PLC0415
    from points_grpc.settings import keys_path  # noqa: PLC0415
    from points_grpc.storage.engine import Database  # noqa: PLC0415

    if org_id is not None:
        require_org(accounts_of(database), org_id)
    with plain_errors():
        heads = _exports(database).heads(org_id or 0)
        keyring = load_or_create(keys_path(keys_file, Database(database).path))
        made, signature = keyring.checkpoint(time.time_ns() // 1_000, heads)
    with _plain_file_errors(file):
        file.write_text(to_text(made, signature))
    click.echo(f"{file}: {len(heads)} streams, signed with {made.key_id}, public key {made.public_key.hex()}")


@journal.command()
@DATABASE
@ORG
@NEW_FILE
def export(database: str, org_id: int, file: Path) -> None:
    """Writes an organisation's journal into FILE, up to where it stands now, as docs/journal.md says."""
    from points_grpc.domain.exported import start_of_file  # noqa: PLC0415

    require_org(accounts_of(database), org_id)
    entries = 0
    with plain_errors(), _plain_file_errors(file):
        exports = _exports(database)
        with file.open("wb") as out:
            out.write(start_of_file(org_id))
            for head in exports.heads(org_id):
                for page in exports.pages(org_id, head.stream, after=0, until=head.position):
                    out.write(page.records)
                entries += head.position
    click.echo(f"{file}: {entries} entries, {file.stat().st_size} bytes")


def prove(export_file: Path, checkpoint_file: Path, public_key: str | None) -> None:
    """Proves an export with a checkpoint; says what is wrong, and fails."""
    from points_grpc.domain.chain import StreamHead  # noqa: PLC0415
    from points_grpc.domain.exported import Audit  # noqa: PLC0415

    made = _believed(checkpoint_file, public_key)
    audit = Audit({(one.org_id, one.stream): StreamHead(one.position, one.hash) for one in made.heads})
    with _plain_file_errors(export_file), export_file.open("rb") as file:
        audit.read(file)
    click.echo(f"{audit.entries} entries, of which the checkpoint vouches for {audit.vouched}")
    click.echo(f"{len(audit.balances)} wallets with {sum(audit.balances.values())} points, expired ones included")
    for problem in audit.problems:
        click.echo(f"PROBLEM {problem}")
    if audit.problems:
        raise click.ClickException(f"the export is not proved: {len(audit.problems)} problems")
    if public_key is None:
        click.echo(f"signed with {made.key_id}, public key {made.public_key.hex()}: compare it, or give --public-key")
    click.echo("verify: OK")


def _believed(file: Path, public_key: str | None) -> Checkpoint:
    """A checkpoint whose signature is right, and with the key that was expected."""
    from points_grpc.domain.checkpoint import NoCheckpoint, from_text  # noqa: PLC0415
    from points_grpc.service.keyring import is_signed  # noqa: PLC0415

    try:
        made, signature = from_text(file.read_text())
    except (NoCheckpoint, ValueError, OSError) as error:
        raise click.ClickException(f"{file} is no checkpoint: {error}") from None
    if not is_signed(made, signature):
        raise click.ClickException(f"{file}: its signature is not that of its key: it was changed")
    if public_key is not None and public_key.lower() != made.public_key.hex():
        raise click.ClickException(f"{file}: it was signed with another key, {made.public_key.hex()}")
    return made


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
