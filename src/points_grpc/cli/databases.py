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

    with plain_errors():
        opened = Database(database)
        click.get_current_context().call_on_close(opened.close)
        require_schema(opened)
    return Accounts(opened)


def require_org(accounts: Accounts, org_id: int) -> None:
    """Ends the command if there is no such organisation."""
    if org_id not in {org.org_id for org in accounts.list_orgs()}:
        raise click.UsageError(f"there is no organisation {org_id}")


@contextmanager
def plain_errors() -> Iterator[None]:
    """What an operator can mend is a sentence, not a stack trace; a setting that is wrong is a misuse."""
    from points_grpc.service.keeper import CannotStart  # noqa: PLC0415
    from points_grpc.service.ports import (  # noqa: PLC0415
        SettingWrong,
        StorageConflict,
        StorageFull,
        StorageUnavailable,
    )
    from points_grpc.storage.engine import SchemaMismatch  # noqa: PLC0415

    try:
        yield
    except SettingWrong as error:
        raise click.UsageError(str(error)) from None
    except (CannotStart, SchemaMismatch, StorageConflict, StorageFull, StorageUnavailable, ValueError) as error:
        raise click.ClickException(str(error)) from None
