"""Class folders, or a flat folder of images, on disk or inside a zip or tar that is read in place.

A file `classes.txt` or `class_map.txt` beside the folders (one class a line) fixes the order of the classes.
"""

from __future__ import annotations

from pathlib import Path

from sortal.data.formats.classes import read_class_list
from sortal.data.formats.layout import ClassOrder, read_layout
from sortal.data.formats.options import ReadOptions
from sortal.data.formats.tree import Tree, is_tree, open_tree
from sortal.data.table import ImageTable

CLASS_LISTS = ("classes.txt", "class_map.txt")


def sniff(path: Path) -> bool:
    """Any folder, zip or tar."""
    return is_tree(path)


def read(path: Path, _options: ReadOptions) -> ImageTable:
    """Images by class folder; a flat folder gives rows without label. Raises DataError when there is no image."""
    tree = open_tree(path)
    return read_layout(tree, _order(tree))


def _order(tree: Tree) -> ClassOrder | None:
    for name in CLASS_LISTS:
        text = tree.text(name)
        if text is not None:
            return ClassOrder(names=read_class_list(tree.path / name, text), used=(name,))
    return None
