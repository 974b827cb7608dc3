"""`sortal doctor`."""

from __future__ import annotations

import typer

from sortal.cli.output import finish


def doctor(
    as_json: bool = typer.Option(False, "--json", help="Print the findings as a JSON report, and nothing else."),
) -> None:
    """Check this machine: packages, engines, processors, memory, disk, fonts. Exit code 1 if something is wrong.

    \b
    sortal doctor
    """
    from sortal.cli.checkup import checkup
    from sortal.cli.tables import draw

    report = checkup()
    if not as_json:
        for name, table in report.tables.items():
            draw(name, table)
    finish(report, as_json=as_json, results=[], following=["sortal train photos/"])
    if any(finding.severity == "error" for finding in report.findings):
        raise typer.Exit(1)
