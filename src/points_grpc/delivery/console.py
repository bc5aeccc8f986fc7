"""The sender for development: writes the code to a stream, where a person reads it. Never used unless asked for."""

from __future__ import annotations

from typing import TextIO

from points_grpc.domain.model import Channel


class ConsoleSender:
    """Writes one line per message."""

    def __init__(self, stream: TextIO) -> None:
        """Takes the stream to write to."""
        self._stream = stream

    def send(self, channel: Channel, target: str, code: str) -> None:
        """Writes the code in the clear: that is what this sender is for."""
        self._stream.write(f"one-time code for {channel.value} {target}: {code}\n")
        self._stream.flush()
