"""`sortal augment`."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from sortal.cli.output import finish, listener


def augment(
    source: str = typer.Argument(..., help="A folder of class folders, a table, a list, an archive or arrays."),
    settings: list[str] = typer.Argument(None, help="key=value, for example augment=industrial augment.strength=0.5"),
    recipe: Path = typer.Option(None, "--recipe", help="A recipe to start from (YAML)."),
    out: Path = typer.Option(None, "--out", help="Folder of the picture; default: runs/<source>-augment-N."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Draw what augmentation does to some training images: one row for each family, one for all together.

    \b
    sortal augment photos/
    sortal augment photos/ augment=trivial augment.families=[geometric]
    """
    from sortal import explore

    report = explore.preview_augmentation(source, recipe=recipe, overrides=settings or (), out=out, listener=listener())
    finish(
        report,
        as_json=as_json,
        results=[report.paths["picture"]],
        following=[shlex.join(["sortal", "train", source, *(settings or ())])],
    )
