"""`sortal show`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish


def show(
    path: Path = typer.Argument(..., help="A run, a bundle or an exported artifact."),
    as_json: bool = typer.Option(False, "--json", help="Print a report as JSON, and nothing else."),
) -> None:
    """Say what a run or bundle is: model, classes, numbers, files and licences.

    \b
    sortal show runs/photos-1
    """
    from sortal import api
    from sortal.cli.tables import draw

    report = api.show(path)
    if not as_json:
        for name, table in report.tables.items():
            draw(name, table)
    finish(
        report,
        as_json=as_json,
        results=list(report.paths.values()),
        following=[f"sortal predict {path} path/to/images"],
    )
