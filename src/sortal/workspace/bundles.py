"""The bundles of a workspace: copied in whole, verified, kept under their id, and cleared away when nothing needs them.

A bundle in use may not depend on a folder that somebody moves, so promoting copies. What is live, canary, shadow,
pinned or one of the last few live ones is never removed. Removing renames first, so that a reader sees a whole bundle
or none, and a crash in the middle is finished by the next clearing.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sortal.core.bundle import Bundle, open_bundle
from sortal.core.errors import BundleError, ConflictError, InputError, MachineError, NotFoundError
from sortal.core.manifest import MANIFEST
from sortal.core.publish import HIDDEN, disk_errors, publish_folder, sweep
from sortal.workspace.folder import BUNDLES, Workspace

_ATTACHED = ("artifacts", "reports")
_SHORTEST = 4
_TRIES = 3
_GONE = ".gone-"
"""What the name of a bundle begins with while it is removed."""


def add_bundle(workspace: Workspace, source: Bundle) -> Bundle:
    """A verified copy of `source` in the workspace. Where it is there already, artifacts and reports that it lacks are
    added.

    Raises BundleError where anything in `source` was altered, ConflictError where others keep clearing it away.
    """
    target = _folder(workspace, source.id)

    def write(folder: Path) -> None:
        shutil.copytree(source.path, folder, dirs_exist_ok=True, ignore=_hidden)
        _verify(folder, source.id)

    for _ in range(_TRIES):
        if not target.is_dir():
            _put(target, write)
        stored = _completed(source, target)
        if stored is not None:
            return stored
    raise ConflictError("the bundle was cleared away again and again", where=str(target))


def stored_bundle(workspace: Workspace, name: str) -> Bundle:
    """The bundle whose id is, or begins with, `name` (four digits at least). Raises NotFoundError for no or several."""
    return open_bundle(_folder(workspace, full_id(workspace, name)))


def full_id(workspace: Workspace, name: str) -> str:
    """The one id of the workspace's bundles that begins with `name`."""
    known = stored_ids(workspace)
    found = [one for one in known if one.startswith(name.lower())] if len(name) >= _SHORTEST else []
    if len(found) == 1:
        return found[0]
    told = ", ".join(one[:12] for one in found or known) or "none"
    what = "several bundles of the workspace begin so" if found else "the workspace has no such bundle"
    raise NotFoundError(what, where=str(workspace.path), received=name, hint=f"there are: {told}")


def stored_ids(workspace: Workspace) -> list[str]:
    """Ids of all bundles in the workspace, sorted."""
    folder = workspace.path / BUNDLES
    with disk_errors(folder):
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_dir())


def set_aside(workspace: Workspace, needed: set[str]) -> list[str]:
    """Take every bundle but the `needed` out of the readers' sight, one rename each; returns their ids."""
    folder = workspace.path / BUNDLES
    unneeded = [name for name in stored_ids(workspace) if name not in needed]
    with disk_errors(folder):
        for name in unneeded:
            _hide(folder / name)
    return unneeded


def sweep_bundles(workspace: Workspace) -> None:
    """Remove what was set aside, now or by a process that died meanwhile."""
    folder = workspace.path / BUNDLES
    with disk_errors(folder):
        for entry in folder.glob(f"{_GONE}*"):
            shutil.rmtree(entry, ignore_errors=True)  # another process may be at it too
    sweep(folder)


def _folder(workspace: Workspace, identity: str) -> Path:
    return workspace.path / BUNDLES / identity


def _hide(bundle: Path) -> None:
    bundle.rename(bundle.parent / f"{_GONE}{bundle.name}-{secrets.token_hex(4)}")


def _completed(source: Bundle, target: Path) -> Bundle | None:
    """The bundle with all that `source` has; None where another process has cleared it away meanwhile."""
    try:
        _complete(source, target)
        return open_bundle(target)
    except (BundleError, MachineError) as error:
        there = (target / MANIFEST).is_file()
        if there and not isinstance(error.__cause__, FileNotFoundError):
            raise
        if not there:  # what was added since is no bundle
            with suppress(FileNotFoundError):
                _hide(target)
        return None


def _hidden(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(HIDDEN)]


def _verify(folder: Path, identity: str) -> None:
    """The copy, file by file: what was altered while it was copied is found here."""
    copy = open_bundle(folder)
    if copy.id != identity:
        raise BundleError("the bundle changed while it was copied", where=str(folder))
    for kind, names in (("artifacts", copy.artifacts()), ("reports", copy.reports())):
        for name in names:
            copy.attachment(f"{kind}/{name}")
    if (folder / "reference").is_dir():
        copy.attachment("reference")


def _complete(source: Bundle, target: Path) -> None:
    for kind, names in (("artifacts", source.artifacts()), ("reports", source.reports())):
        for name in names:
            if not (target / kind / name).exists():
                _copy_attachment(source.attachment(f"{kind}/{name}").path, target / kind / name)
    if (source.path / "reference").is_dir() and not (target / "reference").exists():
        _copy_attachment(source.attachment("reference").path, target / "reference")


def _copy_attachment(source: Path, target: Path) -> None:
    def write(folder: Path) -> None:
        shutil.copytree(source, folder, dirs_exist_ok=True)

    _put(target, write)


def _put(target: Path, write: Callable[[Path], None]) -> None:
    """Publish a folder, unless another process puts the same one there meanwhile."""
    try:
        publish_folder(target, write)
    except InputError as error:
        if isinstance(error, BundleError):  # of what is copied; any other says that it is there already
            raise


def size_bytes(folder: Path) -> int:
    """Bytes of all files in a folder, as far as they are still there."""
    return sum(_size(Path(parent, name)) for parent, _, names in os.walk(folder) for name in names)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # another process clears away
        return 0
