"""`sortal import`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish


def import_(
    model: Path = typer.Argument(..., help="An ONNX classifier."),
    labels: Path = typer.Option(..., "--labels", help="Class names, one a line; the line number is the index."),
    preprocess: Path = typer.Option(None, "--preprocess", help="YAML: size, mean, std, resize, crop, interpolation."),
    licence: str = typer.Option("unknown", "--licence", help="Licence of the weights, recorded in the bundle."),
    out: Path = typer.Option(None, "--out", help="The bundle folder; default: runs/<model>-N/bundle."),
    as_json: bool = typer.Option(False, "--json", help="Print a report as JSON, and nothing else."),
) -> None:
    """Turn somebody else's ONNX classifier into a bundle that can be evaluated, served and certified.

    \b
    sortal import model.onnx --labels names.txt --preprocess preprocess.yaml
    """
    from sortal import api

    report = api.import_model(model, labels=labels, preprocess=preprocess, licence=licence, out=out)
    bundle = report.paths["bundle"]
    finish(
        report,
        as_json=as_json,
        results=[bundle],
        following=[f"sortal evaluate {bundle} path/to/labelled-images", f"sortal predict {bundle} path/to/images"],
    )
