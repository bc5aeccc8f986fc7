"""What a watch is to its caller: an iterator that goes on by itself where a call is cut, and ends when it is told to.

One for threads and one for asyncio. When and with what the next call is made, `Following` says.
"""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Generic, Protocol, Self

import grpc

from points_grpc.client.calls import Answer
from points_grpc.client.following import Following


class Call(Protocol):
    """One call of a watch, as gRPC has it for threads."""

    def __next__(self) -> bytes:
        """Waits for the next message."""
        ...

    def cancel(self) -> object:
        """Ends it; whoever waits for a message is told so."""
        ...


class Cancels(Protocol):
    """What a client ends when it is closed."""

    def cancel(self) -> None:
        """Ends it."""
        ...


class Watch(Generic[Answer]):
    """Messages of a watch, for threads: iterate over it. One thread iterates; any thread may `cancel`."""

    def __init__(self, following: Following[Answer], stub: grpc.UnaryStreamMultiCallable[bytes, bytes]) -> None:
        """Nothing is sent before the first message is asked for."""
        self._following = following
        self._stub = stub
        self._call: Call | None = None
        self._is_over = threading.Event()
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Ends the watch: whoever waits for its next message is told that there is none."""
        with self._lock:
            self._is_over.set()
            if self._call is not None:
                self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Answer:
        self._following.ask()
        while (call := self._current()) is not None:
            try:
                return self._following.take(next(call))
            except StopIteration:
                self._rest(None)
            except grpc.RpcError as error:
                self._rest(error)
        raise StopIteration

    def _current(self) -> Call | None:
        """The call that is read; None if the watch is over."""
        with self._lock:
            if self._is_over.is_set():
                return None
            if self._call is None:
                raw, timeout_s, metadata = self._following.start()
                self._call = self._stub(raw, timeout=timeout_s, metadata=metadata)
            return self._call

    def _rest(self, error: grpc.RpcError | None) -> None:
        """Waits for as long as the next call has to wait, or until somebody ends the watch. Raises what ends it."""
        self._call = None
        if self._is_over.is_set():
            return
        try:
            pause = self._following.pause_s(error)
        except BaseException:
            self._is_over.set()
            raise
        if pause is None:
            self._is_over.set()
        else:
            self._is_over.wait(pause)


class AsyncWatch(Generic[Answer]):
    """Messages of a watch, for asyncio: iterate over it with `async for`. One task iterates."""

    def __init__(
        self,
        following: Following[Answer],
        stub: grpc.aio.UnaryStreamMultiCallable[bytes, bytes],
    ) -> None:
        """Nothing is sent before the first message is asked for."""
        self._following = following
        self._stub = stub
        self._call: grpc.aio.UnaryStreamCall[bytes, bytes] | None = None
        self._is_over = asyncio.Event()

    def cancel(self) -> None:
        """Ends the watch: whoever waits for its next message is told that there is none."""
        self._is_over.set()
        if self._call is not None:
            self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Answer:
        self._following.ask()
        while not self._is_over.is_set():
            if self._call is None:
                raw, timeout_s, metadata = self._following.start()
                self._call = self._stub(raw, timeout=timeout_s, metadata=metadata)
            try:
                read = await self._call.read()
            except grpc.aio.AioRpcError as error:
                await self._rest(error)
                continue
            except asyncio.CancelledError:
                if self._is_over.is_set() and not is_being_cancelled():
                    break
                self._call.cancel()
                self._call = None  # whoever asks again, after a time limit of its own, goes on behind the last message
                raise
            if isinstance(read, bytes):
                return self._following.take(read)
            await self._rest(None)
        raise StopAsyncIteration

    async def _rest(self, error: grpc.RpcError | None) -> None:
        """Waits for as long as the next call has to wait, or until somebody ends the watch. Raises what ends it."""
        self._call = None
        if self._is_over.is_set():
            return
        try:
            pause = self._following.pause_s(error)
        except BaseException:
            self._is_over.set()
            raise
        if pause is None:
            self._is_over.set()
            return
        try:
            await asyncio.wait_for(self._is_over.wait(), pause)
        except TimeoutError:
            return


def is_being_cancelled() -> bool:
    """Whether the task itself is to end; gRPC raises `CancelledError` for a call that was ended, too."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
