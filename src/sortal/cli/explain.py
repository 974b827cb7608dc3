"""`sortal explain`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish, listener


def explain(
    model: Path = typer.Argument(..., help="A run, a bundle or an exported artifact."),
    images: list[Path] = typer.Argument(..., help="Image files."),
    class_name: str = typer.Option(None, "--class", help="Show what speaks for this class, not for the answer."),
    out: Path = typer.Option(None, "--out", help="Folder of the page; default: <run>/explanations/<run>-N."),
    engine: str = typer.Option("auto", "--engine", help="onnxruntime or openvino."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Show why images were answered as they were: where the evidence lies, the runner-up, the nearest training images.

    \b
    sortal explain runs/photos-1 image.jpg
    sortal explain runs/photos-1 a.jpg b.jpg --class crack
    """
    from sortal import api
    from sortal.cli.tables import draw

    report = api.explain(model, images, class_name=class_name, out=out, engine=engine, listener=listener())
    if not as_json:
        for sentence in report.body["summary"]:
            print(sentence)
        draw("maps", report.tables["maps"])
    results = [report.paths["report"], *(path for name, path in report.paths.items() if name.startswith("image_"))]
    finish(report, as_json=as_json, results=results, following=[f"open {report.paths['report']} in a browser"])
