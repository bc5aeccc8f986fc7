"""`points-grpc migrate`: brings a database to the schema of this version, says where it stands, or prints the SQL.

Migrations are the only thing that changes a schema; a server looks at the revision and refuses any but its own.
"""

from __future__ import annotations

import click

from points_grpc.cli.databases import plain_errors

DATABASE = click.option(
    "--database",
    envvar="POINTS_GRPC_DATABASE",
    help="Database URL.  [default: that of migrate, or sqlite:///points.db]",
)
DEFAULT = "sqlite:///points.db"


@click.group(invoke_without_command=True)
@DATABASE
@click.pass_context
def migrate(context: click.Context, database: str | None) -> None:
    """Brings the database to the schema of this version; without a command as `up`."""
    context.obj = database or DEFAULT
    if context.invoked_subcommand is None:
        context.invoke(up)


@migrate.command()
@DATABASE
@click.pass_obj
def up(default: str, database: str | None = None) -> None:
    """Runs the migrations that the database lacks."""
    from points_grpc.storage.migrate import upgrade  # noqa: PLC0415 - alembic takes most of a second

    with plain_errors():
        click.echo(f"schema revision {upgrade(database or default)}")


@migrate.command()
@DATABASE
@click.pass_obj
def status(default: str, database: str | None) -> None:
    """Tells the revision found and the one needed; exits 1 unless they are the same."""
    from points_grpc.storage.migrate import current, head  # noqa: PLC0415 - see above

    with plain_errors():
        found, needed = current(database or default), head()
    click.echo(f"found {found or 'none'}, needed {needed}")
    if found != needed:
        raise click.exceptions.Exit(1)


@migrate.command()
@DATABASE
@click.pass_obj
def sql(default: str, database: str | None) -> None:
    """Prints the SQL of all migrations, for those who run it by hand."""
    from points_grpc.storage import migrate as migrations  # noqa: PLC0415 - see above

    with plain_errors():
        click.echo(migrations.sql(database or default))
