"""The steps that repair class folders: images moved one by one, folders renamed, emptied folders removed.

Images move before folders are renamed, so every place is named by what it is called when its step is taken, and no step
of a phase leads to where another one starts. Only what lies in the data set is moved: a folder that is a link elsewhere
is refused.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sortal.core.errors import DataError
from sortal.data.formats.classes import SPLIT_NAMES, read_class_list
from sortal.data.formats.folders import CLASS_LISTS
from sortal.data.formats.tree import hidden
from sortal.data.repair.homes import Homes
from sortal.data.repair.journal import HOME, PHASES, Do, Script, Step, after, renamed_folders
from sortal.data.repair.moves import fingerprint, spelled_alike
from sortal.data.repair.resolve import Changes
from sortal.data.table import ImageTable

_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def folder_script(table: ImageTable, changes: Changes, name: str, *, ordered: bool) -> Script:
    """All steps of a repair called `name`. `ordered`: a class list beside the folders says which classes there are.

    Raises DataError where a class cannot be a folder, or what is to be moved lies outside the data set.
    """
    work = _Work(root=table.root or Path())
    homes = Homes(table, changes)
    _refuse_unfit(changes, homes)
    for image in changes.out:
        work.move(image, f"{HOME}/quarantine/{name}/{image}")
    for image, to in changes.relabel.items():
        top, _, below = homes.parts(image)
        work.move(image, f"{homes.home(top, to)}/{below}")
    for folder, home in homes.merged():
        work.pour(folder, home)
    for folder, to in homes.renamed():
        work.rename(folder, to)
    if ordered:
        work.rewrite(*_class_list(work.root, changes))
    return work.script(homes)


def _refuse_unfit(changes: Changes, homes: Homes) -> None:
    for name in {*changes.relabel.values(), *changes.classes.values()}:
        odd = "/" in name or "\\" in name or hidden(name) or name.endswith(".") or _RESERVED.fullmatch(name)
        if odd or name.casefold() in SPLIT_NAMES:
            raise DataError("a class of this name cannot be a folder", received=name, hint="choose another name")
        alike = homes.alike(name)
        if alike:
            hint = f"use {alike!r}, or merge into it"
            raise DataError("this class differs from another one only by case", received=name, hint=hint)


def _class_list(root: Path, changes: Changes) -> tuple[str, bytes, bytes]:
    """The class list with renamed, merged and new classes: its name, the old and the new text."""
    name = next(name for name in CLASS_LISTS if (root / name).is_file())
    old = (root / name).read_bytes()
    names = read_class_list(root / name, old.decode("utf-8-sig"))
    wanted = [*names, *changes.relabel.values()]
    final = list(dict.fromkeys(changes.classes.get(entry, entry) for entry in wanted))
    return name, old, old if final == names else "".join(f"{entry}\n" for entry in final).encode()


@dataclass(kw_only=True)
class _Work:
    """Steps so far, and the names that are taken: those on the disk and those that steps will take."""

    root: Path
    steps: dict[Do, list[Step]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    texts: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    _claimed: set[str] = field(default_factory=set)
    _moved: set[str] = field(default_factory=set)
    _listed: dict[str, set[str]] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)
    _left: set[str] = field(default_factory=set)
    _renamed: set[str] = field(default_factory=set)
    _real: dict[str, bool] = field(default_factory=dict)

    def move(self, path: str, to: str) -> None:
        """Move a file, under another name where its own is taken."""
        self._require_inside(path)
        self._make(to.rpartition("/")[0])
        to = self._free(to)
        self._moved.add(path)
        self.steps["move"].append(Step(do="move", path=path, to=to, digest=fingerprint(self.root / path)))
        self._left.add(path.rpartition("/")[0])

    def pour(self, folder: str, home: str) -> None:
        """Move all that is left in a folder, images or not, into another one, and remove it."""
        if (self.root / folder).is_symlink():
            raise DataError("this class folder is a link; its images lie elsewhere", where=str(self.root / folder))
        for parent, _, names in os.walk(self.root / folder):
            below = Path(parent).relative_to(self.root).as_posix()
            self._left.add(below)
            places = [f"{below}/{name}" for name in sorted(names)]
            links = [entry.name for entry in os.scandir(parent) if entry.is_symlink() and entry.is_dir()]
            for path in [*places, *(f"{below}/{name}" for name in sorted(links))]:
                if path not in self._moved:
                    self.move(path, home + path[len(folder) :])

    def rename(self, folder: str, to: str) -> None:
        """Rename a class folder; a link is renamed as a link."""
        self._require_inside(folder)
        taken = self._names(to.rpartition("/")[0])
        own = spelled_alike(folder) == spelled_alike(to)
        if spelled_alike(to.rpartition("/")[2]) in taken and not own:
            raise DataError(
                "there is something else of this name", where=str(self.root / to), hint="move it away first"
            )
        self.steps["rename_folder"].append(Step(do="rename_folder", path=folder, to=to))
        below = (parent for parent, _, _ in os.walk(self.root / folder) if not (self.root / folder).is_symlink())
        self._renamed |= {Path(parent).relative_to(self.root).as_posix() for parent in below}

    def rewrite(self, path: str, old: bytes, new: bytes) -> None:
        """Give a text file another text."""
        if old == new:
            return
        self.texts[path] = (old, new)
        digests = [hashlib.sha256(text).hexdigest() for text in (new, old)]
        self.steps["write"].append(Step(do="write", path=path, digest=digests[0], old=digests[1]))

    def script(self, homes: Homes) -> Script:
        """The steps in order, and the times of all folders in which something changes."""
        renames = renamed_folders(self.steps["rename_folder"])
        leaving = self._with_parents(homes)
        for folder in sorted(leaving, key=lambda path: (-path.count("/"), path)):
            mode = (self.root / folder).stat().st_mode & 0o7777
            self.steps["remove_folder"].append(Step(do="remove_folder", path=after(folder, renames), mode=mode))
        steps = tuple(step for phase in PHASES for step in self.steps[phase])
        return Script(steps=steps, texts=self.texts, folders=self._times(steps, leaving))

    def _with_parents(self, homes: Homes) -> set[str]:
        """Folders that may be empty in the end: where something was, and above that up to the class folder."""
        found = set()
        for folder in self._left:
            pieces = folder.split("/") if folder else []
            found |= {"/".join(pieces[:end]) for end in range(homes.depth + 1, len(pieces) + 1)}
        return {folder for folder in found if folder and not (self.root / folder).is_symlink()}

    def _times(self, steps: Iterable[Step], leaving: set[str]) -> Mapping[str, int]:
        touched = {"."} | leaving | {step.path for step in self.steps["rename_folder"]}
        places = (place for step in steps for place in (step.path, step.to) if place)
        touched |= {place.rpartition("/")[0] or "." for place in places} | self._left | self._renamed
        found = {}
        for folder in touched:
            path = self.root / folder
            if path.is_dir() and not folder.startswith(HOME):
                found[folder or "."] = path.stat().st_mtime_ns
        return found

    def _require_inside(self, path: str) -> None:
        """Refuse a path through a folder that is a link: what lies there may belong to somebody else."""
        pieces = path.split("/")[:-1]
        for end in range(1, len(pieces) + 1):
            folder = "/".join(pieces[:end])
            if folder not in self._real:
                self._real[folder] = not (self.root / folder).is_symlink()
            if not self._real[folder]:
                hint = "repair it where it lies, or set apply: false for its images"
                what = "a link to a folder: what it leads to is not moved"
                raise DataError(what, where=str(self.root / folder), hint=hint)

    def _make(self, folder: str) -> None:
        pieces = folder.split("/")
        for end in range(1, len(pieces) + 1):
            place = "/".join(pieces[:end])
            if place in self._made:
                continue
            self._made.add(place)
            path = self.root / place
            if path.is_dir():
                continue
            if os.path.lexists(path):
                raise DataError("a folder is needed where a file is", where=str(path), hint="move it away first")
            self.steps["make_folder"].append(Step(do="make_folder", path=place))

    def _free(self, to: str) -> str:
        """`to`, or with a number where that is taken: `1.jpg`, `1-2.jpg`, `1-3.jpg`."""
        folder, _, name = to.rpartition("/")
        stem, dot, suffix = name.rpartition(".")
        stem, ending = (stem, dot + suffix) if stem else (name, "")
        candidate, number = name, 1
        while (
            spelled_alike(candidate) in self._names(folder) or spelled_alike(f"{folder}/{candidate}") in self._claimed
        ):
            number += 1
            candidate = f"{stem}-{number}{ending}"
        self._claimed.add(spelled_alike(f"{folder}/{candidate}"))
        return f"{folder}/{candidate}"

    def _names(self, folder: str) -> set[str]:
        if folder not in self._listed:
            path = self.root / folder
            names = os.listdir(path) if path.is_dir() else []  # noqa: PTH208
            self._listed[folder] = {spelled_alike(name) for name in names}
        return self._listed[folder]
