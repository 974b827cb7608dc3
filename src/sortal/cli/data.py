"""`sortal data`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sortal.cli.output import finish, listener

if TYPE_CHECKING:
    from sortal.data.diff import Side

_COUNTS = {"diff": 2, "digest": 1, "add": 1, "status": 1}


def data(
    what: str = typer.Argument(..., help="diff, digest, add or status."),
    sources: list[Path] = typer.Argument(..., help="Data sets, split files or runs; diff takes two."),
    content: bool = typer.Option(True, help="Compare contents too, which reads every image."),
    label: str = typer.Option("label", "--label", help="The column of classes in tables."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Versions of data sets: what differs between two (exit code 1 where something does), their digests, DVC.

    \b
    sortal data diff photos/ photos-new/
    sortal data diff runs/photos-1 photos/        what changed since a run
    sortal data digest photos/
    sortal data add photos/                       dvc add, inside a DVC repository
    sortal data status photos/                    dvc status
    """
    from sortal.core.errors import InputError

    wanted = _COUNTS.get(what)
    if wanted is None:
        raise InputError("no such command", where="sortal data", received=what, hint=f"one of {', '.join(_COUNTS)}")
    if len(sources) != wanted:
        number = "two paths" if wanted == 2 else "one path"
        raise InputError(f"{what} takes {number}", where="sortal data", received=" ".join(map(str, sources)))
    if what == "diff":
        _diff(*sources, content=content, label=label, as_json=as_json)
    elif what == "digest":
        _digest(sources[0], content=content, label=label, as_json=as_json)
    else:
        _external(what, sources[0])


def _diff(one: Path, other: Path, *, content: bool, label: str, as_json: bool) -> None:
    from sortal.cli.tables import draw
    from sortal.data import diff

    found = diff.compare(
        _side(one, content=content, label=label),
        _side(other, content=content, label=label),
    )
    report = diff.report(found)
    if not as_json:
        for name, table in report.tables.items():
            draw(name, table)
        print("Equal." if found.equal else "They differ.")
    finish(report, as_json=as_json, results=[], following=[])
    if not found.equal:
        raise typer.Exit(1)


def _digest(source: Path, *, content: bool, label: str, as_json: bool) -> None:
    from sortal.data import diff

    report = diff.digest_report(_side(source, content=content, label=label))
    if not as_json:
        for name, value in report.provenance.items():
            print(f"{name.replace('_', ' ')}  {value or 'not known'}")
    finish(report, as_json=as_json, results=[], following=[])


def _side(source: Path, *, content: bool, label: str) -> Side:
    from sortal.data import diff

    said = listener()
    return diff.side(
        source, content=content, label=label, progress=lambda done, total: said.progress("reading", done, total)
    )


def _external(what: str, source: Path) -> None:
    from sortal.data import dvc

    print(dvc.add(source) if what == "add" else dvc.status(source))
