"""The health probe of the command line: of a server that is named, or of this host's own, which settings describe."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from points_grpc.cli.listening import address_of
from points_grpc.client.channel import options_for
from points_grpc.rpc.health import NOT_READY_KEY, NotReady
from points_grpc.settings import Settings

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "[::1]"}  # noqa: S104 - asked, not bound

_SENTENCES = {
    NotReady.STARTING: "it is starting",
    NotReady.NO_WRITER: "the process that writes is gone, and another one is being started; its log says why",
    NotReady.STOPPING: "it is stopping",
}


@dataclass(frozen=True, slots=True)
class Probed:
    """Whom to ask; `name`: whose certificate it shows, where that is not the address."""

    address: str
    credentials: grpc.ChannelCredentials | None = None
    name: str = ""


def own_server(settings: Settings, credentials: grpc.ChannelCredentials | None) -> Probed:
    """The server of this host that the settings describe, under a name of its certificate: that of this host is in few.

    Raises OSError or ValueError where the certificate is none.
    """
    address = address_of(settings.model_copy(update={"host": _EVERYWHERE.get(settings.host, settings.host)}))
    if settings.tls_certificate is None:
        return Probed(address, credentials)
    certificate = x509.load_pem_x509_certificate(settings.tls_certificate.read_bytes())
    return Probed(address, credentials, _name_in(certificate))


def _name_in(certificate: x509.Certificate) -> str:
    """A name that the certificate is good for; empty if it has none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return found[0].replace("*", "points", 1) if found else ""


def why_not(server: Probed, timeout_s: float) -> str:
    """Why a server does not serve, in a few words; empty if it does."""
    options = options_for(server.address)
    if server.name:
        options = (*options, ("grpc.ssl_target_name_override", server.name))
    made = (
        grpc.insecure_channel(server.address, options)
        if server.credentials is None
        else grpc.secure_channel(server.address, server.credentials, options)
    )
    with made as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer, call = stub.Check.with_call(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"no answer ({error.code().name})"
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return ""
        told = dict(call.trailing_metadata()).get(NOT_READY_KEY, "")
    return next((sentence for reason, sentence in _SENTENCES.items() if reason == told), "it does not say why")
