"""`sortal profile`."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from sortal.cli.output import finish, listener


def profile(
    source: str = typer.Argument(..., help="A folder of class folders, a table, a list, an archive or arrays."),
    settings: list[str] = typer.Argument(None, help="key=value, for example model=resnet18 train.batch=32"),
    recipe: Path = typer.Option(None, "--recipe", help="A recipe to start from (YAML)."),
    steps: int = typer.Option(20, "--steps", min=1, help="Training steps that are measured."),
    out: Path = typer.Option(None, "--out", help="Folder of report and trace; default: runs/<source>-profile-N."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Measure where the time of a training step goes: images, forward, backward, step; operators; a trace.

    \b
    sortal profile photos/ train.freeze=none
    """
    from sortal import explore
    from sortal.cli.tables import draw

    given = [source, *(settings or ()), *([] if recipe is None else ["--recipe", str(recipe)])]
    report = explore.profile(
        source,
        recipe=recipe,
        overrides=settings or (),
        steps=steps,
        out=out,
        command=["sortal", "profile", *given],
        listener=listener(),
    )
    if not as_json:
        for name, table in report.tables.items():
            draw(name, table)
    finish(
        report,
        as_json=as_json,
        results=[report.paths["report"], report.paths["trace"]],
        following=[shlex.join(["sortal", "train", *given]), "open the trace in https://ui.perfetto.dev"],
    )
