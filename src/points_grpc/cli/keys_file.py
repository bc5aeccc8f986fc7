"""The file with the secret keys: outside the database, readable by its owner alone, made when it is first needed."""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path

import click

from points_grpc.service.keyring import KEY_BYTES, Keyring


def load_or_create(path: Path) -> Keyring:
    """The keyring of a file; a new file gets one random key and mode 0600."""
    try:
        if not path.exists():
            _create(path)
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise click.ClickException(f"the keys file {path} cannot be read or made: {reason}") from None
    if mode & 0o077:
        raise click.ClickException(f"{path} can be read by others: chmod 600 it, or rotate its keys if they leaked")
    try:
        document = json.loads(content)
        keys = {key_id: base64.b64decode(text) for key_id, text in document["keys"].items()}
        return Keyring(keys, document["active"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise click.ClickException(f"{path} is no keys file: it was not made by points-grpc, or is damaged") from None


def _create(path: Path) -> None:
    content = {"active": "k1", "keys": {"k1": base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}}
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return  # Another process was faster; its keys are as good.
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
