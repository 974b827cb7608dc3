"""`sortal cache`."""

from __future__ import annotations

import typer

from sortal.cli.output import finish


def cache(
    clear: bool = typer.Option(False, "--clear", help="Remove everything; it is made again when it is needed."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Say where prepared images and features are kept and how much there is; or remove them.

    \b
    sortal cache
    sortal cache --clear
    """
    from sortal import explore
    from sortal.cli.tables import draw

    report = explore.cache(clear=clear)
    if not as_json:
        for name, table in report.tables.items():
            draw(name, table)
    finish(
        report,
        as_json=as_json,
        results=[report.subject],
        following=["sortal train photos/"] if clear else ["sortal cache --clear"],
    )
