"""`points-grpc codes`: the catalogue of coded outcomes, as this version has it."""

from __future__ import annotations

import click

from points_grpc.cli.printing import JSON, print_json, print_table
from points_grpc.codes import CATALOGUE, Table


@click.command()
@click.argument("which", nargs=-1, metavar="[NUMBER|REASON]...")
@click.option("--table", type=click.Choice([one.value for one in Table]), help="Only the codes of this table.")
@JSON
def codes(which: tuple[str, ...], table: str | None, *, as_json: bool) -> None:
    """Lists every coded outcome, or those with the numbers or reasons that are named."""
    wanted = {one.upper() for one in which}
    found = [
        one
        for one in CATALOGUE
        if (table is None or one.table.value == table) and (not wanted or wanted & {str(one.number), one.reason})
    ]
    if not found:
        raise click.ClickException("there is no such code")
    if as_json:
        print_json(
            {
                "codes": [
                    {
                        "table": one.table.value,
                        "number": one.number,
                        "reason": one.reason,
                        "grpc": one.grpc.name,
                        "retry": one.retry.value,
                        "message": one.message,
                        "metadata": one.metadata_keys,
                        "operations": one.operations,
                    }
                    for one in found
                ]
            }
        )
        return
    print_table(
        ("table", "number", "reason", "grpc", "retry", "message"),
        [(one.table.value, one.number, one.reason, one.grpc.name, one.retry.value, one.message) for one in found],
    )
