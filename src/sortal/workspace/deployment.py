"""Which bundle answers: the journal of a workspace, whose last entry is the state.

One table is both history and pointer, so the two cannot disagree, and one commit moves it. Readers see the state
before or after, never between; `Workspace.database.version` tells them cheaply that something changed.

Going back goes back in time: to the bundle that was live before the current one came, and from there further. A bundle
that was rolled back from is not returned to unless it is promoted again, because it was left for a reason.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from sortal.core.bundle import Bundle
from sortal.core.errors import BundleError, ConflictError, InputError, MachineError, NotFoundError
from sortal.workspace.bundles import add_bundle, full_id, set_aside, stored_bundle, stored_ids, sweep_bundles
from sortal.workspace.folder import BUNDLES, Workspace

Action = Literal["promote", "canary", "shadow", "withdraw", "rollback"]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Who answers. Bundles are ids; `generation` counts changes from 1, and is 0 where nothing was ever promoted."""

    generation: int = 0
    live: str | None = None
    canary: str | None = None
    canary_share: float | None = None
    """Of the requests, above 0 and below 1, that the canary answers."""
    shadow: str | None = None
    """Is asked everything and answers nobody."""

    @property
    def bundles(self) -> tuple[str, ...]:
        """All that are in use."""
        return tuple(one for one in (self.live, self.canary, self.shadow) if one is not None)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the journal: what was done, and the state it led to."""

    time: str
    """UTC, ISO 8601."""
    action: Action
    bundle: str | None
    state: Deployment
    by: str
    note: str


def deployment(workspace: Workspace) -> Deployment:
    """The state now."""
    row = workspace.database.one(f"select {_STATE} from deployments order by generation desc limit 1")
    return Deployment() if row is None else _state(row)


def journal(workspace: Workspace, *, last: int | None = None) -> list[Entry]:
    """All entries, or the `last` so many, the newest first."""
    rows = workspace.database.all(
        f"select time, action, bundle, by, note, {_STATE} from deployments order by generation desc limit ?",
        (-1 if last is None else last,),
    )
    return [
        Entry(time=row[0], action=row[1], bundle=row[2], by=row[3], note=row[4], state=_state(row[5:])) for row in rows
    ]


def promote(
    workspace: Workspace,
    bundle: Bundle,
    *,
    canary: float | None = None,
    shadow: bool = False,
    other_classes: bool = False,
    expected: int | None = None,
    by: str | None = None,
    note: str = "",
) -> Deployment:
    """Copy `bundle` into the workspace and make it live; or canary with a share of requests; or shadow.

    Making a bundle live ends its own canary or shadow, and those of others too: they were held against another one.
    Raises InputError where the share is not between 0 and 1, nothing is live to stand beside, nothing of the bundle
    can be run, or its classes are not those of the live one (unless `other_classes`); ConflictError where `expected`
    is not the generation that the workspace is at.
    """
    if canary is not None and not 0.0 < canary < 1.0:
        raise InputError("a canary's share is above 0 and below 1", received=f"{canary:g}", hint="--canary 10%")
    if canary is not None and shadow:
        raise InputError("either a canary or a shadow", hint="leave one of the two away")
    if not bundle.artifacts():
        raise InputError(
            "the bundle has nothing that can be run", where=str(bundle.path), hint="sortal export RUN --to onnx"
        )
    _check_classes(workspace, bundle, allowed=other_classes)
    action: Action = "canary" if canary is not None else "shadow" if shadow else "promote"
    for _ in range(3):
        stored = add_bundle(workspace, bundle)
        with workspace.database.change() as transaction:
            if not (workspace.path / BUNDLES / stored.id).is_dir():
                continue  # cleared away between the copy and here
            now = _at(workspace, expected)
            state = _promoted(now, stored.id, canary, shadow=shadow)
            return _write(transaction, state, action, stored.id, by, note)
    raise ConflictError("the bundle was cleared away again and again", where=str(workspace.path))


def withdraw(workspace: Workspace, *, expected: int | None = None, by: str | None = None, note: str = "") -> Deployment:
    """End canary and shadow; the live bundle stays. Raises InputError where there is neither."""
    with workspace.database.change() as transaction:
        now = _at(workspace, expected)
        beside = now.canary or now.shadow
        if beside is None:
            raise InputError("there is neither a canary nor a shadow", where=str(workspace.path))
        state = replace(now, canary=None, canary_share=None, shadow=None)
        return _write(transaction, state, "withdraw", beside, by, note)


def rollback(
    workspace: Workspace, *, to: str | None = None, expected: int | None = None, by: str | None = None, note: str = ""
) -> Deployment:
    """Make the bundle live that was so before the current one, or the one named by `to`; canary and shadow end.

    Raises NotFoundError where there is nothing to go back to, or it is not kept any more.
    """
    with workspace.database.change() as transaction:
        now = _at(workspace, expected)
        target = full_id(workspace, to) if to is not None else _before(workspace, now)
        if target == now.live:
            raise InputError("this bundle is live already", where=str(workspace.path), received=target[:12])
        if target not in stored_ids(workspace):
            raise NotFoundError(
                "the bundle to go back to is not kept any more", where=str(workspace.path), received=target
            )
        stored_bundle(workspace, target)
        state = replace(now, live=target, canary=None, canary_share=None, shadow=None)
        return _write(transaction, state, "rollback", target, by, note)


def pin(workspace: Workspace, name: str, *, keep: bool = True) -> str:
    """Keep a bundle for ever, or no longer; returns its id."""
    identity = full_id(workspace, name)
    with workspace.database.change() as transaction:
        statement = "insert or ignore into pins values (?)" if keep else "delete from pins where bundle = ?"
        transaction.execute(statement, (identity,))
    return identity


def clear(workspace: Workspace) -> list[str]:
    """Remove bundles that nothing needs: neither in use nor pinned nor among the last live ones. Returns their ids."""
    with workspace.database.change():
        needed = set(deployment(workspace).bundles) | {
            row[0] for row in workspace.database.all("select bundle from pins")
        }
        lives = dict.fromkeys(entry.state.live for entry in journal(workspace) if entry.state.live)
        needed |= set(list(lives)[: workspace.settings.bundles])
        removed = set_aside(workspace, needed)
    sweep_bundles(workspace)
    return removed


_STATE = "generation, live, canary, canary_share, shadow"


def _state(row: tuple[Any, ...]) -> Deployment:
    return Deployment(generation=row[0], live=row[1], canary=row[2], canary_share=row[3], shadow=row[4])


def _at(workspace: Workspace, expected: int | None) -> Deployment:
    now = deployment(workspace)
    if expected is not None and now.generation != expected:
        raise ConflictError(
            "the workspace has changed meanwhile",
            where=str(workspace.path),
            received=f"generation {now.generation}, expected {expected}",
            hint=f"look first: sortal journal {workspace.path}",
        )
    return now


def _promoted(now: Deployment, bundle: str, canary: float | None, *, shadow: bool) -> Deployment:
    if canary is None and not shadow:
        if bundle == now.live and not (now.canary or now.shadow):
            raise InputError("this bundle is live already", received=bundle[:12])
        return Deployment(generation=now.generation, live=bundle)
    if now.live is None:
        raise InputError(
            "nothing is live yet that it could stand beside", hint="promote a bundle without --canary first"
        )
    if bundle == now.live:
        raise InputError("this bundle is live already", received=bundle[:12])
    if shadow:
        return replace(now, shadow=bundle)
    return replace(now, canary=bundle, canary_share=canary)


def _write(transaction: Any, state: Deployment, action: Action, bundle: str, by: str | None, note: str) -> Deployment:
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    cursor = transaction.execute(
        "insert into deployments (time, action, bundle, live, canary, canary_share, shadow, by, note) "
        "values (?, ?, ?, ?, ?, ?, ?, ?, ?) returning generation",
        (time, action, bundle, state.live, state.canary, state.canary_share, state.shadow, by or _person(), note),
    )
    return replace(state, generation=next(iter(cursor))[0])


def _before(workspace: Workspace, now: Deployment) -> str:
    """The live bundle before the current one; of each return, what was left for it is skipped."""
    if now.live is None:
        raise NotFoundError("nothing is live", where=str(workspace.path), hint="promote a bundle first")
    past: list[str] = []
    for entry in reversed(journal(workspace)):
        live = entry.state.live
        if live is None or (past and live == past[-1]):
            continue
        if entry.action == "rollback" and live in past:
            while past[-1] != live:
                past.pop()
        else:
            past.append(live)
    if len(past) < 2:
        hint = "sortal journal WORKSPACE   lists what was live"
        raise NotFoundError("nothing was live before", where=str(workspace.path), hint=hint)
    return past[-2]


def _check_classes(workspace: Workspace, bundle: Bundle, *, allowed: bool) -> None:
    live = deployment(workspace).live
    if live is None or allowed:
        return
    try:
        theirs = stored_bundle(workspace, live).labels.names
    except (BundleError, MachineError, NotFoundError):
        if deployment(workspace).live == live:
            raise
        _check_classes(workspace, bundle, allowed=allowed)  # another one is live now, and this one was cleared away
        return
    own = bundle.labels.names
    if own == theirs:
        return
    gone, new = [n for n in theirs if n not in own], [n for n in own if n not in theirs]
    told = "; ".join(f"{word} {', '.join(names[:5])}" for word, names in (("without", gone), ("with", new)) if names)
    raise InputError(
        "its classes are not those of the live bundle",
        where=str(bundle.path),
        received=told or "the same in another order",
        hint="where that is meant: --other-classes",
    )


def _person() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user, as in many containers
        return "unknown"
