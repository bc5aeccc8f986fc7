"""The options of commands that call a server: how the connection is encrypted, and which certificate it shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    import grpc

Command = TypeVar("Command", bound=Callable[..., object])

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def tls_options(command: Command) -> Command:
    """Adds --ca-file, --client-certificate and --client-key."""
    for option in (
        click.option("--client-key", type=_FILE, envvar="POINTS_GRPC_CLIENT_KEY", help="Its key, in PEM."),
        click.option(
            "--client-certificate",
            type=_FILE,
            envvar="POINTS_GRPC_CLIENT_CERTIFICATE",
            help="The certificate that the caller shows, in PEM.",
        ),
        click.option(
            "--ca-file",
            type=_FILE,
            envvar="POINTS_GRPC_CA_FILE",
            help="The CA of the server, in PEM; the system's roots if unset. Asks for TLS.",
        ),
    ):
        command = option(command)
    return command


def credentials_of(
    ca_file: Path | None, client_certificate: Path | None, client_key: Path | None
) -> grpc.ChannelCredentials | None:
    """What the options ask for; None if they ask for nothing."""
    from points_grpc.client import tls  # noqa: PLC0415 - gRPC takes a while to import

    if ca_file is None and client_certificate is None and client_key is None:
        return None
    try:
        return tls(ca_file, certificate_file=client_certificate, key_file=client_key)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
