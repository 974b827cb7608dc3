"""`sortal models`."""

from __future__ import annotations

import typer

from sortal.cli.output import finish


def models(
    as_json: bool = typer.Option(False, "--json", help="Print the table as a JSON report, and nothing else."),
) -> None:
    """List the networks to choose from, and the weights that are at hand without a download.

    \b
    sortal models
    SORTAL_ZOO=cards/ sortal models
    """
    from sortal import api
    from sortal.cli.tables import draw

    report = api.models()
    if not as_json:
        for name, table in report.tables.items():
            draw(name, table)
    finish(report, as_json=as_json, results=[], following=["sortal train photos/ model=<name>"])
