"""The client for asyncio: one method for each RPC, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Self
from weakref import WeakSet

import grpc
from google.protobuf.message import Message

from points_grpc.client.calls import TIMEOUT_S, Answer, Attempts, Credential, Method, Token
from points_grpc.client.channel import Options, credentials_for, options_for
from points_grpc.client.exporting import METHOD, Export
from points_grpc.client.following import Following, Watched, a_wallet, all_transactions
from points_grpc.client.methods import AsyncMethods
from points_grpc.client.retries import Retries
from points_grpc.client.watching import AsyncWatch, Cancels, is_being_cancelled
from points_grpc.v1.wallet_service_pb2 import (
    ExportJournalRequest,
    ExportJournalResponse,
    WatchTransactionsRequest,
    WatchTransactionsResponse,
    WatchWalletRequest,
    WatchWalletResponse,
)


class AsyncPointsClient(AsyncMethods):
    """As `PointsClient`, awaited: `await points.transfer_points(request)`. Make it where the event loop runs."""

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
        """Connects when it is first used; the arguments are those of `PointsClient`."""
        self._credential = Credential(token, signing_secret)
        options = (*options_for(address), *channel_options)
        chosen = credentials_for(address, credentials=credentials, plaintext=plaintext)
        self._channel = (
            grpc.aio.secure_channel(address, chosen, options) if chosen else grpc.aio.insecure_channel(address, options)
        )
        self._timeout_s = timeout_s
        self._retries = retries or Retries()
        self._is_closed = False
        self._watches: WeakSet[Cancels] = WeakSet()
        self._stubs: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    async def close(self) -> None:
        """Closes the connection and ends what is on its way, watches too; what is called later raises `NotSent`."""
        self._is_closed = True
        for watch in list(self._watches):
            watch.cancel()
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def export_journal(
        self,
        request: ExportJournalRequest | None = None,
        *,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> AsyncGenerator[ExportJournalResponse]:
        """The organisation's journal as a file: write the `data` of each piece behind that of the one before.

        Goes on by itself where a call is cut. To go on later, keep the `reached` of the last piece that was written and
        give it as `after`. `timeout_s` bounds each call, and all attempts that bring nothing.
        """
        export = Export(
            request, credential=self._credential, retries=self._retries, timeout_s=timeout_s, metadata=metadata
        )
        stub: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(METHOD.path)
        while True:
            attempts = export.attempts
            self._require_open(attempts)
            call: grpc.aio.UnaryStreamCall[bytes, bytes] | None = None
            try:
                call = stub(attempts.raw, timeout=attempts.remaining_s(), metadata=attempts.metadata())
                async for raw in call:
                    if piece := export.take(raw):
                        yield piece
            except grpc.aio.AioRpcError as error:
                pause = export.pause_s(error)
            except asyncio.CancelledError:
                self._require_open_under_way(attempts)
                raise
            except grpc.aio.UsageError:
                self._require_open(attempts)
                raise
            else:
                return
            finally:
                if call is not None:  # who leaves early leaves no call behind: nothing else ends it before its time
                    call.cancel()
            await asyncio.sleep(pause)

    def watch_wallet(
        self,
        request: WatchWalletRequest,
        *,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> AsyncWatch[WatchWalletResponse]:
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
    ) -> AsyncWatch[WatchTransactionsResponse]:
        """Every transaction of the organisation with its postings; and bookmarks, which have none.

        Goes on by itself where a call is cut, without a gap and without a repetition; ends with `cancel()`, with the
        client, or after `timeout_s`. Raises `NotAnswered` where nobody answers for a minute, and what is refused. To go
        on later, keep the `resume_token` of the last message that was handled, and give it as `resume_token`.
        """
        return self._watch(all_transactions(request), timeout_s, metadata)

    def _watch(
        self, watched: Watched[Answer], timeout_s: float | None, metadata: Sequence[tuple[str, str]]
    ) -> AsyncWatch[Answer]:
        following = Following(
            watched, credential=self._credential, retries=self._retries, timeout_s=timeout_s, metadata=metadata
        )
        if self._is_closed:
            raise following.closed()
        watch = AsyncWatch(following, self._channel.unary_stream(following.path))
        self._watches.add(watch)
        return watch

    async def _call(
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
                raw = await stub(attempts.raw, timeout=attempts.remaining_s(), metadata=attempts.metadata())
                return method.answer.FromString(raw)
            except grpc.aio.AioRpcError as error:
                pause = attempts.pause_s(error)
            except asyncio.CancelledError:
                self._require_open_under_way(attempts)
                raise
            except grpc.aio.UsageError:  # how gRPC calls a channel that was closed a moment ago
                self._require_open(attempts)
                raise
            await asyncio.sleep(pause)

    def _require_open(self, attempts: Attempts) -> None:
        if self._is_closed:
            raise attempts.closed()

    def _require_open_under_way(self, attempts: Attempts) -> None:
        """After `CancelledError`: if nobody cancelled the task, closing the client has ended its call."""
        if self._is_closed and not is_being_cancelled():
            raise attempts.closed_under_way() from None

    def _stub(self, path: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
        """What sends the bytes of a request."""
        stub = self._stubs.get(path)
        if stub is None:
            stub = self._stubs[path] = self._channel.unary_unary(path)
        return stub
