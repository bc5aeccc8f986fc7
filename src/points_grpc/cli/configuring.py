"""Where the settings of a server come from: flags, then the environment, then a file, then defaults; and which did.

The file is TOML: a line for each setting, by its name in docs/operations.md.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import click
from pydantic import SecretBytes, SecretStr, ValidationError

from points_grpc.masking import MASK, masked_url
from points_grpc.settings import Settings

_OF_TESTS = "TEST_"
_PREFIX = Settings.model_config.get("env_prefix", "")
_GATEWAY = re.compile(r"(://[^/?#]+)[/?#].+")
"""The path of a gateway's address is often all that it asks for."""
_SECRET_NAME = re.compile(r"password|secret|token|pepper")


class Source(StrEnum):
    """Who set a setting."""

    FLAG = "flag"
    ENV = "env"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Configured:
    """The settings in force, and for each who set it; `given` are those that flags and file set."""

    settings: Settings
    sources: Mapping[str, Source]
    file: Path | None
    given: Mapping[str, object]


def configure(flags: Mapping[str, object], file: Path | None) -> Configured:
    """Puts settings together. What is wrong is told as a misuse, with the name of the setting and who set it."""
    given = {name: value for name, value in flags.items() if value is not None}
    held = {name.upper() for name, value in os.environ.items() if value}
    environment = {name for name in Settings.model_fields if variable(name) in held}
    written = _read(file) if file else {}
    sources = {name: _source(name, given, environment, written) for name in (*Settings.model_fields, *written)}
    try:
        merged = {**{name: value for name, value in written.items() if name not in environment}, **given}
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        wrong = [(str(one["loc"][0]) if one["loc"] else "settings", one["msg"]) for one in error.errors()]
        told = [f"{name} ({sources.get(name, Source.DEFAULT)}): {message}" for name, message in wrong]
        raise click.UsageError("; ".join(told)) from None
    return Configured(settings, sources, file, merged)


def variable(name: str) -> str:
    """The variable of the environment that sets a setting."""
    return f"{_PREFIX}{name}".upper()


def unknown_variables(known: Collection[str]) -> list[str]:
    """Sentences about variables that have our prefix and mean nothing; `known`: what options take.

    They stop nothing: other programs may put them there (Kubernetes does, for a service of our name).
    """
    names = {name.removeprefix(_PREFIX) for name in (*map(variable, Settings.model_fields), *known)}
    prefixed = sorted(name for name in map(str.upper, os.environ) if name.startswith(_PREFIX))
    sentences = []
    for name in prefixed:
        rest = name.removeprefix(_PREFIX)
        if rest not in names and not rest.startswith(_OF_TESTS):
            near = difflib.get_close_matches(rest, names, n=1)
            sentences.append(f"{name} is no setting" + (f": {_PREFIX}{near[0]}?" if near else ""))
    return sentences


def shown(name: str, value: object) -> object:
    """A value as it may be shown: numbers and switches as they are, everything else as text, secrets masked."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, SecretStr | SecretBytes) or (isinstance(value, str) and value and _SECRET_NAME.search(name)):
        return MASK
    if name.endswith("webhook_url"):
        return _GATEWAY.sub(rf"\1/{MASK}", masked_url(str(value)))
    return masked_url(str(value))


def _source(name: str, flags: Mapping[str, object], environment: set[str], written: Mapping[str, object]) -> Source:
    if name in flags:
        return Source.FLAG
    if name in environment:
        return Source.ENV
    return Source.FILE if name in written else Source.DEFAULT


def _read(file: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file}: no TOML: {error}") from None
