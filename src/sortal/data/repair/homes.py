"""Which folders hold the images of a class, before a repair and after it.

Class folders lie below one or several tops: the data set itself, or its split folders. Under each top a class may have
several folders, where their names differ only in Unicode form or white space.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from sortal.data.formats.classes import tidy
from sortal.data.repair.moves import spelled_alike
from sortal.data.repair.resolve import Changes
from sortal.data.table import ImageTable


class Homes:
    """Which folders a class has under each `top`, the folder that holds the classes (one for each split)."""

    def __init__(self, table: ImageTable, changes: Changes):
        self.depth = _depth(table)
        self._classes = changes.classes
        self._spelled = _spelled(table, self.depth)
        self._final: dict[tuple[str, str], str] = {}
        self._staying: dict[str, set[str]] = {}
        for top in sorted({top for top, _ in self._spelled}):
            self._settle(top)
        for name in {name for _, name in self._spelled} - set(self._classes):
            self._staying.setdefault(spelled_alike(name), set()).add(name)

    def parts(self, image: str) -> tuple[str, str, str]:
        """(top, class folder, rest) of an image's path."""
        pieces = image.split("/")
        return "/".join(pieces[: self.depth]), pieces[self.depth], "/".join(pieces[self.depth + 1 :])

    def home(self, top: str, name: str) -> str:
        """The folder, before any is renamed, whose images are of the class `name` in the end."""
        to = self._classes.get(name, name)
        found = self._final.get((top, to))
        return found if found is not None else _join(top, to)

    def merged(self) -> Iterator[tuple[str, str]]:
        """Folders whose content goes into another one."""
        for (top, name), folders in sorted(self._spelled.items()):
            if name in self._touched:
                home = self.home(top, name)
                yield from ((folder, home) for folder in folders if folder != home)

    def renamed(self) -> Iterator[tuple[str, str]]:
        """Folders that are renamed, after all images are moved."""
        for (top, to), home in sorted(self._final.items()):
            target = _join(top, to)
            if to in self._classes.values() and home != target and tidy(home.rpartition("/")[2]) != to:
                yield home, target

    def class_folder(self, path: str) -> str:
        """The class folder that `path` lies in or is."""
        return "/".join(path.split("/")[: self.depth + 1])

    def alike(self, name: str) -> str | None:
        """A class that stays and that some file system would take for `name`, where `name` is not there itself."""
        staying = self._staying.get(spelled_alike(name), set())
        return None if name in staying or not staying else min(staying)

    @property
    def _touched(self) -> set[str]:
        return {*self._classes, *self._classes.values()}

    def _settle(self, top: str) -> None:
        """For each class in the end: its own folder if there is one, else the first of those that become it."""
        here = {name: folders for (where, name), folders in self._spelled.items() if where == top}
        for name, folders in here.items():
            to = self._classes.get(name, name)
            if to == name or to not in here:
                self._final.setdefault((top, to), folders[0])


def _depth(table: ImageTable) -> int:
    """How many folders stand above the class folders."""
    rows = table.frame.filter(pl.col("label") >= 0)
    if not rows.height:
        return 0
    parts = rows["uri"].str.split("/")
    names = rows.select(pl.col("label").replace_strict(dict(enumerate(table.labels.names)), return_dtype=pl.String))
    fits = [_tidied(parts.list.get(depth, null_on_oob=True)).equals(names.to_series()) for depth in range(8)]
    depth = fits.index(True) if True in fits else 0
    while depth + 1 < len(fits) and fits[depth + 1] and parts.list.get(depth).n_unique() == 1:
        depth += 1  # single folders around the class folders, even one of the same name
    return depth


def _tidied(texts: pl.Series) -> pl.Series:
    distinct = texts.unique().drop_nulls().to_list()
    return texts.replace_strict({text: tidy(text) for text in distinct}, default=None, return_dtype=pl.String)


def _spelled(table: ImageTable, depth: int) -> dict[tuple[str, str], list[str]]:
    """Class folders by (top, class name), the one with most images first."""
    rows = table.frame.filter(pl.col("label") >= 0)
    folder = pl.col("uri").str.split("/").list.head(depth + 1).list.join("/")
    counted = rows.group_by(folder.alias("folder"), "label").len().sort("len", "folder", descending=[True, False])
    found: dict[tuple[str, str], list[str]] = {}
    for place, label, _ in counted.iter_rows():
        found.setdefault((place.rpartition("/")[0], table.labels.names[label]), []).append(place)
    return found


def _join(top: str, name: str) -> str:
    return f"{top}/{name}" if top else name
