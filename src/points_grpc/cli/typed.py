"""Types of arguments that many commands take: names, seconds, addresses. What cannot be meant is a misuse."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # older versions of click, which will do, have a class that takes no arguments
    TextType = click.ParamType[str, str]
    NumberType = click.ParamType[float, str | float]
else:
    TextType = NumberType = click.ParamType

NAME_LENGTH_MAX = 128
"""As of the names in tokens."""

CERTIFICATE_NAME_LENGTH_MAX = 253
"""As of names of hosts, which stand in certificates."""

SECONDS_MAX = 86_400.0
"""A day: whoever waits for longer waits for ever."""


class Name(TextType):
    """A name that stands in the audit log for good: printable, neither empty nor long."""

    name = "text"

    def __init__(self, *, length_max: int = NAME_LENGTH_MAX, may_be_empty: bool = False) -> None:
        """`may_be_empty`: stands for none."""
        self._length_max = length_max
        self._may_be_empty = may_be_empty

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it is; refused without repeating what a terminal would obey."""
        if not value and self._may_be_empty:
            return value
        if not value.strip() or len(value) > self._length_max or not value.isprintable():
            self.fail(f"a name has 1 to {self._length_max} characters, all of which can be printed", param, ctx)
        return value


class Seconds(NumberType):
    """How long to wait: a number above 0. Of click's own ranges, those of floats let pass what is no number."""

    name = "seconds"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= SECONDS_MAX:
            self.fail(f"{value} is no number of seconds above 0 and up to {SECONDS_MAX:.0f}", param, ctx)
        return seconds


class Address(TextType):
    """Where a server listens, in any form that gRPC takes."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it is."""
        from points_grpc.client.channel import require_address  # noqa: PLC0415 - gRPC takes a while to import

        try:
            require_address(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value


NAME = Name()
PLACE = Name(may_be_empty=True)
CERTIFICATE_NAME = Name(length_max=CERTIFICATE_NAME_LENGTH_MAX)
SECONDS = Seconds()
ADDRESS = Address()
