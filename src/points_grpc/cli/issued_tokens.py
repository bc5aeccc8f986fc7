"""`points-grpc tokens`: what can be done about tokens that an issuer made. API keys are not among them."""

from __future__ import annotations

import click

from points_grpc.cli.databases import DATABASE, ORG, accounts_of, require_org
from points_grpc.cli.typed import NAME


@click.group()
def tokens() -> None:
    """Tokens of an issuer."""


@tokens.command("revoke")
@DATABASE
@ORG
@click.argument("client", type=NAME)
def revoke_tokens(database: str, org_id: int, client: str) -> None:
    """Refuses all tokens that were issued to CLIENT until now; serving processes know within 5 seconds."""
    accounts = accounts_of(database)
    require_org(accounts, org_id)
    accounts.revoke_tokens(org_id, client)
    click.echo(f"revoked the tokens of {client}")
