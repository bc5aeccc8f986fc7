"""The commands, and what `serve` is told. Exit codes: 0, 1 failed, 2 misused; docs/operations.md has them all."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from points_grpc import __version__
from points_grpc.cli.backup import backup
from points_grpc.cli.business_events import events
from points_grpc.cli.call import call
from points_grpc.cli.certificates import certificates
from points_grpc.cli.codes import codes
from points_grpc.cli.config import CONFIG, config, show, tell_unknown_variables
from points_grpc.cli.customers import customers
from points_grpc.cli.databases import DATABASE, ORG, ROLES, accounts_of, in_a_sentence, plain_errors, require_org
from points_grpc.cli.exporting import export
from points_grpc.cli.importing import import_
from points_grpc.cli.issued_tokens import tokens
from points_grpc.cli.journal import journal
from points_grpc.cli.migrate import migrate
from points_grpc.cli.outbox import outbox
from points_grpc.cli.partitions import partitions
from points_grpc.cli.printing import JSON, print_json, print_table
from points_grpc.cli.report import report
from points_grpc.cli.retention import retention
from points_grpc.cli.secret_keys import secrets
from points_grpc.cli.setting_options import CONFIG as CONFIG_OF_COMMANDS
from points_grpc.cli.setting_options import configured, keys_file_option
from points_grpc.cli.showing import trace, wallet
from points_grpc.cli.tls_options import credentials_of, tls_options
from points_grpc.cli.typed import ADDRESS, NAME, PLACE, SECONDS
from points_grpc.cli.verifying import verify

if TYPE_CHECKING:
    from points_grpc.service.keyring import Keyring
    from points_grpc.settings import Settings
    from points_grpc.storage.accounts import KeyRow

DEV_DEFAULTS = {"database": "sqlite:///points-dev.db", "otp_sender": "console"}
"""What `serve --dev` uses where nothing else was said."""

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class Commands(click.Group):
    """All commands. What an operator can mend is a sentence of each, also where what it prints cannot be written."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command that was asked for."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.filename is not None or error.errno not in _UNWRITABLE:
                raise
            reason = (error.strerror or str(error)).lower()
            _forget_output()
            raise click.ClickException(f"what it prints cannot be written: {reason}") from None
        except Exception as error:
            if told := in_a_sentence(error):
                raise told from None
            raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="points-grpc")
def main() -> None:
    """Loyalty points over gRPC."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names may have letters that the terminal has not
            stream.reconfigure(errors="backslashreplace")
    os.umask(0o077)  # databases hold names and numbers, the ready file of --dev a token


@main.command()
@CONFIG
@click.option("--database", help="Database URL.  [default: sqlite:///points.db]")
@click.option("--host", help="Address to bind.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 lets the system choose.  [default: 50051]")
@click.option("--keys-file", type=click.Path(path_type=Path), help="File with the secret keys.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="File that is written when the server serves.")
@click.option("--otp-sender", type=click.Choice(["none", "console"]), help="How one-time codes leave.  [default: none]")
@click.option("--tls-certificate", type=click.Path(path_type=Path), help="Serves with TLS: its certificate, in PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="The key of the certificate, in PEM.")
@click.option("--tls-client-ca", type=click.Path(path_type=Path), help="CA whose certificates clients must show.")
@click.option("--plaintext", is_flag=True, default=None, help="Without TLS, also on an address that is not loopback.")
@click.option("--jwt-keys", help="Public keys of an issuer of tokens, as a JWK set: a file or an https URL.")
@click.option("--jwt-issuer", help="The issuer of its tokens.")
@click.option("--jwt-audience", help="The audience of its tokens.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Prometheus port; 0 for none.")
@click.option("--metrics-host", help="Address of the Prometheus port.  [default: 127.0.0.1]")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes on the port; PostgreSQL only.  [default: 1]")
@click.option("--dev", is_flag=True, help="Migrates, makes a demonstration organisation, prints a new key.")
def serve(config_file: Path | None, *, dev: bool, **flags: object) -> None:
    """Serves until SIGTERM or SIGINT, then drains."""
    from points_grpc.cli.configuring import configure  # noqa: PLC0415 - the other commands start without pydantic

    configured = configure(flags, config_file)
    tell_unknown_variables()
    settings, given = configured.settings, dict(configured.given)
    if dev:
        unset = {name: value for name, value in DEV_DEFAULTS.items() if name not in settings.model_fields_set}
        settings = settings.model_copy(update=unset)
        given |= unset
    if settings.workers > 1 and settings.database.startswith("sqlite"):
        raise click.UsageError("a SQLite database has one writer: several workers need PostgreSQL")
    if dev:
        with plain_errors():
            _migrate(settings.database)
    if settings.workers > 1:
        _supervise(settings, given, dev=dev)
    else:
        _serve(settings, dev=dev)


@main.group()
def orgs() -> None:
    """Organisations."""


@orgs.command("create")
@DATABASE
@click.argument("name", type=NAME)
@click.option("--region", required=True, help="ISO 3166 country of its mobile numbers without country code, e.g. IN.")
def create_org(database: str, name: str, region: str) -> None:
    """Creates an organisation and prints its id."""
    import phonenumbers  # noqa: PLC0415 - of phonenumberslite

    region = region.upper()
    if region not in phonenumbers.SUPPORTED_REGIONS:
        raise click.UsageError(f"{region} is no ISO 3166 country with telephone numbers")
    click.echo(accounts_of(database).create_org(name, region))


@orgs.command("list")
@DATABASE
@JSON
def list_orgs(database: str, *, as_json: bool) -> None:
    """Lists the organisations."""
    found = accounts_of(database).list_orgs()
    if as_json:
        print_json({"orgs": found})
        return
    rows = [(one.org_id, one.name, one.default_region, "paused" if one.paused else "in force") for one in found]
    print_table(("org", "name", "region", "state"), rows)


@main.group()
def keys() -> None:
    """API keys of clients."""


@keys.command("create")
@DATABASE
@ORG
@click.option("--client", type=NAME, required=True, help="The name of the client, for the audit log.")
@click.option("--role", type=ROLES, default="operator", show_default=True)
@click.option("--expires-in-days", type=click.IntRange(1, 3650), help="Never expires if unset.")
@click.option("--require-request-id", is_flag=True, help="Refuses its writes without a request_id.")
@click.option("--store", type=PLACE, default="", help="Where it stands, for the audit log.")
@click.option("--till", type=PLACE, default="", help="The till that it is, for the audit log.")
@click.option("--signed", is_flag=True, help="Refuses what moves points unless it is signed; prints a signing secret.")
@keys_file_option
def create_key(
    database: str,
    org_id: int,
    client: str,
    role: str,
    expires_in_days: int | None,
    store: str,
    till: str,
    *,
    require_request_id: bool,
    signed: bool,
    keys_file: Path | None,
) -> None:
    """Creates a key and prints its token, and with --signed its signing secret; neither is ever shown again.

    A server that runs knows it within 5 seconds.
    """
    from points_grpc.cli.tokens import new_key  # noqa: PLC0415

    accounts = accounts_of(database)
    require_org(accounts, org_id)
    key = new_key()
    expires_at = datetime.now(UTC) + timedelta(days=expires_in_days) if expires_in_days else None
    keyring = _keyring(database, keys_file) if signed else None
    accounts.create_key(
        key.key_id,
        org_id,
        client=client,
        role=role,
        secret_hash=key.secret_hash,
        expires_at=expires_at,
        request_id_required=require_request_id,
        signing_key_id=keyring.active if keyring else None,
        store=store,
        till=till,
    )
    click.echo(key.token)
    if keyring:
        click.echo(keyring.signing_secret(keyring.active, key.key_id))


@keys.command("list")
@DATABASE
@ORG
@JSON
def list_keys(database: str, org_id: int, *, as_json: bool) -> None:
    """Lists the keys of an organisation; never their secrets."""
    accounts = accounts_of(database)
    require_org(accounts, org_id)
    found = accounts.list_keys(org_id)
    if as_json:
        print_json({"keys": [_key_without_hash(one) for one in found]})
        return
    rows = []
    for key in found:
        state = "revoked" if key.revoked_at else f"expires {key.expires_at:%Y-%m-%d}" if key.expires_at else "in force"
        demands = ["signed"] * bool(key.signing_key_id) + ["request id"] * key.request_id_required
        used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never"
        place = (key.store or "-", key.till or "-")
        rows.append((key.key_id, key.client, *place, key.role, state, used, ", ".join(demands) or "-"))
    print_table(("key", "client", "store", "till", "role", "state", "used", "demands"), rows)


@keys.command("revoke")
@DATABASE
@ORG
@click.argument("key_id")
def revoke_key(database: str, org_id: int, key_id: str) -> None:
    """Revokes a key; serving processes know within 5 seconds."""
    if not accounts_of(database).revoke_key(org_id, key_id):
        raise click.ClickException(f"organisation {org_id} has no key {key_id} in force")
    click.echo(f"revoked {key_id}")


@main.command()
@CONFIG_OF_COMMANDS
@click.option(
    "--address",
    type=ADDRESS,
    envvar="POINTS_GRPC_ADDRESS",
    help="Where the server listens; also POINTS_GRPC_ADDRESS.  [default: where the settings have it listen]",
)
@tls_options
@click.option("--timeout", "timeout_s", type=SECONDS, default=3.0, show_default=True, help="Seconds.")
def healthcheck(
    address: str | None,
    timeout_s: float,
    ca_file: Path | None,
    client_certificate: Path | None,
    client_key: Path | None,
) -> None:
    """Asks a server for its health; exits 0 if it serves, else 1, and says why it does not.

    Without an address it asks the server that the environment and --config describe, on this host: its port, and with
    TLS under its own certificate.
    """
    from points_grpc.cli.health import Probed, own_server, why_not  # noqa: PLC0415 - gRPC takes a while to import

    if address is not None:
        server = Probed(address, credentials_of(ca_file, client_certificate, client_key))
    else:
        settings = configured()
        # Who has the certificate's key is the server, whatever CA signed it.
        credentials = credentials_of(ca_file or settings.tls_certificate, client_certificate, client_key)
        with plain_errors():
            server = own_server(settings, credentials)
    if cause := why_not(server, timeout_s):
        raise click.ClickException(f"{server.address} does not serve: {cause}")
    click.echo("SERVING")


main.add_command(backup)
main.add_command(call)
main.add_command(certificates)
main.add_command(codes)
main.add_command(config)
main.add_command(customers)
main.add_command(events)
main.add_command(export)
main.add_command(import_)
main.add_command(journal)
main.add_command(migrate)
main.add_command(outbox)
main.add_command(partitions)
main.add_command(report)
main.add_command(retention)
main.add_command(secrets)
main.add_command(tokens)
main.add_command(trace)
main.add_command(verify)
main.add_command(wallet)
show.params[:0] = [one for one in serve.params if one.name not in {"config_file", "dev"}]


def _key_without_hash(key: KeyRow) -> dict[str, object]:
    """What is known of a key; the hash of its secret stays in the database."""
    return {
        "key_id": key.key_id,
        "client": key.client,
        "store": key.store,
        "till": key.till,
        "role": key.role,
        "signs": key.signing_key_id is not None,
        "request_id_required": key.request_id_required,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }


def _forget_output() -> None:
    """Leads standard output nowhere: Python would try to write the rest of it at the end, and fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _migrate(database: str) -> str:
    from points_grpc.storage.migrate import upgrade  # noqa: PLC0415 - alembic takes most of a second

    with plain_errors():
        return upgrade(database)


def _keyring(database: str, keys_file: Path | None) -> Keyring:
    from points_grpc.cli.keys_file import keyring_of  # noqa: PLC0415 - only signing needs it
    from points_grpc.settings import keys_path  # noqa: PLC0415
    from points_grpc.storage.engine import Database  # noqa: PLC0415

    with plain_errors():
        return keyring_of(keys_path(keys_file, Database(database).path))


def _serve(settings: Settings, *, dev: bool) -> None:
    import uvloop  # noqa: PLC0415 - only the server needs it

    from points_grpc.cli.composition import serve as run  # noqa: PLC0415
    from points_grpc.cli.places import require_places  # noqa: PLC0415

    with plain_errors():
        require_places(settings)
        uvloop.run(run(settings, dev=dev))


def _supervise(settings: Settings, given: Mapping[str, object], *, dev: bool) -> None:
    import uvloop  # noqa: PLC0415 - only the server needs it

    from points_grpc.cli.supervisor import supervise  # noqa: PLC0415

    with plain_errors():
        uvloop.run(supervise(settings, given, dev=dev))
