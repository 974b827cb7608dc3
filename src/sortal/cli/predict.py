"""`sortal predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

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
    engine: str = typer.Option(
        "auto", "--engine", help="Such as openvino, or onnxruntime:xnnpack; see docs/export.md."
    ),
    threads: int = typer.Option(None, "--threads", min=1, help="Of the engine; default: measured, or all CPUs."),
    precision: str = typer.Option("auto", "--precision", help="auto, float32, float16, int8, or fastest of all."),
    measure: bool = typer.Option(
        None, "--measure/--no-measure", help="Look for the quickest way now; default: from 1,000 images on, once."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print a report as JSON, and nothing else."),
) -> None:
    """Classify images and write one row for each.

    \b
    sortal predict runs/photos-1 inbox/
    sortal predict runs/photos-1 inbox/ --out answers.parquet --sort-into sorted/
    sortal predict runs/photos-1 inbox/ --sets 0.9 --back-off 0.8
    sortal predict runs/photos-1 inbox/ --precision fastest --measure
    """
    from sortal import api
    from sortal.runtime.candidates import as_precision
    from sortal.runtime.choice import Wish

    when: Literal["auto", "always", "never"] = "auto" if measure is None else "always" if measure else "never"
    report = api.predict_files(
        model,
        source,
        out=out,
        sort_into=sort_into,
        link=link,
        wish=Wish(engine=engine, threads=threads, precision=as_precision(precision), measure=when),
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
