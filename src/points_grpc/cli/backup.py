"""`points-grpc backup FILE`: a copy of a SQLite database, while a server serves it."""

from __future__ import annotations

from pathlib import Path

import click

from points_grpc.cli.databases import DATABASE, plain_errors
from points_grpc.cli.export_file import new_file


@click.command()
@DATABASE
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(database: str, file: Path) -> None:
    """Copies a SQLite database into FILE, also while it is served; the secret keys are a file of their own."""
    from points_grpc.storage.backup import copy_checked, source_of  # noqa: PLC0415 - SQLAlchemy takes a while
    from points_grpc.storage.engine import Database  # noqa: PLC0415

    with plain_errors():
        source = source_of(Database(database))
        if file.exists():
            raise click.ClickException(f"{file} exists already")
        with new_file(file) as out:
            copy_checked(source, out.part)
    click.echo(f"{file}: {file.stat().st_size} bytes")
