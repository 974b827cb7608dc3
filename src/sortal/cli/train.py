"""`sortal train`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.app import INTERRUPTED
from sortal.cli.output import finish, listener


def train(
    source: str = typer.Argument(..., help="A folder of class folders, a table, a list, an archive or arrays."),
    settings: list[str] = typer.Argument(None, help="key=value, for example train.time=10m model=resnet18 seed=1"),
    recipe: Path = typer.Option(None, "--recipe", help="A recipe to start from (YAML)."),
    out: Path = typer.Option(Path("runs"), "--out", help="Where run folders are made."),
    as_json: bool = typer.Option(False, "--json", help="Print the evaluation report as JSON, and nothing else."),
) -> None:
    """Train a classifier on images and evaluate it on images it has not seen.

    \b
    sortal train photos/
    sortal train labels.csv model=mobilenetv2_100 train.time=10m seed=1
    sortal train photos/ --recipe recipes/small-data.yaml optim.lr=3e-4
    """
    from sortal import api

    run = api.train(source, recipe=recipe, overrides=settings or (), out=out, listener=listener())
    finish(
        run.report,
        as_json=as_json,
        results=[run.path, run.path / "report.html"],
        following=[f"sortal predict {run.path} path/to/images", f"sortal evaluate {run.path} path/to/other-images"],
    )
    if any(finding.code == "interrupted" for finding in run.report.findings):
        raise typer.Exit(INTERRUPTED)
