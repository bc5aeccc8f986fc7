"""The options of commands that call a server as a client: where it is, who calls, how the connection is encrypted.

They become one `Server`, which makes clients. What a call ended with is told by each command in its own way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from points_grpc.cli.tls_options import credentials_of, tls_options
from points_grpc.cli.typed import ADDRESS

if TYPE_CHECKING:
    import grpc

    from points_grpc.client import AsyncPointsClient, PointsClient


@dataclass(frozen=True, slots=True)
class Server:
    """Where to call, and as whom."""

    address: str
    token: str | None = field(repr=False)
    signing_secret: str | None = field(repr=False)
    credentials: grpc.ChannelCredentials | None
    plaintext: bool | None

    def client(self) -> PointsClient:
        """A client that blocks."""
        from points_grpc.client import PointsClient  # noqa: PLC0415 - gRPC takes a while to import

        return PointsClient(
            self.address,
            self.token,
            signing_secret=self.signing_secret,
            credentials=self.credentials,
            plaintext=self.plaintext,
        )

    def channel(self) -> grpc.Channel:
        """A channel as a client makes it, for what clients do not do."""
        import grpc  # noqa: PLC0415 - takes a while to import

        from points_grpc.client.channel import credentials_for, options_for  # noqa: PLC0415

        chosen = credentials_for(self.address, credentials=self.credentials, plaintext=self.plaintext)
        if chosen is None:
            return grpc.insecure_channel(self.address, options_for(self.address))
        return grpc.secure_channel(self.address, chosen, options_for(self.address))

    def asynchronous(self, timeout_s: float) -> AsyncPointsClient:
        """A client for the event loop that sends each call once, and waits `timeout_s` for its answer."""
        from points_grpc.client import AsyncPointsClient, Retries  # noqa: PLC0415 - gRPC takes a while to import

        return AsyncPointsClient(
            self.address,
            self.token,
            signing_secret=self.signing_secret,
            credentials=self.credentials,
            plaintext=self.plaintext,
            timeout_s=timeout_s,
            retries=Retries(attempts_max=1),
        )


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --address, --token, --signing-secret, --plaintext and those of TLS; the command gets them as `server`."""

    @functools.wraps(command)
    def with_server(
        *arguments: object,
        address: str,
        token: str | None,
        signing_secret: str | None,
        ca_file: Path | None,
        client_certificate: Path | None,
        client_key: Path | None,
        plaintext: bool | None,
        **options: object,
    ) -> None:
        if token is None and client_certificate is None:
            raise click.UsageError("say who calls: --token (better in POINTS_GRPC_TOKEN), or --client-certificate")
        _require_sendable(token, signing_secret)
        credentials = credentials_of(ca_file, client_certificate, client_key)
        if credentials is not None and plaintext:
            raise click.UsageError("--plaintext and certificates exclude each other")
        server = Server(address, token, signing_secret, credentials, plaintext)
        command(*arguments, server=server, **options)

    decorated: Callable[..., None] = with_server
    for option in (
        click.option(
            "--plaintext", is_flag=True, default=None, help="Without TLS, also to an address that is not loopback."
        ),
        tls_options,
        click.option("--signing-secret", envvar="POINTS_GRPC_SIGNING_SECRET", help="Of a key that must sign."),
        click.option("--token", envvar="POINTS_GRPC_TOKEN", help="The API key; better in POINTS_GRPC_TOKEN."),
        click.option(
            "--address",
            type=ADDRESS,
            envvar="POINTS_GRPC_ADDRESS",
            default="127.0.0.1:50051",
            show_default=True,
            help="Where the server listens; also POINTS_GRPC_ADDRESS.",
        ),
    ):
        decorated = option(decorated)
    return decorated


def _require_sendable(token: str | None, signing_secret: str | None) -> None:
    """Refuses what no call can carry, before anything is done."""
    from points_grpc.client.calls import Credential, NotSendable  # noqa: PLC0415 - gRPC takes a while to import

    try:
        Credential(token, signing_secret)
    except NotSendable as error:
        raise click.UsageError(f"--{str(error).replace('signing_secret', 'signing-secret')}") from None
