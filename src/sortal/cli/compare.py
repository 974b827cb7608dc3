"""`sortal compare`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish, listener
from sortal.core.report import Table


def compare(
    what: list[str] = typer.Argument(
        ..., metavar="MODEL MODEL... IMAGES", help="Two or more runs, bundles or artifacts; then labelled images."
    ),
    by: list[str] = typer.Option(
        [], "--by", help="A column, such as camera or line: compare each of its values apart."
    ),
    group: str = typer.Option(None, "--group", help="A column or pattern: which images are one piece of evidence."),
    out: Path = typer.Option(None, "--out", help="Folder of the report; default: comparisons/<images>-N."),
    split: str = typer.Option(None, "--split", help="Only this split of the images: train, val or test."),
    engine: str = typer.Option("auto", "--engine", help="onnxruntime or openvino."),
    confidence: float = typer.Option(0.95, "--confidence", help="Of intervals and of the verdict."),
    latency: bool = typer.Option(True, "--latency/--no-latency", help="Measure how long an image takes."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Say which of two models is better on the same images, and what each costs.

    \b
    sortal compare runs/photos-1 runs/photos-2 holdout/
    sortal compare runs/photos-1 runs/photos-2 holdout.csv --by camera
    sortal compare runs/photos-1 runs/photos-2 runs/photos-3 holdout/ --no-latency
    """
    from sortal import api
    from sortal.cli.tables import draw

    *models, source = what
    report = api.compare(
        models,
        source,
        by=by,
        group=group,
        out=out,
        split=split,
        engine=engine,
        confidence=confidence,
        latency=latency,
        listener=listener(),
    )
    if not as_json:
        for name in ("models", "against_the_first", *(f"by {column}" for column in by)):
            if name in report.tables:
                draw(name, _narrow(report.tables[name]))
        for sentence in report.body["summary"]:
            print(sentence)
    following = [f"open {report.paths['report']} in a browser"]
    following += [f"sortal explain {models[-1]} path/to/image.jpg"]
    finish(report, as_json=as_json, results=list(report.paths.values()), following=following)


def _narrow(table: Table) -> Table:
    """Without columns that a terminal has no room for."""
    kept = [place for place, name in enumerate(table.columns) if name not in _WIDE]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return Table(columns=tuple(table.columns[place] for place in kept), rows=rows)


_WIDE = ("architecture", "accuracy_low", "accuracy_high", "latency_1_p95_ms", "images_per_s")
