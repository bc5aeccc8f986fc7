"""What an operator can mend is told in a sentence, not in a stack trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turns what an operator can mend into click's way to say so: "Error: …", exit code 1."""
    from points_grpc.service.keeper import CannotStart  # noqa: PLC0415 - commands start without what they do not use
    from points_grpc.service.ports import StorageConflict, StorageUnavailable  # noqa: PLC0415
    from points_grpc.storage.engine import SchemaMismatch  # noqa: PLC0415

    try:
        yield
    except (CannotStart, SchemaMismatch, StorageConflict, StorageUnavailable, ValueError) as error:
        raise click.ClickException(str(error)) from None
