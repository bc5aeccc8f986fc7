"""`points-grpc secrets`: the server's own keys, rotated beside a serving process. Shows ids of keys, never a key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from points_grpc.cli import keys_file as file_of_keys
from points_grpc.cli.databases import DATABASE, plain_errors
from points_grpc.cli.printing import JSON, print_json, print_table
from points_grpc.cli.report import opened_database
from points_grpc.cli.setting_options import keys_file_option

KNOWN_BEFORE_S = 60
"""How long a key is known before it is used, unless it is told otherwise: every process looks once a second."""

STILL_USED_S = 10
"""How long after its successor a key may still make something: processes look once a second, batches take a moment."""

KEYS_MAX = 16
"""A token is tried against every key."""


@click.group()
def secrets() -> None:
    """The server's own secret keys; also beside a serving process."""


@secrets.command("list")
@DATABASE
@keys_file_option
@JSON
def list_keys(database: str, keys_file: Path | None, *, as_json: bool) -> None:
    """Lists the keys, and what would be lost with each; `missing` ones are in use and not in the file."""
    from points_grpc.storage.key_uses import KeyUses, key_uses  # noqa: PLC0415 - SQLAlchemy takes a while to import

    now = datetime.now(UTC)
    keys = file_of_keys.load(_path(database, keys_file))
    with opened_database(database) as opened:
        uses = key_uses(opened, now)
    missing = sorted(uses.keys() - keys.keys.keys())
    states = {key_id: _state(keys, key_id, now) for key_id in keys.keys} | dict.fromkeys(missing, "missing")
    found = {key_id: uses.get(key_id, KeyUses()) for key_id in states}
    if as_json:
        print_json({"keys": {key_id: {"state": states[key_id], "uses": used} for key_id, used in found.items()}})
        return
    print_table(
        ("key", "state", "messages waiting", "codes in force", "API keys that sign"),
        [(key_id, states[key_id], one.messages, one.codes, one.signing_keys) for key_id, one in found.items()],
    )


@secrets.command()
@DATABASE
@keys_file_option
def create(database: str, keys_file: Path | None) -> None:
    """Makes the file with one random key, and nothing else; a server makes it at its first start if it is not there."""
    path = _path(database, keys_file)
    if path.exists():
        raise click.ClickException(f"{path} is there already")
    made = file_of_keys.load(path, create=True)
    click.echo(f"{path}: {made.active}")


@secrets.command()
@DATABASE
@keys_file_option
@click.option(
    "--in",
    "in_s",
    type=click.IntRange(0, 30 * 86_400),
    default=KNOWN_BEFORE_S,
    show_default=True,
    help="Seconds until the new key makes new things: as long as it takes until every process has the file. Beside a"
    " server never less than 3.",
)
def rotate(database: str, keys_file: Path | None, in_s: int) -> None:
    """Adds a key that makes what is new from soon on; the others go on checking what they made."""
    path, now = _path(database, keys_file), datetime.now(UTC)
    with file_of_keys.alone(path):
        keys = file_of_keys.load(path)
        if keys.following and keys.following.since > now:
            following = keys.following
            raise click.ClickException(
                f"{following.key_id} is to follow at {_time(following.since)}: wait, or retire it"
            )
        if len(keys.keys) >= KEYS_MAX:
            raise click.ClickException(f"the file has {KEYS_MAX} keys: retire those that nothing depends on")
        keys = keys.with_new_key(now + timedelta(seconds=in_s), now)
        file_of_keys.save(path, keys)
    assert keys.following is not None, "it was added"
    click.echo(f"{keys.following.key_id} makes what is new from {_time(keys.following.since)} on")


@secrets.command()
@DATABASE
@keys_file_option
@click.option("--lose", is_flag=True, help="Although something depends on the key: what is told is lost.")
@click.argument("key_id")
def retire(database: str, keys_file: Path | None, key_id: str, *, lose: bool) -> None:
    """Removes a key that is not active; refuses while codes, messages or API keys depend on it."""
    path = _path(database, keys_file)
    with file_of_keys.alone(path):
        keys, now = file_of_keys.load(path), datetime.now(UTC)
        compares = _require_unused(database, path, keys, key_id, now, lose=lose)
        signed_with = keys.keyring_at(now).checkpoint_keys()[key_id]
        file_of_keys.save(path, keys.without(key_id, now))
    click.echo(f"retired {key_id}")
    if not (keys.following and keys.following.key_id == key_id and keys.following.since > now):
        click.echo(f"checkpoints that it signed are proved with --public-key {signed_with.hex()}: keep it")
    if compares:
        click.echo("requests were recorded under it: their repeats are compared by which fields are set alone")


def _require_unused(
    database: str, path: Path, keys: file_of_keys.Keys, key_id: str, now: datetime, *, lose: bool
) -> bool:
    """Ends the command where a key is needed; says whether requests are compared by it."""
    from points_grpc.storage.key_uses import key_uses, records_requests  # noqa: PLC0415 - as above

    if key_id not in keys.keys:
        raise click.ClickException(f"there is no key {key_id} in {path}")
    if key_id == keys.active_at(now):
        raise click.ClickException(f"{key_id} is active: rotate first")
    with opened_database(database) as opened:
        used = key_uses(opened, now).get(key_id)
        compares = records_requests(opened, key_id)
    if used and not lose:
        raise click.ClickException(
            f"on {key_id} depend: messages waiting {used.messages}, codes in force {used.codes}, "
            f"API keys that sign {used.signing_keys}; --lose removes it all the same"
        )
    if (until := _still_used_until(keys, key_id, now)) and not lose:
        raise click.ClickException(f"{key_id} was active a moment ago: retire it after {_time(until)}")
    return compares


def _path(database: str, keys_file: Path | None) -> Path:
    from points_grpc.settings import keys_path  # noqa: PLC0415 - pydantic takes a while to import
    from points_grpc.storage.engine import Database  # noqa: PLC0415

    with plain_errors():
        return keys_path(keys_file, Database(database).path)


def _state(keys: file_of_keys.Keys, key_id: str, now: datetime) -> str:
    if key_id == keys.active_at(now):
        return "active"
    if keys.following and keys.following.key_id == key_id:
        return f"from {_time(keys.following.since)}"
    return "checks"


def _still_used_until(keys: file_of_keys.Keys, key_id: str, now: datetime) -> datetime | None:
    """Until when a process that has not looked yet may make something with a key that was followed; None if none may.

    It would not be told by what depends on the key, and would be lost with it.
    """
    if key_id != keys.active or keys.following is None:
        return None
    until = keys.following.since + timedelta(seconds=STILL_USED_S)
    return until if now < until else None


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
