"""TLS of the server: certificate, key and the CA of clients, from files that may be replaced while it serves.

The files are looked at with every handshake. A set that is not whole (a certificate without its key, as in the middle
of a renewal), or not in force, is never taken: the one before stays, and the log says so. TLS 1.2 is the least that the
core of gRPC speaks. Nothing here decides who a caller is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, cast

import grpc
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates

_Stamp = tuple[tuple[int, int, int, int], ...]
"""What changes when one of the files is replaced or mended: time, size, inode and mode of each."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. With `client_ca`, every connection has to show a certificate that the CA signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class TlsLog(Protocol):
    """What is told about the files."""

    def info(self, event: str, **fields: object) -> None:
        """They were replaced."""
        ...

    def error(self, event: str, **fields: object) -> None:
        """They cannot be used."""
        ...


class BadTlsFile(ValueError):
    """A file that cannot be used; its text is a sentence for the operator."""


class NotYetValid(BadTlsFile):
    """A certificate of which the time has not come."""

    def __init__(self, text: str, valid_from: datetime) -> None:
        """`valid_from`: when to look again."""
        super().__init__(text)
        self.valid_from = valid_from


KEY_MODE_FORBIDDEN = 0o027
"""What nobody else may do with the key: read it, or change it as a group. A group may read it: that is how secrets are
mounted for a process that is not root (fsGroup), and how Debian's ssl-cert works."""


class Tls:
    """The credentials of a server, kept as new as their files."""

    def __init__(
        self, files: TlsFiles, log: TlsLog, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Reads the files. Raises `BadTlsFile` if they cannot be used: a server starts with good ones or not at all."""
        self._files = files
        self._log = log
        self._now = now
        self._seen = self._stamp()
        self._again_at: datetime | None = None
        self._first = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """The credentials to bind with."""
        has_client_ca = self._files.client_ca is not None
        # The stubs forget that None means "as before".
        renewed = cast("Callable[[], grpc.ServerCertificateConfiguration]", self.renewed)
        return grpc.dynamic_ssl_server_credentials(self._first, renewed, has_client_ca)

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """What a handshake shall use from now on; None to go on as before. The core asks one handshake at a time."""
        stamp = self._stamp()
        is_time = self._again_at is not None and self._now() >= self._again_at
        if stamp == self._seen and not is_time:
            return None
        self._seen = stamp  # a bad set is told once; whatever mends it changes the stamp, or is the time
        self._again_at = None
        try:
            renewed = self._read()
        except BadTlsFile as error:
            self._again_at = error.valid_from if isinstance(error, NotYetValid) else None
            self._log.error("tls_not_renewed", error=str(error))
            return None
        self._log.info("tls_renewed")
        return renewed

    def _stamp(self) -> _Stamp:
        """Tells one set of files from the next; empty if one is missing."""
        paths = (self._files.certificate, self._files.key, self._files.client_ca)
        try:
            found = [path.stat() for path in paths if path is not None]
        except OSError:
            return ()  # reading will say what is wrong
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino, one.st_mode) for one in found)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        """The files as they are now, if they fit together."""
        chain, key = _content(self._files.certificate), _secret(self._files.key)
        roots = None if self._files.client_ca is None else _content(self._files.client_ca)
        certified = self._certified(self._files.certificate, chain)
        if roots is not None and self._files.client_ca is not None:
            for number, root in enumerate(_certificates(self._files.client_ca, roots), 1):
                self._check_time(root, f"certificate {number} in {self._files.client_ca}")
        if _public_key(self._files.key, key) != certified:
            raise BadTlsFile(f"{self._files.key} is not the key of {self._files.certificate}")
        return grpc.ssl_server_certificate_configuration([(key, chain)], roots)

    def _certified(self, path: Path, pem: bytes) -> bytes:
        """The public key of the first certificate of a file; it must be in force. Those that chain it are its CA's."""
        first = _certificates(path, pem)[0]
        try:
            key = first.public_key()
        except (ValueError, UnsupportedAlgorithm):
            raise BadTlsFile(f"{path} holds no certificate in PEM") from None
        self._check_time(first, f"the certificate in {path}")
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def _check_time(self, certificate: Certificate, named: str) -> None:
        """Refuses a certificate that is not in force."""
        now, valid_from = self._now(), certificate.not_valid_before_utc
        if certificate.not_valid_after_utc <= now:
            raise BadTlsFile(f"{named} expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
        if valid_from > now:
            raise NotYetValid(f"{named} is not valid before {valid_from:%Y-%m-%d %H:%M:%S} UTC", valid_from)


def _content(path: Path) -> bytes:
    """A file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadTlsFile(f"{path} cannot be read: {error.strerror}") from None


def _secret(path: Path) -> bytes:
    """A file with a private key, which is not for everybody."""
    content = _content(path)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise BadTlsFile(f"{path} cannot be read: {error.strerror}") from None
    if mode & KEY_MODE_FORBIDDEN:
        raise BadTlsFile(
            f"{path} can be read or changed by others: give it mode 0600, or 0640 where a group has to read it"
        )
    return content


def _certificates(path: Path, pem: bytes) -> list[Certificate]:
    """The certificates of a file; there is at least one."""
    try:
        return load_pem_x509_certificates(pem)
    except ValueError:
        raise BadTlsFile(f"{path} holds no certificate in PEM") from None


def _public_key(path: Path, pem: bytes) -> bytes:
    """The public half of a private key."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise BadTlsFile(f"{path} holds no private key in PEM without a password") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
