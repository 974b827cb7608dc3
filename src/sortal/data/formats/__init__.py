"""The dataset formats that can be read, most particular first: the first whose `sniff` says yes reads the source.

A member module has `sniff(path: Path) -> bool` (cheap: names and a few bytes, never raises for a source of another
kind) and `read(path: Path, options: ReadOptions) -> ImageTable`. A stranger's format comes in by the entry point group
`sortal.formats` and is asked before the members of this table.

One that reads trees has `read_tree` too, so that it reads remote folders. One that can be written has `can_hold`,
`loses` and `write` besides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sortal.core.registry import Registry
from sortal.data.formats.options import Images, ReadOptions, Written
from sortal.data.table import ImageTable


class Format(Protocol):
    """What a member module provides."""

    def sniff(self, path: Path) -> bool:
        """Whether this format understands the source at `path`."""

    def read(self, path: Path, options: ReadOptions) -> ImageTable:
        """The rows. Raises DataError that says what was found and what is expected."""


class Writer(Protocol):
    """What a member that can be written provides besides."""

    def can_hold(self, table: ImageTable) -> str | None:
        """Why the format cannot hold this table at all, None where it can."""

    def loses(self, table: ImageTable) -> tuple[str, ...]:
        """What of the table it does not hold, in words: `the columns grade, lot`."""

    def write(self, table: ImageTable, path: Path, *, images: Images, replace: bool = False) -> Written:
        """Write the table at `path`, as a whole or not at all; images are linked, copied, or referred to in place.

        Raises DataError when `can_hold` says why not, or something is at `path` and `replace` is False.
        """


FORMATS = Registry(
    kind="dataset format",
    group="sortal.formats",
    table={
        "cifar": "sortal.data.formats.cifar",
        "mnist": "sortal.data.formats.mnist",
        "npz": "sortal.data.formats.npz",
        "labelstudio": "sortal.data.formats.labelstudio",
        "coco": "sortal.data.formats.coco",
        "manifest": "sortal.data.formats.manifest",
        "cvat": "sortal.data.formats.cvat",
        "voc": "sortal.data.formats.voc",
        "imagefolder": "sortal.data.formats.imagefolder",
        "yolo": "sortal.data.formats.yolo",
        "table": "sortal.data.formats.tables",
        "list": "sortal.data.formats.lists",
        "imagenet": "sortal.data.formats.imagenet",
        "folders": "sortal.data.formats.folders",
        "image": "sortal.data.formats.image",
    },
)

WRITABLE: dict[str, str] = {
    "folder": "folders",
    "csv": "table",
    "coco": "coco",
    "voc": "voc",
    "yolo": "yolo",
    "cvat": "cvat",
    "labelstudio": "labelstudio",
    "manifest": "manifest",
    "imagefolder": "imagefolder",
}
"""What people call the formats that can be written, with their names in `FORMATS`."""
