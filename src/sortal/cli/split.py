"""`sortal split`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish, listener


def split(
    source: str = typer.Argument(..., help="Labelled images: a folder of class folders, a table, a list ..."),
    out: Path = typer.Option(Path("split.csv"), "--out", help="The file to write, .csv or .parquet."),
    group: str = typer.Option(None, "--group", help="A column, or a pattern over names: 'lot_(\\d+)'; camera, day."),
    val: float = typer.Option(0.15, "--val", help="Share of the images for validation."),
    test: float = typer.Option(0.15, "--test", help="Share of the images for the test."),
    folds: int = typer.Option(0, "--folds", help="Also number this many folds of a cross-validation."),
    seed: int = typer.Option(0, "--seed", help="The same seed gives the same split."),
    lock: bool = typer.Option(False, "--lock", help="Seal the test images: they stay the test when images are added."),
    ignore_splits: bool = typer.Option(False, "--ignore-splits", help="Divide anew what the source has divided."),
    model: Path = typer.Option(None, "--model", help="A run or bundle, whose features show scenes that repeat."),
    label: str = typer.Option("label", "--label", help="The column of the class, for tables."),
    as_json: bool = typer.Option(False, "--json", help="Print a report as JSON, and nothing else."),
) -> None:
    """Divide images so that nothing leaks: identical files, near duplicates, bursts and groups stay together.

    \b
    sortal split photos/ --group 'lot_(\\d+)' --out split.csv
    sortal split photos/ --out split.csv --folds 5 --lock
    sortal train photos/ data.split.file=split.csv

    A locked file grows: written again after images were added, every image in it stays where it is.
    """
    from sortal import api
    from sortal.separate import Wish

    wish = Wish(group=group, val=val, test=test, folds=folds, seed=seed, lock=lock, ignore_splits=ignore_splits)
    report = api.split(source, out, wish=wish, model=model, label=label, listener=listener())
    if not as_json:
        from sortal.cli.tables import draw

        if report.tables["together"].rows:
            draw("kept together", report.tables["together"])
        draw("images by class", report.tables["classes"])
    finish(report, as_json=as_json, results=[out], following=[f"sortal train {source} data.split.file={out}"])
