"""`sortal targets`."""

from __future__ import annotations

import typer

from sortal.cli.output import finish


def targets(
    as_json: bool = typer.Option(False, "--json", help="Print the tables as a JSON report, and nothing else."),
) -> None:
    """List where a classifier can be deployed: the artifacts, what runs them, what is here, and what a machine wants.

    \b
    sortal targets
    sortal export runs/photos-1 --to auto
    sortal export runs/photos-1 --for android
    """
    from sortal.asked import need
    from sortal.cli.tables import draw

    need("onnx", "train")
    from sortal.export.targets import targets as listed

    report = listed()
    if not as_json:
        print(f"This machine: {report.subject}")
        for name, table in report.tables.items():
            draw(name, table)
    following = [f"sortal export runs/photos-1 --to auto   # here: {report.body['auto']}"]
    finish(report, as_json=as_json, results=[], following=following)
