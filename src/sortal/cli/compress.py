"""`sortal compress`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.app import NEGATIVE
from sortal.cli.output import finish, listener
from sortal.core.report import Table


def compress(
    model: Path = typer.Argument(..., help="A run or a bundle."),
    settings: list[str] = typer.Argument(
        None, metavar="[IMAGES] KEY=VALUE...", help="Labelled images, where the run's own are gone; compress.key=value."
    ),
    out: Path = typer.Option(None, "--out", help="A new bundle for the int8; default: attach it to the bundle."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Make a classifier smaller and faster within a budget of accuracy; exit 1 where nothing keeps it.

    \b
    sortal compress runs/photos-1 compress.int8=true
    sortal compress runs/photos-1 compress.int8=true compress.max_drop=0.5 contract=contract.yaml
    sortal compress runs/photos-1 compress.prune=0.3 compress.int8=true
    sortal compress runs/photos-1/bundle photos/ compress.int8=true --out small/
    """
    from sortal import api
    from sortal.cli.tables import draw

    images = [text for text in settings or () if "=" not in text or Path(text).exists()]
    report = api.compress(
        model,
        None if not images else images[0] if len(images) == 1 else images,
        settings=[text for text in settings or () if text not in images],
        out=out,
        listener=listener(),
    )
    if not as_json:
        for sentence in report.body["summary"]:
            print(sentence)
        draw("candidates", _narrow(report.tables["candidates"]))
    shipped = [report.paths[name] for name in report.body["shipped"]]
    finish(
        report,
        as_json=as_json,
        results=[*shipped, report.paths["report"]],
        following=[
            *(f"sortal predict {path} path/to/images" for path in shipped[:1]),
            f"open {report.paths['report']} in a browser",
        ],
    )
    if not shipped:
        raise typer.Exit(NEGATIVE)


_SHOWN = ("candidate", "engine", "size_mb", "accuracy", "drop_points", "flips", "cpu_ms", "time_ratio", "verdict")


def _narrow(table: Table) -> Table:
    """What fits on a terminal; the rest is in the report."""
    places = [table.columns.index(name) for name in _SHOWN]
    return Table(columns=_SHOWN, rows=tuple(tuple(row[place] for place in places) for row in table.rows))
