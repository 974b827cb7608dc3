"""From the image names that an annotation file holds to the images themselves.

A name is looked for where the file says, then in the places that annotation tools use, last by its bare name where
only one image of the tree is called so.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from sortal.core.errors import DataError, ImageError
from sortal.data.formats.tree import Tree
from sortal.data.header import read_header

BESIDE = ("", "images/", "JPEGImages/", "img/", "data/")
"""Below the annotation file's folder and the folder above it."""


def find_images(tree: Tree, names: pl.Series, bases: pl.Series, extra: Sequence[str] = ()) -> pl.Series:
    """For each name its path in the tree (of a lone tree: relative to its folder), null where there is none.

    `bases` is the folder of the annotation file that holds the name ("" is the top); `extra` are more folders that may
    hold it, below the base or the folder above.
    """
    frame = pl.DataFrame({"name": _plain(names), "base": bases}).with_columns(above=_above())
    frame = frame.with_columns(bare=pl.col("name").str.extract(r"([^/]+)$"))
    found = pl.Series([None] * frame.height, dtype=pl.String)
    for candidate in _candidates((*BESIDE, *extra)):
        tried = frame.select(pl.when(found.is_null()).then(_tidy(candidate))).to_series()
        hit = tree.has(tried)
        found = pl.select(pl.when(hit).then(tried).otherwise(found)).to_series()
        if not found.null_count():
            return found
    return found.fill_null(_by_bare_name(tree, frame["bare"]))


def image_size(tree: Tree, path: str | None) -> tuple[float, float]:
    """(width, height) of the upright image at a path of the tree in pixels; NaN where it cannot be read."""
    unknown = (float("nan"), float("nan"))
    if path is None:
        return unknown
    listed = tree.files.filter(pl.col("path") == path)
    files = listed if listed.height else pl.DataFrame({"path": [path]})
    try:
        height, width = read_header(next(data for _, data in tree.contents(files))).upright
    except (DataError, ImageError):
        return unknown
    return width, height


def _plain(names: pl.Series) -> pl.Series:
    return names.cast(pl.String).str.replace_all("\\", "/", literal=True).str.strip_prefix("./")


def _above() -> pl.Expr:
    """The folder above the base: of "" it is "..", which only a lone tree can look into."""
    parent = pl.col("base").str.replace(r"/?[^/]*$", "")
    return pl.when(pl.col("base") == "").then(pl.lit("..")).otherwise(parent)


def _candidates(folders: Sequence[str]) -> list[pl.Expr]:
    """Nearest first: the whole name below a place, then its last part."""
    places = [pl.format("{}/{}", pl.col(base), pl.lit(folder)) for base in ("base", "above") for folder in folders]
    whole = [pl.concat_str([place, pl.col("name")], separator="/") for place in places]
    bare = [pl.concat_str([place, pl.col("bare")], separator="/") for place in places]
    return [*whole, pl.col("name"), *bare]


def _tidy(path: pl.Expr) -> pl.Expr:
    """`/a//b/./c` as `a/b/c`; a climb in the middle is undone once."""
    absolute = pl.col("name").str.contains(r"^(/|[A-Za-z]:/)")
    plain = path.str.replace_all(r"/(\./|/)+", "/").str.strip_prefix("/").str.replace(r"(^|/)[^/.]+/\.\./", "$1")
    return pl.when(absolute & (path == pl.col("name"))).then(path).otherwise(plain)


def _by_bare_name(tree: Tree, bare: pl.Series) -> pl.Series:
    images = tree.images().select("path", bare=pl.col("path").str.extract(r"([^/]+)$"))
    single = images.filter(~pl.col("bare").is_duplicated())
    return bare.replace_strict(single["bare"], single["path"], default=None, return_dtype=pl.String)
