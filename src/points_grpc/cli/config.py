"""`points-grpc config show`: the settings that a server would have, and who set each. Secrets are masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click

from points_grpc.cli.printing import JSON, print_json, print_table

CONFIG = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="POINTS_GRPC_CONFIG",
    help="TOML file with settings; flags and the environment win over it.",
)


@click.group()
def config() -> None:
    """Settings."""


@config.command()
@CONFIG
@JSON
def show(config_file: Path | None, *, as_json: bool, **flags: object) -> None:
    """Shows each setting, its value, and whether a flag, the environment, a file or nobody set it.

    Takes the flags of `serve`, and shows what `serve` would make of them.
    """
    from points_grpc.cli.configuring import Source, configure, shown, variable  # noqa: PLC0415 - pydantic takes a while

    found = configure(flags, config_file)
    tell_unknown_variables()
    places: Mapping[Source, Callable[[str], str]] = {
        Source.FLAG: lambda name: f"--{name.replace('_', '-')}",
        Source.ENV: variable,
        Source.FILE: lambda _: str(found.file),
        Source.DEFAULT: lambda _: "",
    }
    rows = [
        {
            "setting": name,
            "value": shown(name, getattr(found.settings, name)),
            "source": found.sources[name].value,
            "from": places[found.sources[name]](name),
        }
        for name in type(found.settings).model_fields
    ]
    if as_json:
        print_json({"settings": rows})
        return
    print_table(
        ("setting", "value", "source"),
        [(one["setting"], _text(one["value"]), f"{one['source']} {one['from']}".strip()) for one in rows],
    )


def tell_unknown_variables() -> None:
    """Says on standard error which variables look like settings and are none."""
    from points_grpc.cli.configuring import unknown_variables  # noqa: PLC0415 - as above

    for sentence in unknown_variables(set(_variables(click.get_current_context().find_root().command))):
        click.echo(f"points-grpc: {sentence}", err=True)


def _variables(command: click.Command) -> Iterator[str]:
    """What the options of a command, and of those beneath it, take from the environment."""
    for parameter in command.params:
        named = parameter.envvar or ()
        yield from (named,) if isinstance(named, str) else named
    if isinstance(command, click.Group):
        for one in command.commands.values():
            yield from _variables(one)


def _text(value: object) -> str:
    """A value as a person reads it, and writes it into a file."""
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
