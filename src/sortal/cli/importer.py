"""`sortal import`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish


def import_(
    model: Path = typer.Argument(..., help="An ONNX classifier, or a model folder of the Hugging Face hub."),
    labels: Path = typer.Option(None, "--labels", help="Class names, one a line; the line number is the index."),
    preprocess: Path = typer.Option(None, "--preprocess", help="YAML: size, mean, std, resize, crop, interpolation."),
    licence: str = typer.Option(None, "--licence", help="Licence of the weights; default: the folder's, or unknown."),
    out: Path = typer.Option(None, "--out", help="The bundle folder; default: runs/<model>-N/bundle."),
    as_json: bool = typer.Option(False, "--json", help="Print a report as JSON, and nothing else."),
) -> None:
    """Turn somebody else's classifier into a bundle that can be evaluated, served and certified.

    \b
    sortal import model.onnx --labels names.txt --preprocess preprocess.yaml
    sortal import path/to/folder            # config.json and model.safetensors, as timm writes them for the hub
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
