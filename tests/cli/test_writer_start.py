"""A writer that cannot start says why in a sentence, and is no bug."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from points_grpc.cli import writer_composition
from points_grpc.service.frames import (
    BugReport,
    FromWriter,
    Setup,
    Unable,
    Unframer,
    decode_from_writer,
    encode_to_writer,
)
from points_grpc.service.ports import StorageConflict, StorageFull, StorageUnavailable


def said(folder: Path) -> tuple[int, list[FromWriter]]:
    """Runs a writer in this process until it gives up: its exit code, and what it told the server."""
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    with ours:
        ours.sendall(
            encode_to_writer(
                Setup(f"sqlite:///{folder / 'points.db'}", str(folder / "keys.json"), ("EMAIL",), 256, 0.0)
            )
        )
        code = writer_composition.run(theirs.detach(), writing)
        os.close(reading)
        return code, [decode_from_writer(body) for body in Unframer().feed(ours.recv(1 << 16))]


@pytest.mark.parametrize("error", [StorageFull, StorageUnavailable, StorageConflict])
def test_what_an_operator_can_mend_is_a_sentence(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a database that is away, another writer: the log says which."""

    def fails(*_: object, **__: object) -> None:
        raise error("it cannot be opened now")

    monkeypatch.setattr(writer_composition, "open_repository", fails)

    assert (1, [Unable("it cannot be opened now")]) == said(tmp_path)


def test_anything_else_is_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text, which may hold values of customers, is not told."""

    def fails(*_: object, **__: object) -> None:
        raise KeyError("ann@example.com")

    monkeypatch.setattr(writer_composition, "open_repository", fails)
    code, [told] = said(tmp_path)

    assert isinstance(told, BugReport)
    assert (1, "KeyError") == (code, told.error)
    assert "ann@example.com" not in repr(told)
