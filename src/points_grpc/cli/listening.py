"""Where the server listens, and what encrypts it. Plain text leaves the machine only if somebody asked for it."""

from __future__ import annotations

from points_grpc.client.channel import is_loopback
from points_grpc.rpc.interceptor import HEALTH, REFLECTION
from points_grpc.rpc.tls import Tls, TlsFiles, TlsLog
from points_grpc.service.ports import SettingWrong
from points_grpc.settings import Settings


def address_of(settings: Settings, port: int | None = None) -> str:
    """Host and port as gRPC takes them; the port of the settings, or the one that the system chose."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.port if port is None else port}"


def tls_of(settings: Settings, log: TlsLog) -> Tls | None:
    """What encrypts; None for plain text. Raises `SettingWrong`, or `BadTlsFile`."""
    require_encryption(settings)
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None or key is None:
        return None
    return Tls(TlsFiles(certificate, key, settings.tls_client_ca), log)


def require_encryption(settings: Settings) -> None:
    """Raises `SettingWrong` unless it is said how callers are protected: by TLS, by loopback, or by the network."""
    given = (settings.tls_certificate, settings.tls_key)
    if all(given):
        if settings.plaintext:
            raise SettingWrong("--plaintext and --tls-certificate exclude each other")
        return
    if any(given) or settings.tls_client_ca is not None:
        raise SettingWrong("TLS takes both --tls-certificate and --tls-key")
    if not settings.plaintext and not is_loopback(address_of(settings)):
        raise SettingWrong(
            f"{settings.host} is not a loopback address: give --tls-certificate and --tls-key, or ask for --plaintext "
            "where the network encrypts by itself"
        )


def exempt_of(settings: Settings) -> tuple[str, ...]:
    """The beginnings of the names of methods that need no credential."""
    return (HEALTH,) * settings.health_is_open + (REFLECTION,) * settings.reflection_is_open
