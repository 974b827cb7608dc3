"""`sortal train` and `sortal reproduce`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.app import INTERRUPTED, NEGATIVE
from sortal.cli.output import finish, listener
from sortal.cli.processes import one_voice
from sortal.core.errors import InputError
from sortal.core.team import leading


def train(
    source: str | None = typer.Argument(None, help="A folder of class folders, a table, a list, an archive or arrays."),
    settings: list[str] = typer.Argument(None, help="key=value, for example train.time=10m model=resnet18 seed=1"),
    recipe: Path = typer.Option(None, "--recipe", help="A recipe to start from (YAML)."),
    out: Path = typer.Option(Path("runs"), "--out", help="Where run folders are made."),
    resume: Path | None = typer.Option(None, "--resume", help="Go on with this run, which was broken off."),
    allow_data_change: bool = typer.Option(
        False, "--allow-data-change", help="With --resume: go on although images or labels changed."
    ),
    debug_dist: bool = typer.Option(
        False, "--debug-dist", help="With several processes: keep what each of them says in dist-<rank>.log."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the evaluation report as JSON, and nothing else."),
) -> None:
    """Train a classifier on images and evaluate it on images it has not seen.

    \b
    sortal train photos/
    sortal train labels.csv model=mobilenetv2_100 train.time=10m seed=1
    sortal train photos/ --recipe recipes/small-data.yaml optim.lr=3e-4
    sortal train --resume runs/photos-1
    torchrun --nproc-per-node 2 -m sortal train photos/
    """
    from sortal import api

    with one_voice(debug=debug_dist):
        if resume is not None:
            _nothing_else(source, settings, recipe)
            run = api.resume(resume, allow_data_change=allow_data_change, listener=listener())
        elif source is None:
            hint = "sortal train photos/   or   sortal train --resume RUN"
            raise InputError("name the images to train on", hint=hint)
        else:
            run = api.train(source, recipe=recipe, overrides=settings or (), out=out, listener=listener())
    if not leading():
        return
    following = [f"sortal predict {run.path} path/to/images", f"sortal evaluate {run.path} path/to/other-images"]
    interrupted = any(finding.code == "interrupted" for finding in run.report.findings)
    finish(
        run.report,
        as_json=as_json,
        results=[run.path, run.path / "report.html"],
        following=[f"sortal train --resume {run.path}", *following] if interrupted else following,
    )
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if any(finding.code == "contract_unmet" for finding in run.report.findings):
        raise typer.Exit(NEGATIVE)  # the run and its report are kept; they say by how much


def reproduce(
    run: Path = typer.Argument(..., help="A finished run."),
    out: Path = typer.Option(Path("runs"), "--out", help="Where the new run is made."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Train once more as a run did, and compare weights and numbers with it.

    \b
    sortal reproduce runs/photos-1
    """
    from sortal import api

    with one_voice():
        report = api.reproduce(run, out=out, listener=listener())
    if not leading():
        return
    again = str(report.provenance["again"])
    finish(report, as_json=as_json, results=[again], following=[f"sortal show {again}"])
    if any(finding.severity == "error" for finding in report.findings):
        raise typer.Exit(NEGATIVE)


def _nothing_else(source: str | None, settings: list[str] | None, recipe: Path | None) -> None:
    if source is not None or settings or recipe is not None:
        given = " ".join(str(part) for part in (source, *(settings or ()), recipe) if part is not None)
        raise InputError(
            "a run goes on with the images and the recipe it began with",
            where="--resume",
            received=given,
            hint="leave them out, or start a new run",
        )
