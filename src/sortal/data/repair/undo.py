"""A repair taken back: every step in reverse, after a look at whether what it left is still what it left.

Nothing is overwritten: what was changed, moved or put in an image's place since the repair stays as it is, is reported,
and the rest is restored, with names, content, permissions and times of files and folders.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sortal.core.errors import InputError
from sortal.core.progress import Listener
from sortal.core.publish import machine_error
from sortal.data.repair.apply import folder_times, remove_empty
from sortal.data.repair.journal import PHASES, Journal, Pen, Step, after, commands, in_phases, journals, renamed_folders
from sortal.data.repair.moves import fingerprint, flush, move, move_folder, put, remove_partial


@dataclass(frozen=True, kw_only=True)
class Undone:
    """What an undo did, or would do: how many steps, and what stays as it is, with the reason."""

    restored: int
    kept: tuple[tuple[str, str], ...]


class _Kept(Exception):  # noqa: N818  no error: something that is left as it is
    def __init__(self, place: str, reason: str):
        super().__init__(place)
        self.place, self.reason = place, reason


def check(journal: Journal) -> None:
    """Raise InputError where `journal` cannot be undone now: it was already, or a later repair stands on it."""
    if not journal.stands:
        raise InputError(f"this repair is {journal.state}; there is nothing to undo", where=str(journal.folder))
    later = [found for found in journals(journal.root) if found.stands and found.id > journal.id]
    if later:
        hint = f"undo it first: {commands(later[-1])[1]}"
        raise InputError("a later repair stands on this one", where=str(later[-1].folder), hint=hint)


def look(journal: Journal) -> Undone:
    """What `take_back` would do now, without doing it."""
    check(journal)
    kept, restored = [], 0
    for number in reversed(_pending(journal)):
        step = journal.steps[number]
        try:
            if step.do in ("move", "write"):
                restored += _look(journal, step)
            elif step.do == "rename_folder":
                restored += (journal.root / step.to).is_dir()
        except _Kept as found:
            kept.append((found.place, found.reason))
    return Undone(restored=restored, kept=tuple(kept))


def take_back(journal: Journal, listener: Listener) -> Undone:
    """Undo all that can be undone. The caller holds the lock. Raises MachineError where the system refuses: what was
    restored until then stays so, and the next undo goes on from there."""
    check(journal)
    earlier = journal.last("undo")  # whose own doing is not taken for somebody else's
    touched = set(earlier["touched"]) if earlier else _touched_since(journal)
    kept: list[tuple[str, str]] = []
    restored, pending = 0, set(_pending(journal))
    phases = in_phases(journal.steps)
    with Pen(journal) as pen:
        pen.event("undo", touched=sorted(touched))
        for phase in reversed(PHASES):
            before = len(kept)
            numbers = [number for number in reversed(phases[phase]) if number in pending]
            for number in numbers:
                try:
                    restored += _guarded(journal, journal.steps[number])
                    pen.done(number, "undone")
                except _Kept as found:
                    kept.append((found.place, found.reason))
                listener.progress("undoing", restored, len(pending))
            flush(_folders(journal, numbers))
            if len(kept) == before:
                pen.event("unphase", name=phase)
        _restore_times(journal, touched)
        pen.event("undone", kept=[list(pair) for pair in kept])
    return Undone(restored=restored, kept=tuple(kept))


def _pending(journal: Journal) -> list[int]:
    """The steps that may have been taken and were not undone."""
    complete, undone = journal.reached("phase"), journal.reached("unphase")
    begun = next((phase for phase in PHASES if phase not in complete), PHASES[-1])
    reached = {*complete, begun} - undone
    return [number for number, step in enumerate(journal.steps) if step.do in reached]


def _guarded(journal: Journal, step: Step) -> bool:
    try:
        return _take(journal, step)
    except FileExistsError as error:
        raise _Kept(step.path, "something else has taken its place since") from error
    except OSError as error:
        named = machine_error(error, journal.root / step.path)
        hint = f"then undo again: {commands(journal)[1]}"
        named.hint = f"{named.hint}; {hint}" if named.hint else hint
        raise named from error


def _take(journal: Journal, step: Step) -> bool:
    path, to = journal.root / step.path, journal.root / step.to
    if step.do == "remove_folder":
        return _make_again(path, step)
    if step.do == "rename_folder":
        return _rename_back(path, to, step)
    if step.do == "move":
        return _move_back(path, to, step)
    if step.do == "write":
        return _write_back(journal, path, step)
    if not remove_empty(path) and not step.path.startswith("."):
        raise _Kept(step.path, "this folder was made by the repair and is not empty")
    return False


def _make_again(path: Path, step: Step) -> bool:
    if not os.path.lexists(path):
        path.mkdir(parents=True)
        path.chmod(step.mode)
    return False  # no image came back by it


def _rename_back(path: Path, to: Path, step: Step) -> bool:
    if not os.path.lexists(to):
        if os.path.lexists(path):
            return False
        raise _Kept(step.to, "this folder is gone since the repair")
    taken = move_folder(to, path)
    if taken:
        raise _Kept(step.to, f"{len(taken)} files in it stay: something else has taken their places since")
    return True


def _move_back(path: Path, to: Path, step: Step) -> bool:
    remove_partial(path)
    remove_partial(to)
    if not _needed(path, to, step, step.to):
        return False
    if os.path.lexists(path):  # the copy that a repair across file systems left when it was killed
        to.unlink()
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    move(to, path)
    return True


def _needed(path: Path, to: Path, step: Step, shown: str) -> bool:
    """Whether an image has to be moved back; raises _Kept where it may not be."""
    here, there = os.path.lexists(path), os.path.lexists(to)
    if not there:
        if here:
            return False
        raise _Kept(shown, "this file is gone since the repair")
    if fingerprint(to) != step.digest:
        raise _Kept(shown, "this file was changed since the repair; it is left where it is")
    if here and fingerprint(path) != step.digest:
        raise _Kept(step.path, "another file has taken its place since")
    return True


def _write_back(journal: Journal, path: Path, step: Step) -> bool:
    remove_partial(path)
    if not _edited(path, step):
        return False
    put(journal.stored(step, "old"), path)
    return True


def _edited(path: Path, step: Step) -> bool:
    now = fingerprint(path) if os.path.lexists(path) else step.digest
    if now not in (step.digest, step.old):
        raise _Kept(step.path, "this file was changed since the repair; it is left as it is")
    return now == step.digest


def _look(journal: Journal, step: Step) -> bool:
    """For a dry run: folders may still have the names that the repair gave them."""
    if step.do == "write":
        return _edited(journal.root / step.path, step)
    renamed = "rename_folder" in journal.reached("phase") - journal.reached("unphase")
    renames = renamed_folders(journal.steps) if renamed else {}
    path, to = (after(place, renames) for place in (step.path, step.to))
    return _needed(journal.root / path, journal.root / to, step, to)


def _touched_since(journal: Journal) -> set[str]:
    """Folders in which something was added or removed after the repair; their times are not set back."""
    then: Mapping[str, int] = journal.last("applied").get("folders", {})
    now = folder_times(journal)
    return {folder for folder, time_ns in then.items() if folder in now and now[folder] != time_ns}


def _restore_times(journal: Journal, touched: set[str]) -> None:
    for folder, time_ns in sorted(journal.head["folders"].items(), reverse=True):
        if folder not in touched:
            with suppress(OSError):
                path = journal.root / folder
                os.utime(path, ns=(path.stat().st_atime_ns, time_ns))


def _folders(journal: Journal, numbers: list[int]) -> set[Path]:
    steps = [journal.steps[number] for number in numbers]
    return {(journal.root / place).parent for step in steps for place in (step.path, step.to) if place}
