"""`points-grpc backup FILE`: a copy of a SQLite database, while a server serves it."""

from __future__ import annotations

from pathlib import Path

import click

from points_grpc.cli.databases import DATABASE, plain_errors


@click.command()
@DATABASE
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(database: str, file: Path) -> None:
    """Copies a SQLite database into FILE, also while it is served; the secret keys are a file of their own."""
    from points_grpc.storage.backup import back_up  # noqa: PLC0415 - SQLAlchemy takes a while to import
    from points_grpc.storage.engine import Database  # noqa: PLC0415

    with plain_errors():
        size = back_up(Database(database), file)
    click.echo(f"{file}: {size} bytes")
