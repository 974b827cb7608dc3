"""`sortal evaluate`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish, listener


def evaluate(
    model: Path = typer.Argument(..., help="A run, a bundle or an exported artifact."),
    source: str = typer.Argument(..., help="Labelled images: a folder of class folders, a table, a list ..."),
    out: Path = typer.Option(None, "--out", help="Folder of the report; default: <run>/evaluations/<source>-N."),
    split: str = typer.Option(None, "--split", help="Only this split of the source: train, val or test."),
    by: str = typer.Option(None, "--by", help="A column, such as camera or line: measure each of its values apart."),
    engine: str = typer.Option("auto", "--engine", help="onnxruntime or openvino."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Measure a classifier on labelled images, with intervals.

    \b
    sortal evaluate runs/photos-1 other-photos/
    sortal evaluate runs/photos-1/bundle test.csv --json
    sortal evaluate runs/photos-1 test.csv --by camera
    """
    from sortal import api
    from sortal.cli.tables import draw

    report = api.evaluate(model, source, out=out, split=split, by=by, engine=engine, listener=listener())
    if by is not None and not as_json:
        draw(f"by {by}", report.tables["sources"])
    finish(
        report,
        as_json=as_json,
        results=[report.paths["report"], report.paths["predictions"]],
        following=[f"sortal predict {model} path/to/images", f"open {report.paths['report']} in a browser"],
    )
