"""`sortal predict`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish, listener


def predict(
    model: Path = typer.Argument(..., help="A run, a bundle or an exported artifact."),
    source: str = typer.Argument(..., help="An image, a folder, a table, an archive or arrays."),
    out: Path = typer.Option(Path("predictions.csv"), "--out", help="A .csv, .tsv, .jsonl or .parquet file."),
    sort_into: Path = typer.Option(None, "--sort-into", help="Also put every image into <folder>/<label>/."),
    link: bool = typer.Option(False, "--link", help="With --sort-into: make links instead of copies."),
    sets: float = typer.Option(None, "--sets", help="Also the classes not ruled out, at this level, such as 0.9."),
    back_off: float = typer.Option(None, "--back-off", help="Also the family where no class is so probable, as 0.8."),
    strict: bool = typer.Option(False, "--strict", help="End with exit code 2 if any image cannot be read."),
    engine: str = typer.Option("auto", "--engine", help="onnxruntime or openvino."),
    as_json: bool = typer.Option(False, "--json", help="Print a report as JSON, and nothing else."),
) -> None:
    """Classify images and write one row for each.

    \b
    sortal predict runs/photos-1 inbox/
    sortal predict runs/photos-1 inbox/ --out answers.parquet --sort-into sorted/
    sortal predict runs/photos-1 inbox/ --sets 0.9 --back-off 0.8
    """
    from sortal import api

    report = api.predict_files(
        model,
        source,
        out=out,
        sort_into=sort_into,
        link=link,
        engine=engine,
        sets=sets,
        back_off=back_off,
        listener=listener(),
    )
    finish(
        report,
        as_json=as_json,
        results=list(report.paths.values()),
        following=[f"sortal evaluate {model} path/to/labelled-images"],
    )
    if strict and any(finding.code == "unreadable" for finding in report.findings):
        raise typer.Exit(2)
