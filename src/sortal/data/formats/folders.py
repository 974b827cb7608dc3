"""Class folders, or a flat folder of images, on disk or inside a zip or tar that is read in place.

A file `classes.txt` or `class_map.txt` beside the folders (one class a line) fixes the order of the classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from sortal.core.errors import DataError
from sortal.core.publish import publish_folder
from sortal.data.formats.classes import SPLIT_NAMES, read_class_list
from sortal.data.formats.layout import ClassOrder, read_layout
from sortal.data.formats.options import Images, ReadOptions, Written
from sortal.data.formats.pictures import is_natural, left_behind, mixed_split_reason
from sortal.data.formats.placing import Failures, check_free, file_names, place
from sortal.data.formats.tree import Tree, hidden, is_tree, open_tree
from sortal.data.table import ImageTable

CLASS_LISTS = ("classes.txt", "class_map.txt")


def sniff(path: Path | Tree) -> bool:
    """Any folder, zip or tar."""
    return isinstance(path, Tree) or is_tree(path)


def read(path: Path, _options: ReadOptions) -> ImageTable:
    """Images by class folder; a flat folder gives rows without label. Raises DataError when there is no image."""
    return read_tree(open_tree(path), ReadOptions())


def read_tree(tree: Tree, _options: ReadOptions) -> ImageTable:
    """`read` of a listed tree."""
    return read_layout(tree, _order(tree))


def can_hold(table: ImageTable) -> str | None:
    """A class must be able to name a folder, and no folder of a class may look like that of a split."""
    return mixed_split_reason(table) or _name_reason(table)


def loses(table: ImageTable) -> tuple[str, ...]:
    """Nothing but class and split is kept."""
    labeled = table.frame["label"].max()
    return left_behind(table, "split", *(() if isinstance(labeled, int) and labeled >= 0 else ("images",)))


def write(table: ImageTable, path: Path, *, images: Images = "link", replace: bool = False) -> Written:
    """`class/image` or `split/class/image` in the folder `path`, linked or copied; crops become PNG files.

    `classes.txt` says the order of the classes where it is not the natural one. Raises DataError when `can_hold` says
    why not, or there is something at `path`.
    """
    if (reason := can_hold(table)) is not None:
        raise DataError(f"class folders cannot hold this: {reason}", where=table.source)
    check_free(path, replace=replace)
    labels, splits = table.label_array(), table.frame["split"].to_list()
    rows = np.flatnonzero(labels >= 0) if (labels >= 0).any() else np.arange(len(table))
    folders = [_folder(table, int(labels[row]), splits[row]) for row in rows]
    names = file_names(table, rows.tolist(), folders, crops=True)
    failures, written = Failures(), 0

    def fill(folder: Path) -> None:
        nonlocal written
        for below in set(folders):
            (folder / below).mkdir(parents=True, exist_ok=True)
        for row, below, name in zip(rows.tolist(), folders, names, strict=True):
            written += place(table, row, folder / below / name, images, failures, whole=False)
        if not is_natural(table) and (labels >= 0).any():
            lines = "".join(f"{name}\n" for name in table.labels.names)
            (folder / CLASS_LISTS[0]).write_text(lines, encoding="utf-8", newline="\n")

    publish_folder(path, fill, replace=replace)
    return Written(path=path, rows=written, findings=failures.findings())


def _order(tree: Tree) -> ClassOrder | None:
    for name in CLASS_LISTS:
        text = tree.text(name)
        if text is not None:
            return ClassOrder(names=read_class_list(tree.path / name, text), used=(name,))
    return None


def _folder(table: ImageTable, label: int, split: str | None) -> str:
    return "/".join(part for part in (split, table.labels.names[label] if label >= 0 else None) if part)


def _name_reason(table: ImageTable) -> str | None:
    used = set(table.frame["label"].to_list()) - {-1}
    unsplit = table.frame.filter((pl.col("label") >= 0) & pl.col("split").is_null()).height
    for label in sorted(used):
        name = table.labels.names[label]
        if "/" in name or "\\" in name or "\0" in name or name == ".." or len(name.encode()) > 255 or hidden(name):
            return f"{name!r} cannot be the name of a folder that is read"
        if unsplit and name.casefold() in SPLIT_NAMES:
            return f"a folder called {name!r} would be taken for a split"
    if not is_natural(table) and any(len(name.splitlines()) > 1 for name in table.labels.names):
        return "a class list has one class a line, and a class name has a line break"
    return None
