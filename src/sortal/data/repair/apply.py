"""The steps of a repair, taken forward: from the beginning, or from where a repair was broken off.

What the system refuses (a full disk, a missing permission) ends the repair there; the journal says where. Everything
that was moved until then stays moved until somebody goes on or undoes it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from sortal.core.errors import DataError, InputError, MachineError, SortalError
from sortal.core.progress import Listener
from sortal.core.publish import machine_error
from sortal.data.repair.journal import PHASES, Journal, Pen, Step, after, commands, in_phases, read, renamed_folders
from sortal.data.repair.moves import fingerprint, flush, move, move_folder, put, remove_partial


def carry_out(journal: Journal, listener: Listener) -> Journal:
    """Take every step that is not taken yet. The caller holds the lock.

    Raises MachineError where the system refuses, DataError where somebody else changed what is to be moved; both say
    how to go on. Raises InputError for a repair that is complete or was undone.
    """
    if journal.state not in ("not begun", "broken off"):
        raise InputError(f"this repair is {journal.state}; there is nothing to go on with", where=str(journal.folder))
    resumed = journal.state == "broken off"
    complete = journal.reached("phase")
    done, phases = 0, in_phases(journal.steps)
    with Pen(journal) as pen:
        pen.event("apply")
        for phase in PHASES:
            if phase not in complete:
                for number in phases[phase]:
                    _guarded(journal, number, pen, resumed=resumed)
                    done += 1
                    listener.progress("repairing", done, len(journal.steps))
                flush(_folders(journal, phases[phase]))
                pen.event("phase", name=phase)
        pen.event("applied", folders=folder_times(journal))
    return read(journal.folder)


def folder_times(journal: Journal) -> dict[str, int]:
    """The times (ns) of the folders that the repair touched, under the names they have after it."""
    found, renames = {}, renamed_folders(journal.steps)
    for folder in journal.head["folders"]:
        with suppress(OSError):
            found[folder] = (journal.root / after(folder, renames)).stat().st_mtime_ns
    return found


def _guarded(journal: Journal, number: int, pen: Pen, *, resumed: bool) -> None:
    step = journal.steps[number]
    try:
        _take(journal, step, resumed=resumed)
        pen.done(number)
    except (OSError, SortalError) as error:
        with suppress(SortalError):
            pen.event("stopped", step=number, reason=str(error))
        raise _stopped(journal, step, number, error) from error


def _stopped(journal: Journal, step: Step, number: int, error: OSError | SortalError) -> SortalError:
    named = machine_error(error, journal.root / step.path) if isinstance(error, OSError) else error
    kind = MachineError if isinstance(named, MachineError) else DataError
    onward, back = commands(journal)
    hints = [*([named.hint] if named.hint else []), f"then go on: {onward}    or take it back: {back}"]
    return kind(
        f"the repair stopped at step {number + 1} of {len(journal.steps)}: {named.what}",
        where=named.where,
        hint="; ".join(hints),
    )


def _take(journal: Journal, step: Step, *, resumed: bool) -> None:
    path = journal.root / step.path
    if step.do == "make_folder":
        path.mkdir(exist_ok=True)
    elif step.do == "move":
        _move(path, journal.root / step.to, step, resumed=resumed)
    elif step.do == "rename_folder":
        _rename(path, journal.root / step.to, resumed=resumed)
    elif step.do == "write":
        _write(journal, step, path)
    else:
        remove_empty(path)


def _move(source: Path, target: Path, step: Step, *, resumed: bool) -> None:
    if resumed:
        remove_partial(target)
        if os.path.lexists(target):
            if not os.path.lexists(source):
                return
            if fingerprint(target) == fingerprint(source) == step.digest:  # a copy whose original was still there
                source.unlink()
                return
    try:
        move(source, target)
    except FileExistsError as error:
        raise DataError("something has been put in this place meanwhile", where=str(target)) from error
    except FileNotFoundError as error:
        raise DataError("this file is gone", where=str(source)) from error


def _rename(source: Path, target: Path, *, resumed: bool) -> None:
    if resumed and os.path.lexists(target) and not os.path.lexists(source):
        return
    if not resumed and os.path.lexists(target) and not target.samefile(source):
        raise DataError("something has been put in this place meanwhile", where=str(target))
    taken = move_folder(source, target)
    if taken:
        raise DataError("something else is in the place of this file", where=str(taken[0]))


def _write(journal: Journal, step: Step, path: Path) -> None:
    now = fingerprint(path)
    if now == step.digest:
        return
    if now != step.old:
        raise DataError("this file was changed meanwhile", where=str(path))
    put(journal.stored(step, "new"), path)


def remove_empty(folder: Path) -> bool:
    """Remove a folder if nothing is in it; whether it is gone."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _folders(journal: Journal, numbers: list[int]) -> set[Path]:
    places = [place for number in numbers for place in (journal.steps[number].path, journal.steps[number].to) if place]
    return {(journal.root / place).parent for place in places}
