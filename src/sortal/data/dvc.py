"""Data Version Control beside Sortal: which version of the images a run saw, and `dvc add` as an external program.

DVC is never imported. What is under its control is read from its own text files, `*.dvc` and `dvc.lock`, and the commit
from Git's, so a run is recorded where neither program is installed.
File formats: https://dvc.org/doc/user-guide/project-structure
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sortal.core.errors import InputError, MachineError
from sortal.core.publish import disk_errors, publish_file
from sortal.data.repair.journal import HOME
from sortal.data.table import ImageTable

_INSTALL = "install it beside Sortal, in an environment of its own: pipx install dvc (or: uv tool install dvc)"
_IGNORED = f"{HOME}/"
_MOST_PLACES = 100


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """Something under DVC's control: `path` and `file` (which says so) relative to the repository, and its MD5."""

    path: str
    file: str
    md5: str


def repository(path: Path) -> Path | None:
    """The DVC repository that `path` lies in; None where it lies in none."""
    return _above(path, ".dvc")


def version_of(*paths: Path) -> dict[str, Any] | None:
    """The version of the images at `paths` by DVC and Git, as plain data; None where DVC tracks none of them.

    What covers a path, and what a folder holds right below it, counts. The commit is None outside Git.
    """
    homes = {path: home for path in paths if path.exists() and (home := repository(path)) is not None}
    found = {entry for path, home in homes.items() for entry in tracked(path, home)}
    if not found:
        return None
    ordered = sorted(found, key=lambda entry: (entry.path, entry.file))
    outs = [{"path": entry.path, "file": entry.file, "md5": entry.md5} for entry in ordered]
    return {"tool": "dvc", "outs": outs, "git_commit": commit(next(iter(homes.values())))}


def version_of_table(table: ImageTable) -> dict[str, Any] | None:
    """The version of a table's source; for a table, manifest or list, of what holds its images as well."""
    source = Path(table.source)
    if not source.is_file() or table.root is None:
        return version_of(source)
    tops = table.frame["uri"].str.extract(r"^([^/]+)").drop_nulls().unique().sort().head(_MOST_PLACES)
    return version_of(source, *(table.root / top for top in tops))


def tracked(path: Path, home: Path) -> Iterator[Tracked]:
    """The entries of `*.dvc` files and of `dvc.lock` that cover `path` or lie right below it."""
    target = path.absolute()
    top = target if target.is_dir() else target.parent
    folders = [top, *(folder for folder in top.parents if folder == home or home in folder.parents)]
    for folder in folders:
        for file in sorted(folder.glob("*.dvc")):
            yield from _covering(_outs(file), file, target, home)
        yield from _covering(_locked(folder / "dvc.lock"), folder / "dvc.lock", target, home)


def commit(path: Path) -> str | None:
    """The Git commit that is checked out where `path` lies, read from Git's files; None outside Git or before one."""
    top = _above(path, ".git")
    if top is None:
        return None
    folder = _git_folder(top / ".git")
    head = _text(folder / "HEAD")
    if not head.startswith("ref: "):
        return head or None
    shared = folder / (_text(folder / "commondir") or ".")
    name = head.removeprefix("ref: ")
    for place in (folder, shared):
        if loose := _text(place / name):
            return loose
    packed = re.search(rf"^([0-9a-f]{{40,64}}) {re.escape(name)}$", _text(shared / "packed-refs"), re.MULTILINE)
    return packed[1] if packed else None


def add(path: Path) -> str:
    """Put a data set under DVC's control with `dvc add`, without `.sortal`; what DVC said is returned.

    Raises InputError outside a DVC repository, MachineError where DVC is absent or refuses.
    """
    home = _need_repository(path)
    ignored = home / ".dvcignore"
    known = _text(ignored)
    if _IGNORED not in known.splitlines():
        publish_file(ignored, (f"{known}\n" if known else "").encode() + f"{_IGNORED}\n".encode())
    return _dvc(["add", path.name], path.absolute().parent)


def status(path: Path) -> str:
    """What DVC says changed since the last version. Raises as `add`."""
    home = _need_repository(path)
    targets = sorted({str(home / entry.file) for entry in tracked(path, home) if entry.file.endswith(".dvc")})
    return _dvc(["status", *targets], path.absolute() if path.is_dir() else path.absolute().parent)


def _need_repository(path: Path) -> Path:
    home = repository(path)
    if not path.exists():
        raise InputError("there is no such file or folder", where=str(path))
    if home is None:
        hint = "make one in the folder above it: git init && dvc init"
        raise InputError("this is not inside a DVC repository", where=str(path), hint=hint)
    return home


def _dvc(arguments: list[str], folder: Path) -> str:
    program = shutil.which("dvc")
    if program is None:
        raise MachineError("the program dvc is not installed", hint=_INSTALL)
    with disk_errors(Path(program)):
        done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise MachineError(f"dvc {arguments[0]} failed", where=str(folder), received="\n            ".join(said[-6:]))
    return done.stdout.strip() or done.stderr.strip()


def _above(path: Path, name: str) -> Path | None:
    start = path.absolute()
    return next((folder for folder in (start, *start.parents) if (folder / name).exists()), None)


def _covering(outs: Iterator[Mapping[str, Any]], file: Path, target: Path, home: Path) -> Iterator[Tracked]:
    for out in outs:
        place = Path(_normal(file.parent / str(out.get("wdir", ".")) / str(out["path"])))
        if place == target or place in target.parents or place.parent == target:
            below = place.relative_to(home).as_posix() if home in place.parents else str(place)
            yield Tracked(path=below, file=file.relative_to(home).as_posix(), md5=str(out["md5"]))


def _normal(path: Path) -> str:
    return os.path.normpath(path)


def _outs(file: Path) -> Iterator[Mapping[str, Any]]:
    data = _yaml(file)
    for out in data.get("outs") or ():
        if isinstance(out, dict) and "path" in out and "md5" in out:
            yield {**out, "wdir": data.get("wdir", ".")}


def _locked(file: Path) -> Iterator[Mapping[str, Any]]:
    stages = _yaml(file).get("stages")
    for stage in stages.values() if isinstance(stages, dict) else ():
        for out in (stage or {}).get("outs") or ():
            if isinstance(out, dict) and "path" in out and "md5" in out:
                yield out


def _yaml(file: Path) -> dict[str, Any]:
    """A file that DVC wrote; one that is damaged is not ours to complain about."""
    try:
        data = yaml.safe_load(_text(file))
    except yaml.YAMLError:
        return {}
    return data if isinstance(data, dict) else {}


def _git_folder(path: Path) -> Path:
    """`.git` itself, or where a worktree's file of that name points."""
    text = _text(path) if path.is_file() else ""
    return path.parent / text.removeprefix("gitdir: ") if text.startswith("gitdir: ") else path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    except (OSError, UnicodeDecodeError):
        return ""
