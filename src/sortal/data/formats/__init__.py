"""The dataset formats that can be read, most particular first: the first whose `sniff` says yes reads the source.

A member module has `sniff(path: Path) -> bool` (cheap: names and a few bytes, never raises for a source of another
kind) and `read(path: Path, options: ReadOptions) -> ImageTable`. A stranger's format comes in by the entry point group
`sortal.formats` and is asked before the members of this table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sortal.core.registry import Registry
from sortal.data.formats.options import ReadOptions
from sortal.data.table import ImageTable


class Format(Protocol):
    """What a member module provides."""

    def sniff(self, path: Path) -> bool:
        """Whether this format understands the source at `path`."""

    def read(self, path: Path, options: ReadOptions) -> ImageTable:
        """The rows. Raises DataError that says what was found and what is expected."""


FORMATS = Registry(
    kind="dataset format",
    group="sortal.formats",
    table={
        "cifar": "sortal.data.formats.cifar",
        "mnist": "sortal.data.formats.mnist",
        "npz": "sortal.data.formats.npz",
        "manifest": "sortal.data.formats.manifest",
        "table": "sortal.data.formats.tables",
        "list": "sortal.data.formats.lists",
        "imagenet": "sortal.data.formats.imagenet",
        "folders": "sortal.data.formats.folders",
        "image": "sortal.data.formats.image",
    },
)
