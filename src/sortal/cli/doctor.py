"""`sortal doctor`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish


def doctor(
    run: Path | None = typer.Argument(None, help="A training run to look at; without one, this machine is checked."),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as a JSON report, and nothing else."),
) -> None:
    """Check this machine, or say what is wrong with a training run and what to type. Exit code 1 if something is wrong.

    The machine: packages, engines, processors, memory, disk, fonts. A run: overfitting, underfitting, gradients that
    vanish or explode, too short a training, unequal classes, latency above the contract.

    \b
    sortal doctor
    sortal doctor runs/photos-1
    """
    from sortal.cli.tables import draw

    if run is None:
        from sortal.cli.checkup import checkup

        report, following = checkup(), ["sortal train photos/"]
    else:
        from sortal import api

        report = api.diagnose(run)
        command = report.body["command"]
        following = [str(command)] if command else [f"sortal show {run}"]
    if not as_json:
        for sentence in report.body.get("summary", []):
            print(sentence)
        for name, table in report.tables.items():
            draw(name, table)
    finish(report, as_json=as_json, results=[], following=following)
    if any(finding.severity == "error" for finding in report.findings):
        raise typer.Exit(1)
