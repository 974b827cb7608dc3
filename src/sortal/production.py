"""The verbs about a workspace: which bundle answers, what was done when and by whom, what is kept.

Each opens the workspace, does one thing in one commit and says what is so now, as a report of kind `deployment`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sortal.core.errors import InputError, nearest
from sortal.core.events import Event
from sortal.core.report import Metric, Report, Table
from sortal.evaluate.compare.sides import bundle_of
from sortal.workspace.bundles import size_bytes, stored_ids
from sortal.workspace.deployment import Deployment, Entry, clear, deployment, pin
from sortal.workspace.deployment import journal as entries_of
from sortal.workspace.deployment import promote as promoted
from sortal.workspace.deployment import rollback as rolled_back
from sortal.workspace.deployment import withdraw as withdrawn
from sortal.workspace.events import count_events, forget_events
from sortal.workspace.feedback import disputed_images, statements
from sortal.workspace.folder import BUNDLES, Settings, Workspace, change_settings, open_or_create, open_workspace
from sortal.workspace.images import clear_images, used_bytes
from sortal.workspace.review import review_queue

SHOWN = 20
"""Entries of the journal in a report."""


def promote(
    model: str | Path,
    workspace: str | Path,
    *,
    canary: float | None = None,
    shadow: bool = False,
    other_classes: bool = False,
    note: str = "",
) -> Report:
    """Make the bundle of a run, or a bundle, the live one of a workspace, which is made where nothing is.

    With `canary`, a share of requests above 0 and below 1, or as `shadow`, it stands beside the live one. See
    `sortal.workspace.deployment.promote` for the errors.
    """
    bundle = bundle_of(Path(model))
    if bundle is None:
        raise InputError("neither a run nor a bundle", where=str(model), hint="give a folder such as runs/photos-1")
    with open_or_create(Path(workspace)) as opened:
        promoted(opened, bundle, canary=canary, shadow=shadow, other_classes=other_classes, note=note)
        return _state_report(opened)


def rollback(workspace: str | Path, *, to: str | None = None, note: str = "") -> Report:
    """End a canary or shadow where there is one; else make the bundle live that was so before, or the one named by the
    beginning of its id. Raises NotFoundError where there is nothing to go back to."""
    with open_workspace(Path(workspace)) as opened:
        now = deployment(opened)
        if to is None and (now.canary or now.shadow):
            withdrawn(opened, expected=now.generation, note=note)
        else:
            rolled_back(opened, to=to, expected=now.generation, note=note)
        return _state_report(opened)


def journal(workspace: str | Path, *, last: int = SHOWN) -> Report:
    """What is live, and the `last` changes, the newest first."""
    with open_workspace(Path(workspace), read_only=True) as opened:
        return _state_report(opened, last=last)


def review(workspace: str | Path, *, last: int = SHOWN) -> Report:
    """The first `last` images that wait for a person (kind `review`); see `workspace.review`."""
    with open_workspace(Path(workspace), read_only=True) as opened:
        found = review_queue(opened, last + 1)
    items = found[:last]
    columns = ("image", "reason", "answer", "probability", "said", "request", "time")
    rows = tuple(
        (one.image_sha256, one.reason, *_best(one.event), ", ".join(one.said), one.event.request_id, one.event.time)
        for one in items
    )
    summary = [f"{_waiting(len(items), more=len(found) > last)} for a person."]
    tables = {"review": Table(columns=columns, rows=rows)}
    return Report(kind="review", subject=str(workspace), tables=tables, body={"summary": summary})


def _waiting(shown: int, *, more: bool) -> str:
    if shown == 0 and not more:
        return "No image waits"
    return f"{'More than ' if more else ''}{shown} {'image waits' if shown == 1 else 'images wait'}"


def _best(event: Event) -> tuple[str, float]:
    label, probability = event.top[0]
    return label, round(probability, 4)


def tend(
    workspace: str | Path,
    *,
    settings: dict[str, Any] | None = None,
    keep: str | None = None,
    release: str | None = None,
    tidy: bool = False,
) -> Report:
    """Change limits, pin (`keep`) or unpin (`release`) a bundle, and with `tidy` remove what the limits leave no room
    for. Returns what is kept (kind `workspace`). Raises InputError for an unknown or wrong setting."""
    with open_workspace(Path(workspace)) as opened:
        if settings:
            opened = change_settings(opened, _changed(opened.settings, settings))
        if keep is not None:
            pin(opened, keep)
        if release is not None:
            pin(opened, release, keep=False)
        gone = {"bundles": 0, "images": 0, "events": 0}
        if tidy:
            gone = {"bundles": len(clear(opened)), "images": clear_images(opened), "events": forget_events(opened)}
        return _kept_report(opened, gone)


def _changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    for name in changes:
        if name not in Settings.model_fields or name == "format":
            known = [key for key in Settings.model_fields if key != "format"]
            raise InputError("no such setting of a workspace", received=name, hint=nearest(name, known))
    try:
        return Settings.model_validate({**settings.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(str(first["msg"]), where=str(first["loc"][0]), received=str(first["input"])) from error


def _state_report(workspace: Workspace, *, last: int = SHOWN) -> Report:
    now = deployment(workspace)
    entries = entries_of(workspace, last=last)
    columns = ("generation", "time", "action", "bundle", "live", "beside", "by", "note")
    roles = {"live": now.live, "canary": now.canary, "canary_share": now.canary_share, "shadow": now.shadow}
    return Report(
        kind="deployment",
        subject=str(workspace.path),
        metrics={"generation": Metric(value=float(now.generation))},
        tables={"journal": Table(columns=columns, rows=tuple(_row(entry) for entry in entries))},
        body={"summary": _sentences(now), **roles},
        paths={} if now.live is None else {"live": str(workspace.path / BUNDLES / now.live)},
    )


def _row(entry: Entry) -> tuple[int | str | None, ...]:
    state = entry.state
    return (
        state.generation,
        entry.time[:19].replace("T", " "),
        entry.action,
        _short(entry.bundle),
        _short(state.live),
        _beside(state),
        entry.by,
        entry.note,
    )


def _sentences(now: Deployment) -> list[str]:
    if now.live is None:
        return ["Nothing is live."]
    found = [f"live: {_short(now.live)}"]
    if now.canary is not None:
        found.append(f"canary: {_short(now.canary)}, {100 * (now.canary_share or 0):g} % of the requests")
    if now.shadow is not None:
        found.append(f"shadow: {_short(now.shadow)}, asked everything, answers nobody")
    return found


def _beside(state: Deployment) -> str | None:
    parts = []
    if state.canary is not None:
        parts.append(f"canary {_short(state.canary)} {100 * (state.canary_share or 0):g} %")
    if state.shadow is not None:
        parts.append(f"shadow {_short(state.shadow)}")
    return ", ".join(parts) or None


def _short(identity: str | None) -> str | None:
    return None if identity is None else identity[:12]


def _kept_report(workspace: Workspace, gone: dict[str, int]) -> Report:
    bundles = stored_ids(workspace)
    numbers = {
        "bundles": len(bundles),
        "bundles_mb": size_bytes(workspace.path / BUNDLES) / 1e6,
        "events": count_events(workspace),
        "feedback": len(statements(workspace)),
        "images_in_dispute": len(disputed_images(workspace)),
        "images_mb": used_bytes(workspace) / 1e6,
        **{f"removed_{name}": count for name, count in gone.items()},
    }
    return Report(
        kind="workspace",
        subject=str(workspace.path),
        metrics={name: Metric(value=float(value)) for name, value in numbers.items()},
        body={"settings": workspace.settings.model_dump(mode="json"), "bundles": bundles},
    )
