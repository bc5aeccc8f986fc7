"""The sender for development: writes the code to a stream, where a person reads it. Never used unless asked for."""

from __future__ import annotations

from typing import TextIO

from points_grpc.domain.letters import Letter


class ConsoleSender:
    """Writes one line per message."""

    def __init__(self, stream: TextIO) -> None:
        """Takes the stream to write to."""
        self._stream = stream

    def send(self, letter: Letter) -> None:
        """Writes the code in the clear: that is what this sender is for."""
        self._stream.write(f"one-time code for {letter.channel.value} {letter.target}: {letter.code}\n")
        self._stream.flush()
