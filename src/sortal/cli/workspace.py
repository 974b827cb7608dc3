"""`sortal promote`, `sortal rollback`, `sortal rollout`, `sortal journal`, `sortal workspace`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish
from sortal.cli.settings import pairs
from sortal.core.errors import InputError
from sortal.core.report import Report

_JSON = typer.Option(False, "--json", help="Print the report as JSON, and nothing else.")
_WORKSPACE = typer.Argument(..., help="The folder that production lives in.")
_NOTE = typer.Option("", "--note", help="Why, for the journal.")


def promote(
    model: Path = typer.Argument(..., help="A run or a bundle."),
    workspace: Path = typer.Argument(..., help="The folder that production lives in; made where nothing is."),
    canary: str | None = typer.Option(None, "--canary", help="Let it answer this share of the requests, such as 10%."),
    shadow: bool = typer.Option(False, "--shadow", help="Ask it everything, and answer nobody with it."),
    other_classes: bool = typer.Option(False, "--other-classes", help="Its classes may differ from the live one's."),
    note: str = _NOTE,
    as_json: bool = _JSON,
) -> None:
    """Make a classifier the live one of a workspace, or its canary or shadow.

    \b
    sortal promote runs/photos-1 line4/
    sortal promote runs/photos-2 line4/ --canary 10%

    The bundle is copied and verified; one commit changes who answers.
    """
    from sortal import production

    share = None if canary is None else _share(canary)
    report = production.promote(model, workspace, canary=share, shadow=shadow, other_classes=other_classes, note=note)
    following = [f"sortal rollback {workspace}", f"sortal journal {workspace}"]
    if share is not None or shadow:
        following.insert(0, f"sortal rollout {workspace}   # how it does")
    _finish(report, as_json=as_json, following=following)


def rollback(
    workspace: Path = _WORKSPACE,
    to: str = typer.Option(None, "--to", help="The id of the bundle to go back to, or how it begins."),
    note: str = _NOTE,
    as_json: bool = _JSON,
) -> None:
    """End a canary or shadow; where there is none, go back to the classifier that was live before.

    \b
    sortal rollback line4/
    sortal rollback line4/ --to 3f9a1c

    What was rolled back from is passed over when rolling back further; promote it to have it again.
    """
    from sortal import production

    report = production.rollback(workspace, to=to, note=note)
    _finish(report, as_json=as_json, following=[f"sortal journal {workspace}"])


def rollout(
    workspace: Path = _WORKSPACE,
    margin: str = typer.Option("1%", "--margin", help="The difference in accuracy that matters."),
    confidence: float = typer.Option(0.95, "--confidence", help="Of intervals and of the verdict."),
    as_json: bool = _JSON,
) -> None:
    """Whether the canary or shadow of a workspace does better than what is live, and what to do.

    \b
    sortal rollout line4/
    sortal rollout line4/ --margin 2%

    From what both answered, and what people said about the images. After it ended, the last one is told.
    """
    from sortal.cli.tables import draw
    from sortal.rollout import rollout as held_against

    report = held_against(workspace, margin=_share(margin, hint="--margin 1%"), confidence=confidence)
    if not as_json:
        draw("arms", report.tables["arms"])
    finish(report, as_json=as_json, results=[], following=report.body["next"])


def journal(
    workspace: Path = _WORKSPACE,
    last: int = typer.Option(20, "--last", min=1, help="How many changes to show."),
    as_json: bool = _JSON,
) -> None:
    """What is live in a workspace, and what was changed when and by whom.

    \b
    sortal journal line4/
    sortal journal line4/ --last 5
    """
    from sortal import production
    from sortal.cli.tables import draw

    report = production.journal(workspace, last=last)
    if not as_json:
        draw("journal", report.tables["journal"])
    _finish(report, as_json=as_json, following=[f"sortal rollback {workspace}"])


def workspace(
    workspace: Path = _WORKSPACE,
    settings: list[str] = typer.Argument(None, metavar="KEY=VALUE...", help="images_mb=500 images_days=30 bundles=3"),
    keep: str = typer.Option(None, "--keep", help="Never remove this bundle."),
    release: str = typer.Option(None, "--release", help="Let this bundle be removed again."),
    tidy: bool = typer.Option(False, "--tidy", help="Remove what the limits leave no room for."),
    review: bool = typer.Option(False, "--review", help="List the images that wait for a person, and do nothing else."),
    last: int = typer.Option(20, "--last", min=1, help="How many of them to list."),
    as_json: bool = _JSON,
) -> None:
    """What a workspace keeps, and its limits.

    \b
    sortal workspace line4/ images_mb=500 events_days=90
    sortal workspace line4/ --tidy
    sortal workspace line4/ --review
    """
    from sortal import production

    if review:
        waiting = production.review(workspace, last=last)
        if not as_json:
            from sortal.cli.tables import draw

            draw("review", waiting.tables["review"])
        _finish(waiting, as_json=as_json, following=[f"sortal serve {workspace}"])
        return
    report = production.tend(
        workspace, settings=pairs(settings, example="images_mb=500"), keep=keep, release=release, tidy=tidy
    )
    if not as_json:
        print(
            "limits: "
            + ", ".join(f"{key}={value}" for key, value in report.body["settings"].items() if key != "format")
        )
    finish(report, as_json=as_json, results=[workspace], following=[f"sortal journal {workspace}"])


def _finish(report: Report, *, as_json: bool, following: list[str]) -> None:
    if not as_json:
        for sentence in report.body["summary"]:
            print(sentence)
    finish(report, as_json=as_json, results=list(report.paths.values()), following=following)


def _share(text: str, *, hint: str = "--canary 10%") -> float:
    try:
        return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError as error:
        raise InputError("a share is a percentage or a number", received=text, hint=hint) from error
