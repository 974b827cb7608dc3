"""ImageNet's layout: folders named by synset (`n01440764`) and a synset map that gives order and names.

The map is `synset_words.txt` or `LOC_synset_mapping.txt`: a synset and its words on each line, line number = index.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sortal.core.errors import DataError
from sortal.data.formats.layout import ClassOrder, read_layout
from sortal.data.formats.options import ReadOptions
from sortal.data.formats.tree import Tree, open_tree
from sortal.data.members import index, is_archive
from sortal.data.table import ImageTable

MAPS = ("synset_words.txt", "LOC_synset_mapping.txt")


def sniff(path: Path) -> bool:
    """A folder or archive that holds a synset map at its top or one folder below."""
    if path.is_dir():
        return any((path / name).is_file() for name in MAPS)
    if not is_archive(path):
        return False
    try:
        return bool(index(path)["path"].str.contains(rf"^([^/]+/)?({'|'.join(MAPS)})$").any())
    except DataError:
        return False


def read(path: Path, _options: ReadOptions) -> ImageTable:
    """Synset ids as class names, words as display names. Raises DataError that names synsets absent on either side."""
    tree = open_tree(path)
    order = _synsets(tree)
    table = read_layout(tree, order)
    used = set(table.frame["label"].unique())
    absent = [name for number, name in enumerate(order.names) if number not in used]
    if absent:
        raise DataError(
            f"{len(absent)} synsets of the map have no images: {', '.join(absent[:5])}",
            where=str(path),
            hint=f"restore their folders, or take their lines out of {order.used[0]} to learn the others alone",
        )
    return table


def _synsets(tree: Tree) -> ClassOrder:
    found = tree.files.filter(pl.col("path").str.contains(rf"^([^/]+/)?({'|'.join(MAPS)})$"))["path"]
    lines = [line.strip() for line in (tree.text(found[0]) or "").splitlines() if line.strip()]
    pairs = [line.split(maxsplit=1) for line in lines]
    bad = [line for line, pair in zip(lines, pairs, strict=True) if len(pair) != 2]
    if bad or not pairs:
        raise DataError("a synset map has a synset and its words on each line", where=found[0], received=str(bad[:1]))
    names = [pair[0] for pair in pairs]
    if len(set(names)) != len(names):
        raise DataError("a synset is given twice in the synset map", where=found[0])
    return ClassOrder(names=names, display={pair[0]: pair[1] for pair in pairs}, used=(found[0],))
