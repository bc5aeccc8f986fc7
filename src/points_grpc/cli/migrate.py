"""`points-grpc migrate`: brings a database to the schema of this version, says where it stands, or prints the SQL.

Migrations are the only thing that changes a schema; a server looks at the revision and refuses any but its own.
"""

from __future__ import annotations

import click

from points_grpc.cli.databases import plain_errors
from points_grpc.cli.printing import JSON, print_json
from points_grpc.cli.setting_options import CONFIG, DEFAULT_DATABASE, configured_database

DATABASE = click.option("--database", help="Database URL; see --config.  [default: that of migrate]")


@click.group(invoke_without_command=True)
@CONFIG
@click.option(
    "--database",
    envvar="POINTS_GRPC_DATABASE",
    show_default=DEFAULT_DATABASE,
    help="Database URL; see --config.",
)
@click.pass_context
def migrate(context: click.Context, database: str | None) -> None:
    """Brings the database to the schema of this version; without a command as `up`."""
    context.obj = database
    if context.invoked_subcommand is None:
        context.invoke(up)


@migrate.command()
@CONFIG
@DATABASE
@click.pass_obj
def up(of_group: str | None, database: str | None = None) -> None:
    """Runs the migrations that the database lacks."""
    from points_grpc.storage.migrate import upgrade  # noqa: PLC0415 - alembic takes most of a second

    url = _url(database, of_group)
    with plain_errors():
        click.echo(f"schema revision {upgrade(url)}")


@migrate.command()
@CONFIG
@DATABASE
@JSON
@click.pass_obj
def status(of_group: str | None, database: str | None, *, as_json: bool) -> None:
    """Tells the revision found and the one needed; exits 1 unless they are the same."""
    from points_grpc.storage.migrate import current, head  # noqa: PLC0415 - see above

    url = _url(database, of_group)
    with plain_errors():
        found, needed = current(url), head()
    if as_json:
        print_json({"found": found, "needed": needed})
    else:
        click.echo(f"found {found or 'none'}, needed {needed}")
    if found != needed:
        raise click.exceptions.Exit(1)


@migrate.command()
@CONFIG
@DATABASE
@click.pass_obj
def sql(of_group: str | None, database: str | None) -> None:
    """Prints the SQL of all migrations, for those who run it by hand."""
    from points_grpc.storage import migrate as migrations  # noqa: PLC0415 - see above

    url = _url(database, of_group)
    with plain_errors():
        click.echo(migrations.sql(url))


def _url(database: str | None, of_group: str | None) -> str:
    """The database that is meant: the command's own, that of `migrate` before it, or the one that is configured."""
    return database or of_group or configured_database()
