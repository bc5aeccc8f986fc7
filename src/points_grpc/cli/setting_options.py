"""Options of commands that stand for a setting of the server: flag, environment, file, default, as `serve` takes them.

So that `serve --config points.toml` and `orgs create --config points.toml` mean the same database and the same keys. A
file is read where one is named and the flag is not given; whatever is wrong in it is a misuse, as it is of `serve`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from points_grpc.settings import Settings

Command = TypeVar("Command", bound=Callable[..., object])

DEFAULT_DATABASE = "sqlite:///points.db"
"""The default of the setting, known without pydantic, which takes a while to import."""

_META = "points_grpc.config_file"


def _keep(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    """Keeps the file for the options that follow; the flag of a group wins over the environment of its command."""
    is_flag = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    if value is not None and (is_flag or _META not in context.meta):
        context.meta[_META] = value


CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="POINTS_GRPC_CONFIG",
    is_eager=True,
    expose_value=False,
    callback=_keep,
    help="TOML file with settings, as `serve` takes it; flags and the environment win over it.",
)


def database_option(command: Command) -> Command:
    """Adds --database, and --config, which may name it."""
    option = click.option(
        "--database",
        envvar="POINTS_GRPC_DATABASE",
        default=configured_database,
        show_default=DEFAULT_DATABASE,
        help="Database URL; see --config.",
    )
    return CONFIG(option(command))


def keys_file_option(command: Command) -> Command:
    """Adds --keys-file, for commands that have --database."""
    option = click.option(
        "--keys-file",
        type=click.Path(path_type=Path),
        envvar="POINTS_GRPC_KEYS_FILE",
        default=_configured_keys_file,
        show_default="beside a SQLite database",
        help="File with the secret keys of the server; see --config.",
    )
    return option(command)


def configured_database() -> str:
    """The database where no flag names one."""
    settings = _settings("database")
    return DEFAULT_DATABASE if settings is None else settings.database


def configured(file: Path | None = None) -> Settings:
    """All settings, without flags; `file`: the one that was named, if not by the command in hand."""
    from points_grpc.cli.configuring import configure  # noqa: PLC0415 - pydantic takes a while to import

    return configure({}, file or click.get_current_context().meta.get(_META)).settings


def _configured_keys_file() -> Path | None:
    settings = _settings("keys_file")
    return None if settings is None else settings.keys_file


def _settings(name: str) -> Settings | None:
    """The settings, where something beside a flag may have set the one named."""
    variable = f"POINTS_GRPC_{name.upper()}"
    is_named = click.get_current_context().meta.get(_META) is not None
    return configured() if is_named or variable in map(str.upper, os.environ) else None
