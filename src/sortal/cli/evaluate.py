"""`sortal evaluate`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish, listener


def evaluate(
    model: Path = typer.Argument(..., help="A run, a bundle or an exported artifact."),
    source: str = typer.Argument(..., help="Labelled images: a folder of class folders, a table, a list ..."),
    settings: list[str] = typer.Argument(None, help="evaluate.key=value, contract=FILE: over the model's recipe."),
    out: Path = typer.Option(None, "--out", help="Folder of the report; default: <run>/evaluations/<source>-N."),
    split: str = typer.Option(None, "--split", help="Only this split of the source: train, val or test."),
    by: list[str] = typer.Option([], "--by", help="A column, such as camera: measure its values apart. Repeatable."),
    group: str = typer.Option(None, "--group", help="A column or pattern: images of a group count as one fact."),
    engine: str = typer.Option("auto", "--engine", help="onnxruntime or openvino."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Measure a classifier on labelled images, with intervals.

    \b
    sortal evaluate runs/photos-1 other-photos/
    sortal evaluate runs/photos-1/bundle test.csv --json
    sortal evaluate runs/photos-1 test.csv --by camera --by size --group part
    sortal evaluate runs/photos-1 other/ evaluate.ok=good contract=contract.yaml
    """
    from sortal import api
    from sortal.cli.tables import draw

    report = api.evaluate(
        model,
        source,
        out=out,
        split=split,
        by=by,
        group=group,
        settings=settings or (),
        engine=engine,
        listener=listener(),
    )
    if by and not as_json:
        draw(f"by {', '.join(by)}", report.tables["slices"])
    finish(
        report,
        as_json=as_json,
        results=[report.paths["report"], report.paths["predictions"]],
        following=[f"sortal predict {model} path/to/images", f"open {report.paths['report']} in a browser"],
    )
