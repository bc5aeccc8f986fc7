"""Where the keys of an issuer of tokens come from: a file, or an https URL; and what settings say about its tokens."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from email.message import Message
from pathlib import Path
from threading import Thread
from typing import IO
from urllib.parse import urlsplit

from points_grpc.client.channel import is_loopback
from points_grpc.rpc.identity import Tokens
from points_grpc.rpc.ports import CallLog
from points_grpc.service.ports import SettingWrong
from points_grpc.settings import Settings

FETCH_TIMEOUT_S = 5.0
"""How long the issuer may say nothing."""

FETCH_TOTAL_S = 15.0
"""How long a fetch may take in all: whoever sends a byte now and then is given up, too."""

KEY_SET_BYTES_MAX = 262_144


def tokens_of(settings: Settings, log: CallLog) -> Tokens | None:
    """What knows callers by tokens; None if there is no issuer. Raises `SettingWrong`."""
    given = (settings.jwt_keys, settings.jwt_issuer, settings.jwt_audience)
    if not any(given):
        return None
    if not all(given):
        raise SettingWrong("tokens of an issuer take all of --jwt-keys, --jwt-issuer and --jwt-audience")
    from points_grpc.rpc.tokens import BearerTokens, TokenRules  # noqa: PLC0415 - most servers have no issuer

    rules = TokenRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        leeway_s=settings.jwt_leeway_s,
        lifetime_max_s=settings.jwt_lifetime_max_s,
        client_claim=settings.jwt_client_claim,
        org_claim=settings.jwt_org_claim,
        role_claim=settings.jwt_role_claim,
        store_claim=settings.jwt_store_claim,
        till_claim=settings.jwt_till_claim,
    )
    fetch = Fetching(source_of(settings.jwt_keys), total_s=FETCH_TOTAL_S)
    return BearerTokens(rules, fetch, log, keys_refresh_s=settings.jwt_keys_refresh_s)


class Fetching:
    """Reads the keys beside the event loop, one read at a time, on threads that no end of the server waits for."""

    def __init__(self, read: Callable[[], bytes], *, total_s: float) -> None:
        """`total_s`: how long is waited for a read."""
        self._read = read
        self._total_s = total_s
        self._last: Future[bytes] | None = None

    async def __call__(self) -> bytes:
        """The keys; raises TimeoutError where that takes too long, and as long as the read before goes on."""
        if self._last is not None and not self._last.done():
            raise TimeoutError("the last read of the keys goes on")
        reading: Future[bytes] = Future()
        self._last = reading
        reading.set_running_or_notify_cancel()
        Thread(target=self._run, args=(reading,), name="token-keys", daemon=True).start()
        async with asyncio.timeout(self._total_s):
            return await asyncio.wrap_future(reading)

    def _run(self, reading: Future[bytes]) -> None:
        try:
            reading.set_result(self._read())
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
            reading.set_exception(error)


def source_of(place: str) -> Callable[[], bytes]:
    """What reads the keys. Whoever can change them on their way can make tokens: http is for loopback alone."""
    if "://" not in place:
        return lambda: _of_file(Path(place))
    url = urlsplit(place)
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.netloc)):
        raise SettingWrong("the keys of the tokens' issuer come from a file or an https URL")
    return lambda: _of_url(place)


def _of_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _of_url(url: str) -> bytes:
    # What is allowed because it does not leave the machine goes by no proxy.
    direct = [urllib.request.ProxyHandler({})] if url.startswith("http://") else []
    opener = urllib.request.build_opener(_NoRedirects, *direct)
    with opener.open(url, timeout=FETCH_TIMEOUT_S) as answer:
        content: bytes = answer.read(KEY_SET_BYTES_MAX + 1)
    if len(content) > KEY_SET_BYTES_MAX:
        raise ValueError(f"the keys of the tokens' issuer have more than {KEY_SET_BYTES_MAX} bytes")
    return content


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect may lead to where nothing is encrypted: it is an answer without keys."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Follows none."""
