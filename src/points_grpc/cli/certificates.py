"""`points-grpc certificates`: names in client certificates, and who calls under them.

The CA of the deployment (`serve --tls-client-ca`) says who has a name; here is said what it may do.
"""

from __future__ import annotations

import click

from points_grpc.cli.databases import DATABASE, ORG, ROLES, accounts_of, require_org
from points_grpc.cli.printing import JSON, print_json, print_table
from points_grpc.cli.typed import CERTIFICATE_NAME, NAME, PLACE


@click.group()
def certificates() -> None:
    """Names in client certificates, and who calls under them."""


@certificates.command("create")
@DATABASE
@ORG
@click.option("--client", type=NAME, required=True, help="The name of the client, for the audit log.")
@click.option("--role", type=ROLES, default="operator", show_default=True)
@click.option("--require-request-id", is_flag=True, help="Refuses its writes without a request_id.")
@click.option("--store", type=PLACE, default="", help="Where it stands, for the audit log.")
@click.option("--till", type=PLACE, default="", help="The till that it is, for the audit log.")
@click.argument("name", type=CERTIFICATE_NAME)
def create_certificate(
    database: str, org_id: int, client: str, role: str, store: str, till: str, name: str, *, require_request_id: bool
) -> None:
    """Says who calls with certificates of NAME: an alternative name, or the common name of those that have none."""
    from points_grpc.service.ports import KeyTaken  # noqa: PLC0415 - only this command needs it

    accounts = accounts_of(database)
    require_org(accounts, org_id)
    try:
        accounts.create_certificate(
            name,
            org_id,
            client=client,
            role=role,
            request_id_required=require_request_id,
            store=store,
            till=till,
        )
    except KeyTaken:
        raise click.ClickException(f"{name} stands for a client already") from None
    click.echo(f"created {name}")


@certificates.command("list")
@DATABASE
@ORG
@JSON
def list_certificates(database: str, org_id: int, *, as_json: bool) -> None:
    """Lists the names of an organisation."""
    accounts = accounts_of(database)
    require_org(accounts, org_id)
    found = accounts.list_certificates(org_id)
    if as_json:
        print_json({"certificates": found})
        return
    print_table(
        ("name", "client", "store", "till", "role", "demands"),
        [
            (
                one.name,
                one.client,
                one.store or "-",
                one.till or "-",
                one.role,
                "request id" if one.request_id_required else "-",
            )
            for one in found
        ],
    )


@certificates.command("revoke")
@DATABASE
@ORG
@click.argument("name")
def revoke_certificate(database: str, org_id: int, name: str) -> None:
    """Takes a name back; serving processes know within 5 seconds."""
    if not accounts_of(database).revoke_certificate(org_id, name):
        raise click.ClickException(f"organisation {org_id} has no certificate {name}")
    click.echo(f"revoked {name}")
