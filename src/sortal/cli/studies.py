"""`sortal learning-curve` and `sortal sweep`: questions that take more than one training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

import typer

from sortal.cli.output import finish, listener
from sortal.core.report import Table


def learning_curve(
    source: str = typer.Argument(..., help="A folder of class folders, a table, a list, an archive or arrays."),
    settings: list[str] = typer.Argument(None, help="key=value, for example model=mobilenetv2_100 seed=1"),
    recipe: Path = typer.Option(None, "--recipe", help="A recipe to start from (YAML)."),
    out: Path = typer.Option(Path("runs"), "--out", help="Where the folder with picture and report is made."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Are there enough images? Accuracy against images a class, and who would gain most from more.

    \b
    sortal learning-curve photos/
    """
    from sortal import explore

    report = explore.learning_curve(source, recipe=recipe, overrides=settings or (), out=out, listener=listener())
    finish(
        report,
        as_json=as_json,
        results=[report.paths["picture"], report.paths["report"]],
        following=[shlex.join(["sortal", "train", source, *(settings or ()), "train.time=10m"])],
    )


def sweep(
    source: str = typer.Argument(..., help="A folder of class folders, a table, a list, an archive or arrays."),
    settings: list[str] = typer.Argument(None, help="key=value for all runs, for example train.epochs=5"),
    vary: list[str] = typer.Option(..., "--vary", help="key=value,value: what differs. Give it several times."),
    seeds: int = typer.Option(1, "--seeds", min=1, help="Runs of each setting, with seeds 0, 1, ..."),
    metric: Literal["accuracy", "macro_f1"] = typer.Option("accuracy", "--metric", help="What ranks the settings."),
    recipe: Path = typer.Option(None, "--recipe", help="A recipe to start from (YAML)."),
    out: Path = typer.Option(Path("runs"), "--out", help="Where the folder of the sweep is made."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Train under several settings and compare accuracy, overfitting, latency and size on validation images.

    \b
    sortal sweep photos/ --vary augment=none,basic --seeds 3 train.epochs=10
    sortal sweep photos/ --vary input.size=128,160,224 --vary model=mobilenetv2_100,resnet18
    """
    from sortal import explore
    from sortal.cli.tables import draw

    report = explore.sweep(
        source,
        vary=vary,
        seeds=seeds,
        metric=metric,
        recipe=recipe,
        overrides=settings or (),
        out=out,
        listener=listener(),
    )
    folder, knee = Path(str(report.provenance["folder"])), report.provenance["knee_settings"]
    if not as_json:
        draw("settings", _narrow(report.tables["settings"]))
        draw("batches of the knee", report.tables["throughput"])
    finish(
        report,
        as_json=as_json,
        results=[folder / "sweep.png", folder / "report.md"],
        following=[shlex.join(["sortal", "train", source, *(settings or ()), *knee])],
    )


_SHOWN = ("setting", "seeds", "accuracy", "spread", "macro F1", "train - validation gap", "latency b1 ms", "knee")


def _narrow(table: Table) -> Table:
    """What fits on a terminal; the rest is in the report."""
    places = [table.columns.index(name) for name in _SHOWN]
    return Table(columns=_SHOWN, rows=tuple(tuple(row[place] for place in places) for row in table.rows))
