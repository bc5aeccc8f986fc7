"""What the commands share that administer a database beside a serving process: its options, opening it, its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from points_grpc.cli.setting_options import database_option

if TYPE_CHECKING:
    from points_grpc.storage.accounts import Accounts

DATABASE = database_option
ID_MAX = 2**63 - 1
"""Ids are int64."""

ORG = click.option("--org", "org_id", type=click.IntRange(1, ID_MAX), required=True, help="The organisation's id.")
ROLES = click.Choice(["reader", "operator", "manager", "admin"])


def accounts_of(database: str) -> Accounts:
    """The accounts of a database that has the schema of this version."""
    from points_grpc.storage.accounts import Accounts  # noqa: PLC0415 - SQLAlchemy takes a while to import
    from points_grpc.storage.engine import Database, require_schema  # noqa: PLC0415

    opened = Database(database)
    click.get_current_context().call_on_close(opened.close)
    require_schema(opened)
    return Accounts(opened)


def require_org(accounts: Accounts, org_id: int) -> None:
    """Ends the command if there is no such organisation."""
    if org_id not in {org.org_id for org in accounts.list_orgs()}:
        raise click.UsageError(f"there is no organisation {org_id}")


def in_a_sentence(error: Exception) -> click.ClickException | None:
    """What a command ends with where an operator can mend what went wrong; None where it is a bug, or told already."""
    if isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort):
        return None
    from points_grpc.service.keeper import CannotStart  # noqa: PLC0415 - what goes well needs none of it
    from points_grpc.service.ports import STORAGE_CONDITIONS, SettingWrong  # noqa: PLC0415
    from points_grpc.storage.engine import SchemaMismatch  # noqa: PLC0415
    from points_grpc.storage.faults import DRIVER_ERRORS, translate  # noqa: PLC0415

    if isinstance(error, DRIVER_ERRORS):
        error = translate(error)
    if isinstance(error, SettingWrong):
        return click.UsageError(str(error))
    if isinstance(error, (CannotStart, SchemaMismatch, *STORAGE_CONDITIONS)):
        return click.ClickException(str(error))
    return None


@contextmanager
def plain_errors() -> Iterator[None]:
    """What every command tells in a sentence (`Commands` in main.py), and a ValueError, where its text is one, too."""
    try:
        yield
    except Exception as error:
        told = in_a_sentence(error)
        if told is None and isinstance(error, ValueError):
            told = click.ClickException(str(error))
        if told is None:
            raise
        raise told from None
