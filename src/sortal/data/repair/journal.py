"""The journal of a repair: all steps are on the disk before the first of them is taken, and what was done is added.

A repair lives in `<data set>/.sortal/repairs/<id>/`: `journal.jsonl`, the plan, and the old and new text of files that
are edited. The folder appears as a whole. The first line of the journal is its head, one line a step follows, then
events are appended. Steps come in phases, and inside a phase none depends on another: so after a crash every step of
the phase under way is seen to be done or not by looking at the disk, and earlier phases are known to be complete.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from sortal.core.errors import DataError, InputError
from sortal.core.lock import Lock, hold
from sortal.core.publish import disk_errors, publish_folder

HOME = ".sortal"
NAME = "journal.jsonl"
Do = Literal["make_folder", "move", "rename_folder", "write", "remove_folder"]
PHASES: tuple[Do, ...] = ("make_folder", "move", "rename_folder", "write", "remove_folder")
State = Literal["not begun", "broken off", "applied", "undo broken off", "partly undone", "undone"]
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing done; paths are relative to the data set, POSIX."""

    do: Do
    path: str
    to: str = ""
    """Where a file or folder is moved to."""
    digest: str = ""
    """Fingerprint of what is moved, or of the new text."""
    old: str = ""
    """Fingerprint of the text that is replaced."""
    mode: int = 0
    """Permissions of a folder that is removed."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """All that a repair will do: steps in the order of their phases, texts by the path of their `write` steps (old,
    new), and the times (ns) of the folders that it touches."""

    steps: tuple[Step, ...]
    texts: Mapping[str, tuple[bytes, bytes]] = field(default_factory=dict)
    folders: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Journal:
    """A repair as its folder tells it."""

    folder: Path
    head: Mapping[str, Any]
    steps: tuple[Step, ...]
    events: tuple[Mapping[str, Any], ...]

    @property
    def id(self) -> str:
        """The time it was made, and a few letters."""
        return self.folder.name

    @property
    def root(self) -> Path:
        """The data set. Taken from where the journal lies, so a data set that was moved can be undone."""
        return self.folder.parents[2]

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / NAME

    @property
    def state(self) -> State:
        """How far it is."""
        state: State = "not begun"
        for event in self.events:
            name = event.get("event")
            if name == "apply":
                state = "broken off"
            elif name == "applied":
                state = "applied"
            elif name == "undo":
                state = "undo broken off"
            elif name == "undone":
                state = "partly undone" if event.get("kept") else "undone"
        return state

    @property
    def stands(self) -> bool:
        """Whether anything that it did may still be there."""
        return self.state not in ("not begun", "undone")

    def reached(self, event: Literal["phase", "unphase"]) -> set[str]:
        """The phases that were completed, or with `unphase` those that were undone with nothing left over."""
        return {str(found["name"]) for found in self.events if found.get("event") == event}

    def last(self, event: str) -> Mapping[str, Any]:
        """The last event of a name; empty where there is none."""
        return next((found for found in reversed(self.events) if found.get("event") == event), {})

    def stored(self, step: Step, which: Literal["old", "new"]) -> Path:
        """Where a text of a `write` step is kept."""
        return self.folder / which / str(self.texts.index(step.path))

    @property
    def texts(self) -> list[str]:
        """The paths that are written, in the order of their stored texts."""
        return [step.path for step in self.steps if step.do == "write"]


def new_id() -> str:
    """A name for a repair: the time (UTC) to the millisecond and a few letters, so that later ones sort behind."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}-{secrets.token_hex(2)}"


def create(root: Path, name: str, source: str, script: Script, plan_text: str, *, sortal: str) -> Journal:
    """Put a new repair on the disk, every step of it, before any is taken."""
    head = {
        "format": _FORMAT,
        "id": name,
        "time": _now(),
        "source": source,
        "sortal": sortal,
        "steps": len(script.steps),
        "folders": dict(script.folders),
    }
    lines = [head, *(_row(step) for step in script.steps)]

    def write(folder: Path) -> None:
        (folder / NAME).write_bytes(b"".join(_line(line) for line in lines))
        (folder / "plan.yaml").write_text(plan_text, encoding="utf-8", errors="backslashreplace")
        _store(folder, root, script)

    folder = publish_folder(repairs(root) / name, write)
    return read(folder)


def read(folder: Path) -> Journal:
    """The journal in a repair's folder. Raises DataError when it is none; a line cut off by a crash is left out."""
    path = folder / NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError("there is no journal of a repair", where=str(folder)) from error
    with disk_errors(path):
        lines = [parsed for line in raw.split(b"\n") if (parsed := _parsed(line)) is not None]
    head = lines[0] if lines else {}
    if head.get("format") != _FORMAT or len(lines) <= head.get("steps", 0):
        raise DataError("not the journal of a repair, or of another version", where=str(path))
    rows, events = lines[1 : head["steps"] + 1], lines[head["steps"] + 1 :]
    try:
        steps = tuple(Step(**row) for row in rows)
    except TypeError as error:
        raise DataError("a damaged journal", where=str(path)) from error
    if any(not _below(place) for step in steps for place in (step.path, step.to)):
        raise DataError("this journal names places outside the data set", where=str(path))
    return Journal(folder=folder, head=head, steps=steps, events=tuple(events))


class Pen:
    """Adds lines to a journal while it is open; a context manager."""

    def __init__(self, journal: Journal):
        self._path = journal.path
        self._descriptor = -1

    def __enter__(self) -> Self:
        with disk_errors(self._path):
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0))
            size = os.lseek(self._descriptor, 0, os.SEEK_END)
            os.lseek(self._descriptor, max(size - 1, 0), os.SEEK_SET)
            if os.read(self._descriptor, 1) != b"\n":  # the last line was cut off by a crash
                os.write(self._descriptor, b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def event(self, kind: str, **more: Any) -> None:
        """Something that what follows builds on: it is on the disk before this returns."""
        with disk_errors(self._path):
            os.write(self._descriptor, _line({"event": kind, "time": _now(), **more}))
            os.fsync(self._descriptor)

    def done(self, step: int, word: Literal["done", "undone"] = "done") -> None:
        """A step was taken. For people: what holds after a crash is what the disk says."""
        with disk_errors(self._path):
            os.write(self._descriptor, _line({word: step}))


def journals(root: Path) -> list[Journal]:
    """All repairs of a data set, the oldest first."""
    home = repairs(root)
    if not home.is_dir():
        return []
    with disk_errors(home):
        folders = sorted(path for path in home.iterdir() if (path / NAME).is_file() and not path.name.startswith("."))
    return [read(folder) for folder in folders]


def repairs(root: Path) -> Path:
    """Where a data set keeps its repairs."""
    return root / HOME / "repairs"


def locked(root: Path) -> Lock:
    """Keep others from repairing `root` meanwhile. Raises MachineError when somebody does."""
    home = repairs(root)
    with disk_errors(home):
        home.mkdir(parents=True, exist_ok=True)
    return hold(home / "lock")


def find(where: Path) -> Journal:
    """The repair that a person means: a journal, its folder, or a data set, whose newest repair that stands it is.

    Raises InputError when there is none.
    """
    if where.name == NAME:
        return read(where.parent)
    if (where / NAME).is_file():
        return read(where)
    standing = [journal for journal in journals(root_of(where)) if journal.stands]
    if not standing:
        raise InputError("there is no repair here that could be undone", where=str(where))
    return standing[-1]


def root_of(source: Path) -> Path:
    """Where the `.sortal` of a source is: in the folder, or beside the file."""
    return source if source.is_dir() else source.parent


def commands(journal: Journal) -> tuple[str, str]:
    """What to type to go on with a repair, and to take it back."""
    root, folder = (shlex.quote(str(path)) for path in (journal.root, journal.folder))
    return f"sortal fix {root} --resume", f"sortal fix --undo {folder} --apply"


def in_phases(steps: Sequence[Step]) -> dict[Do, list[int]]:
    """Step numbers by phase."""
    found: dict[Do, list[int]] = {phase: [] for phase in PHASES}
    for number, step in enumerate(steps):
        found[step.do].append(number)
    return found


def renamed_folders(steps: Iterable[Step]) -> dict[str, str]:
    """Old and new names of the folders that are renamed."""
    return {step.path: step.to for step in steps if step.do == "rename_folder"}


def after(path: str, renames: Mapping[str, str]) -> str:
    """What `path` is called once folders are renamed."""
    pieces = path.split("/")
    for end in range(1, len(pieces) + 1) if renames else ():
        to = renames.get("/".join(pieces[:end]))
        if to is not None:
            return "/".join([to, *pieces[end:]])
    return path


def _row(step: Step) -> dict[str, Any]:
    return {key: value for key, value in asdict(step).items() if value not in ("", 0)}


def _line(data: Mapping[str, Any]) -> bytes:
    """ASCII, so that names that are no text survive."""
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _below(place: str) -> bool:
    return not place.startswith(("/", "\\")) and ".." not in place.split("/") and "\0" not in place


def _store(folder: Path, root: Path, script: Script) -> None:
    """Old and new text of the files that are edited; the old one with its times and permissions."""
    written = [step.path for step in script.steps if step.do == "write"]
    for which in ("old", "new") if written else ():
        (folder / which).mkdir()
    for number, path in enumerate(written):
        old, new = script.texts[path]
        (folder / "old" / str(number)).write_bytes(old)
        (folder / "new" / str(number)).write_bytes(new)
        shutil.copystat(root / path, folder / "old" / str(number))
        shutil.copymode(root / path, folder / "new" / str(number))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
