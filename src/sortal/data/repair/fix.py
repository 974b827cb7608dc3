"""Repairs from beginning to end: what a plan would do to a data set, doing it, going on, taking it back.

Class folders are repaired by moving images, tables, manifests and lists by editing their rows. Archives and arrays
cannot be changed in place: they have to be converted first.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from sortal.core.errors import DataError, InputError
from sortal.core.progress import Listener, Silent
from sortal.core.publish import disk_errors
from sortal.data.formats import FORMATS
from sortal.data.formats.folders import CLASS_LISTS
from sortal.data.open import images
from sortal.data.repair import apply, undo
from sortal.data.repair.folders import folder_script
from sortal.data.repair.journal import Journal, Script, commands, create, find, journals, locked, new_id, root_of
from sortal.data.repair.plan import Located
from sortal.data.repair.resolve import Changes, resolve
from sortal.data.repair.rows import list_script, manifest_script, table_script
from sortal.data.repair.undo import Undone
from sortal.data.table import ImageTable

Editor = Callable[[Path, ImageTable, Changes, str], Script]
FOLDERS = ("folders", "imagenet")
EDITORS: dict[str, Editor] = {"table": table_script, "manifest": manifest_script, "list": list_script}
"""Formats whose labels are in a file, and what edits it: (path, table, changes, label column) -> Script."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a plan would do to a source: nothing of it is done."""

    source: Path
    name: str
    located: Located
    table: ImageTable
    changes: Changes
    script: Script
    notes: tuple[str, ...]


def preview(source: Path, located: Located, *, label: str = "label", skip_changed: bool = False) -> Preview:
    """Hold a plan against the images as they are now. Reads the images that the plan names, writes nothing.

    Raises DataError for a source that cannot be changed in place, and with all entries that cannot be done.
    """
    name = new_id()
    with disk_errors(source):
        kind = _format(source)
        table = images(source, label=label)
        changes = resolve(located, table, skip_changed=skip_changed)
        script = _script(kind, source, table, changes, name, label) if changes else Script(steps=())
        notes = (*_notes(located, table), *_link_notes(table, script))
    return Preview(source=source, name=name, located=located, table=table, changes=changes, script=script, notes=notes)


def repair(
    source: Path,
    located: Located,
    *,
    label: str = "label",
    skip_changed: bool = False,
    listener: Listener | None = None,
) -> tuple[Preview, Journal | None]:
    """Carry a plan out and keep a journal of it; None where there is nothing to do.

    Raises what `preview` raises, before anything is changed; InputError where a repair that was broken off waits;
    MachineError where another process is repairing the same images, or the system refuses on the way.
    """
    root = root_of(source)
    known = [journal.id for journal in journals(root)]
    refuse_unfinished(root)
    seen = preview(source, located, label=label, skip_changed=skip_changed)
    if not seen.script.steps:
        return seen, None
    before_ns = root.stat().st_mtime_ns  # the lock may make a folder in it
    with _alone(root):
        refuse_unfinished(root)
        if known != [journal.id for journal in journals(root)]:  # another repair came in between
            seen = preview(source, located, label=label, skip_changed=skip_changed)
        script = replace(seen.script, folders={**seen.script.folders, ".": before_ns})
        journal = create(root, seen.name, str(source), script, located.plan.to_yaml(), sortal=version("sortal"))
        return seen, apply.carry_out(journal, listener or Silent())


def resume(source: Path, *, listener: Listener | None = None) -> Journal:
    """Go on with a repair that was broken off. Raises InputError where there is none."""
    root = root_of(source)
    if not _broken_off(root):
        raise InputError("no repair was broken off here", where=str(source))
    with _alone(root):
        return apply.carry_out(_broken_off(root)[-1], listener or Silent())


def take_back(where: Path, *, do: bool, listener: Listener | None = None) -> tuple[Journal, Undone]:
    """Undo a repair: a journal, its folder, or the newest one of a data set that stands; only look without `do`.

    Raises InputError where there is nothing to undo, or a later repair has to be undone first.
    """
    journal = find(where)
    if not do:
        return journal, undo.look(journal)
    with _alone(journal.root):
        return journal, undo.take_back(find(journal.folder), listener or Silent())


def refuse_unfinished(root: Path) -> None:
    """Raise InputError where a repair or an undo was broken off: it has to be brought to an end first."""
    for journal in journals(root):
        if journal.state in ("broken off", "undo broken off"):
            onward, back = commands(journal)
            hint = f"go on: {onward}    or take it back: {back}"
            if journal.state == "undo broken off":
                hint = f"finish it: {back}"
            raise InputError(f"a repair waits here that is {journal.state}", where=str(journal.folder), hint=hint)


def _broken_off(root: Path) -> list[Journal]:
    return [journal for journal in journals(root) if journal.state == "broken off"]


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Nobody else repairs `root` meanwhile; what the system refuses is a MachineError."""
    lock = locked(root)
    try:
        with disk_errors(root):
            yield
    finally:
        lock.release()


def _script(kind: str, source: Path, table: ImageTable, changes: Changes, name: str, label: str) -> Script:
    if kind in EDITORS:
        return EDITORS[kind](source, table, changes, label)
    new = set(changes.relabel.values()) - set(table.labels.names)
    if kind == "imagenet" and (changes.classes or new):
        raise DataError(
            "the classes of this layout are fixed by its synset map", where=str(source), hint="relabel into its classes"
        )
    ordered = kind == "folders" and any((source / entry).is_file() for entry in CLASS_LISTS)
    return folder_script(table, changes, name, ordered=ordered)


def _format(source: Path) -> str:
    """The name of the source's format. Raises DataError where it cannot be changed in place."""
    own = set(FORMATS.table)
    names = sorted(FORMATS.names(), key=lambda known: known in own)
    found = next((name for name in names if source.exists() and FORMATS.get(name).sniff(source)), None)
    if found is not None and (found in EDITORS or (found in FOLDERS and source.is_dir())):
        return found
    if found is None:
        images(source)  # says what is wrong with it
    again = f"sortal convert {shlex.quote(str(source))} --to folder --out NEW --copy"
    raise DataError(
        "images of this kind cannot be repaired in place",
        where=str(source),
        received=f"format {found}",
        hint=f"make class folders of them first: {again}",
    )


def _notes(located: Located, table: ImageTable) -> Iterator[str]:
    asked = located.plan.listing_digest
    if asked is not None and asked != table.listing_digest:
        yield "names or labels of the data set changed since the plan was made; what the plan names was checked"


def _link_notes(table: ImageTable, script: Script) -> Iterator[str]:
    """Links do not follow what they lead to."""
    root = table.root or Path()
    own = {step.path for step in script.steps if step.do == "move"}
    moved = {os.path.realpath(root / path) for path in own if not os.path.islink(root / path)}  # noqa: PTH114
    if not moved:
        return
    links = [uri for uri in table.frame["uri"].unique() if os.path.islink(root / uri)]  # noqa: PTH114  a million times
    lost = sorted(uri for uri in links if uri not in own and os.path.realpath(root / uri) in moved)
    if lost:
        yield f"{len(lost)} links lead to images that are moved and will lead nowhere: {', '.join(lost[:3])}"
