"""`sortal audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sortal.cli.output import listener

if TYPE_CHECKING:
    from sortal.core.report import Report

SHOWN_FINDINGS = 10


def audit(
    source: str = typer.Argument(..., help="Images: a folder of class folders, a table, a list, an archive ..."),
    model: Path = typer.Option(None, "--model", help="A run or bundle to see the images through."),
    out: Path = typer.Option(None, "--out", help="Folder of the audit; default: audits/<source>-N."),
    features: str = typer.Option("auto", "--features", help="auto, none, or a weights card to see the images through."),
    only: str = typer.Option("", "--only", help="Only these checks, separated by commas."),
    skip: str = typer.Option("", "--skip", help="All checks but these, separated by commas."),
    label: str = typer.Option("label", "--label", help="The column of classes in a table."),
    group: str = typer.Option(None, "--group", help="A column or a pattern over names: 'lot_(\\d+)'."),
    no_thumbnails: bool = typer.Option(False, "--no-thumbnails", help="A page without any picture of the images."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """What is wrong with images before they are learned: one page, a list, and a plan of repair. Changes nothing.

    \b
    sortal audit photos/
    sortal audit photos/ --model runs/photos-1
    sortal audit photos/ --group 'lot_(\\d+)' --skip bursts

    Ends with 1 where something severe was found.
    """
    from sortal import api

    report = api.audit(
        source,
        model=model,
        out=out,
        features=features,
        only=_names(only),
        skip=_names(skip),
        label=label,
        group=group,
        thumbnails=not no_thumbnails,
        listener=listener(),
    )
    if as_json:
        print(report.to_json(), end="")
    else:
        _tell(report)
    if any(found.severity == "error" for found in report.findings):
        raise typer.Exit(1)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _tell(report: Report) -> None:
    """Worst findings first, what to do, where the results are. Names of files and classes stay on their line."""
    from sortal.data.files import shown

    print(f"{shown(report.subject)}: {report.body['summary'][0]}")
    for found in report.findings[:SHOWN_FINDINGS]:
        print(f"  {found.severity}: {shown(found.message)}")
    if len(report.findings) > SHOWN_FINDINGS:
        print(f"  … {len(report.findings) - SHOWN_FINDINGS} more findings on the page")
    if report.body["actions"]:
        print("Most worth doing:")
    for number, action in enumerate(report.body["actions"], start=1):
        print(f"  {number}. {shown(action['text'])}")
        if action["command"]:
            print(f"     {action['command']}")
    print("Results: " + "\n         ".join(report.paths[name] for name in ("report", "json", "findings", "plan")))
