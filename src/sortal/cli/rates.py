"""`sortal find-lr`."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from sortal.cli.output import finish, listener


def find_lr(
    source: str = typer.Argument(..., help="A folder of class folders, a table, a list, an archive or arrays."),
    settings: list[str] = typer.Argument(None, help="key=value, for example model=resnet18 train.freeze=none"),
    recipe: Path = typer.Option(None, "--recipe", help="A recipe to start from (YAML)."),
    steps: int = typer.Option(100, "--steps", min=10, help="Training steps, each at a higher rate."),
    out: Path = typer.Option(None, "--out", help="Folder of picture and report; default: runs/<source>-find-lr-N."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Find the learning rate to train with: a short training at ever higher rates, on the recipe's own network.

    \b
    sortal find-lr photos/ train.freeze=none
    """
    from sortal import explore

    report = explore.find_rate(
        source, recipe=recipe, overrides=settings or (), steps=steps, out=out, listener=listener()
    )
    given = [setting for setting in settings or () if not setting.startswith("optim.lr=")]
    named = [] if recipe is None else ["--recipe", str(recipe)]
    rate = f"optim.lr={report.metrics['suggested'].value:g}"
    finish(
        report,
        as_json=as_json,
        results=[report.paths["picture"], report.paths["report"]],
        following=[shlex.join(["sortal", "train", source, *named, *given, rate])],
    )
