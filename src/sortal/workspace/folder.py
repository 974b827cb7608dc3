"""Workspace: make and open the folder, and the limits that are written into it.

A workspace that is made half is none: it is put in place as a whole. Several processes may have it open; the database
orders what they write, and bundles and images are put in place by renaming.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sortal.core.canonical import pretty
from sortal.core.errors import BundleError, InputError, MachineError
from sortal.core.publish import disk_errors, publish_file, publish_folder
from sortal.workspace.database import Database, create_database, open_database

SETTINGS, DATABASE, BUNDLES, IMAGES = "workspace.json", "workspace.db", "bundles", "images"


class Settings(BaseModel):
    """What a workspace keeps, and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[int, Field(ge=1, le=1)] = 1
    images_mb: Annotated[float, Field(gt=0)] = 2_000.0
    """Images are kept up to so many megabytes; the oldest that nobody gave a label go first."""
    images_days: Annotated[float, Field(gt=0)] | None = None
    """Images older than so many days go, labelled or not; null keeps them."""
    events_days: Annotated[float, Field(gt=0)] | None = None
    """Events older than so many days go; null keeps them."""
    bundles: Annotated[int, Field(ge=1)] = 5
    """How many of the last live bundles are kept to go back to."""


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """An opened workspace; a context manager."""

    path: Path
    settings: Settings
    database: Database
    read_only: bool = False

    def close(self) -> None:
        """Give the database back."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def create_workspace(path: Path, settings: Settings | None = None) -> Workspace:
    """Make a workspace at `path`, which must not exist or be an empty folder, and open it."""

    def write(folder: Path) -> None:
        text = pretty((settings or Settings()).model_dump(mode="json"))
        (folder / SETTINGS).write_text(text, encoding="utf-8")
        for name in (BUNDLES, IMAGES):
            (folder / name).mkdir()
        create_database(folder / DATABASE)

    empty = path.is_dir() and not any(path.iterdir())
    try:
        publish_folder(path, write, replace=empty)
    except MachineError as error:
        if empty:  # the root of a volume, or a folder in one that others own, cannot be exchanged
            error.hint = f"name a folder in it that is not there yet: {path / 'line4'}"
        raise
    return open_workspace(path)


def open_workspace(path: Path, *, read_only: bool = False) -> Workspace:
    """Open the workspace at `path`; `read_only` writes nothing at all, as on a disk that is mounted so.

    Raises BundleError where it is damaged or of another format, InputError where there is none.
    """
    if not (path / SETTINGS).is_file():
        raise InputError(
            "this is no workspace", where=str(path), hint=f"sortal promote RUN {path}   makes one where nothing is"
        )
    return Workspace(
        path=path,
        settings=_settings(path / SETTINGS),
        database=open_database(path / DATABASE, read_only=read_only),
        read_only=read_only,
    )


def open_or_create(path: Path) -> Workspace:
    """The workspace at `path`, made where nothing is. Raises InputError where something else is there."""
    if (path / SETTINGS).is_file():
        return open_workspace(path)
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise InputError("neither a workspace nor an empty place", where=str(path), hint="name another folder")
    return create_workspace(path)


def is_workspace(path: Path) -> bool:
    """Whether `path` is a folder that `open_workspace` would try."""
    return (path / SETTINGS).is_file()


def change_settings(workspace: Workspace, settings: Settings) -> Workspace:
    """The workspace with other limits, written down."""
    publish_file(workspace.path / SETTINGS, pretty(settings.model_dump(mode="json")).encode())
    return Workspace(path=workspace.path, settings=settings, database=workspace.database, read_only=workspace.read_only)


def _settings(path: Path) -> Settings:
    with disk_errors(path):
        text = path.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
        if isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > 1:
            hint = "use the version of Sortal that wrote it, or a newer one"
            raise BundleError(
                "a workspace of a newer format", where=str(path), received=str(found["format"]), hint=hint
            )
        return Settings.model_validate(found)
    except (ValueError, ValidationError) as error:
        raise BundleError("the settings are damaged", where=str(path), received=str(error).splitlines()[0]) from error
