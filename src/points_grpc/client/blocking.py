"""The client for threads: one method for each RPC, blocking. Safe to share between threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self
from weakref import WeakSet

import grpc
from google.protobuf.message import Message

from points_grpc.client.calls import TIMEOUT_S, Answer, Attempts, Credential, Method, Token
from points_grpc.client.channel import Options, credentials_for, options_for
from points_grpc.client.exporting import METHOD, Export
from points_grpc.client.following import Following, Watched, a_wallet, all_transactions
from points_grpc.client.methods import BlockingMethods
from points_grpc.client.retries import Retries
from points_grpc.client.watching import Cancels, Watch
from points_grpc.v1.wallet_service_pb2 import (
    ExportJournalRequest,
    ExportJournalResponse,
    WatchTransactionsRequest,
    WatchTransactionsResponse,
    WatchWalletRequest,
    WatchWalletResponse,
)


class PointsClient(BlockingMethods):
    """Calls the service, one method for each RPC: `points.transfer_points(request)`.

    Every write gets a request id where it has none, and keeps it through all attempts. Raises `Refused` (one class for
    each code, in `points_grpc.client.refusals`) or `NotAnswered`.
    """

    def __init__(
        self,
        address: str,
        token: Token | None,
        *,
        signing_secret: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        plaintext: bool | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: Retries | None = None,
        channel_options: Options = (),
    ) -> None:
        """Connects when it is first used.

        `plaintext` unset: a loopback address is spoken to in plaintext, any other with TLS and the roots of the system,
        or with the `credentials` given (`tls(...)` makes them from files). `token` is an API key, or a function that
        gives the token of the moment, and must not block; None if the client's certificate says who calls. `timeout_s`
        bounds a call with all its attempts. `signing_secret` is that of a key that must sign.
        """
        self._credential = Credential(token, signing_secret)
        options = (*options_for(address), *channel_options)
        chosen = credentials_for(address, credentials=credentials, plaintext=plaintext)
        self._channel = (
            grpc.secure_channel(address, chosen, options) if chosen else grpc.insecure_channel(address, options)
        )
        self._timeout_s = timeout_s
        self._retries = retries or Retries()
        self._is_closed = False
        self._lock = threading.Lock()
        self._watches: WeakSet[Cancels] = WeakSet()
        self._stubs: dict[str, grpc.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    def close(self) -> None:
        """Closes the connection and ends what is on its way, watches too; what is called later raises `NotSent`."""
        self._is_closed = True
        with self._lock:
            watches = list(self._watches)
        for watch in watches:
            watch.cancel()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def export_journal(
        self,
        request: ExportJournalRequest | None = None,
        *,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Iterator[ExportJournalResponse]:
        """The organisation's journal as a file: write the `data` of each piece behind that of the one before.

        Goes on by itself where a call is cut. To go on later, keep the `reached` of the last piece that was written and
        give it as `after`. `timeout_s` bounds each call, and all attempts that bring nothing.
        """
        export = Export(
            request, credential=self._credential, retries=self._retries, timeout_s=timeout_s, metadata=metadata
        )
        stub: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(METHOD.path)
        while True:
            attempts = export.attempts
            self._require_open(attempts)
            try:
                for raw in stub(attempts.raw, timeout=attempts.remaining_s(), metadata=attempts.metadata()):
                    if piece := export.take(raw):
                        yield piece
            except grpc.RpcError as error:
                pause = export.pause_s(error)
            except ValueError:
                self._require_open(attempts)
                raise
            else:
                return
            time.sleep(pause)

    def watch_wallet(
        self,
        request: WatchWalletRequest,
        *,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Watch[WatchWalletResponse]:
        """Every change of a wallet, in the order of its versions; and bookmarks, which have no transaction.

        Goes on by itself where a call is cut, without a gap and without a repetition; ends with `cancel()`, with the
        client, or after `timeout_s`. Raises `NotAnswered` where nobody answers for a minute, and what is refused. To go
        on later, keep the `wallet_version` of the last message that was handled, and give it as `after_version`.
        """
        return self._watch(a_wallet(request), timeout_s, metadata)

    def watch_transactions(
        self,
        request: WatchTransactionsRequest | None = None,
        *,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Watch[WatchTransactionsResponse]:
        """Every transaction of the organisation with its postings; and bookmarks, which have none.

        Goes on by itself where a call is cut, without a gap and without a repetition; ends with `cancel()`, with the
        client, or after `timeout_s`. Raises `NotAnswered` where nobody answers for a minute, and what is refused. To go
        on later, keep the `resume_token` of the last message that was handled, and give it as `resume_token`.
        """
        return self._watch(all_transactions(request), timeout_s, metadata)

    def _watch(
        self, watched: Watched[Answer], timeout_s: float | None, metadata: Sequence[tuple[str, str]]
    ) -> Watch[Answer]:
        following = Following(
            watched, credential=self._credential, retries=self._retries, timeout_s=timeout_s, metadata=metadata
        )
        with self._lock:  # who closes takes it before the channel goes, and ends what is in the set
            if self._is_closed:
                raise following.closed()
            watch = Watch(following, self._channel.unary_stream(following.path))
            self._watches.add(watch)
        return watch

    def _call(
        self,
        method: Method[Answer],
        request: Message,
        timeout_s: float | None,
        metadata: Sequence[tuple[str, str]],
    ) -> Answer:
        attempts = Attempts(
            method,
            request,
            credential=self._credential,
            retries=self._retries,
            timeout_s=self._timeout_s if timeout_s is None else timeout_s,
            metadata=metadata,
        )
        while True:
            self._require_open(attempts)
            stub = self._stub(method.path)
            try:
                raw = stub(attempts.raw, timeout=attempts.remaining_s(), metadata=attempts.metadata())
                return method.answer.FromString(raw)
            except grpc.RpcError as error:
                pause = attempts.pause_s(error, is_closed=self._is_closed)
            except ValueError:  # how gRPC calls a channel that was closed a moment ago
                self._require_open(attempts)
                raise
            time.sleep(pause)

    def _require_open(self, attempts: Attempts) -> None:
        if self._is_closed:
            raise attempts.closed()

    def _stub(self, path: str) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
        """What sends the bytes of a request. Made once; two threads that make it at once make the same."""
        stub = self._stubs.get(path)
        if stub is None:
            stub = self._stubs[path] = self._channel.unary_unary(path)
        return stub
