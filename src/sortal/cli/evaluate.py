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
    engine: str = typer.Option("auto", "--engine", help="onnxruntime or openvino."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Measure a classifier on labelled images, with intervals.

    \b
    sortal evaluate runs/photos-1 other-photos/
    sortal evaluate runs/photos-1/bundle test.csv --json
    """
    from sortal import api

    report = api.evaluate(model, source, out=out, split=split, engine=engine, listener=listener())
    finish(
        report,
        as_json=as_json,
        results=[report.paths["report"], report.paths["predictions"]],
        following=[f"sortal predict {model} path/to/images", f"open {report.paths['report']} in a browser"],
    )
