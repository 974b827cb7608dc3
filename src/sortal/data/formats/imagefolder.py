"""Hugging Face's imagefolder: images with `metadata.csv`, `metadata.jsonl` or `metadata.parquet` beside them.

One metadata file at the top or one in each split folder; `file_name` is relative to it. The class is in a column of the
usual names (or the one asked for); all other columns are kept. `objects` with `bbox` and `categories` become boxes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sortal.core.errors import DataError, nearest
from sortal.core.publish import publish_folder
from sortal.data.formats import glimpse
from sortal.data.formats.annotated import FOUND, Annotated, annotated_table, attribute, gathered
from sortal.data.formats.classes import SPLIT_NAMES
from sortal.data.formats.exact import corners, given, total
from sortal.data.formats.locate import find_images, image_size
from sortal.data.formats.options import Images, ReadOptions, Written
from sortal.data.formats.pictures import attribute_columns, left_behind, mixed_split_reason
from sortal.data.formats.placing import Failures, check_free, file_names, place
from sortal.data.formats.table_file import frame_bytes, parse_frame
from sortal.data.formats.tables import LABEL_NAMES
from sortal.data.formats.tree import Tree, is_tree, tree_of
from sortal.data.table import ImageTable

_METADATA = re.compile(r"(?i)(?:[^/]+/){0,2}metadata\.(csv|jsonl|parquet)")


def sniff(path: Path | Tree) -> bool:
    """A folder or archive with a metadata file that has a column `file_name`, at most two folders down."""
    if isinstance(path, Path) and not is_tree(path):
        return False
    found = next((name for name in glimpse.names(path) if _METADATA.fullmatch(name)), None)
    return found is not None and (b"file_name" in glimpse.head(path, found) or found.lower().endswith("parquet"))


def read(path: Path, options: ReadOptions) -> ImageTable:
    """A row for each image (or box). Raises DataError for metadata without `file_name` or the label asked for."""
    return read_tree(tree_of(path), options)


def read_tree(tree: Tree, options: ReadOptions) -> ImageTable:
    """`read` of a listed tree."""
    files = tree.files.filter(pl.Series([_METADATA.fullmatch(name) is not None for name in tree.files["path"]]))
    if not files.height:
        raise DataError("no metadata file here", where=tree.source, hint="expected metadata.csv or metadata.jsonl")
    parts = []
    for name, data in tree.contents(files):
        base = name.rpartition("/")[0]
        parts.append(_named(parse_frame(Path(name), data), base, options.label, tree.where(name)))
    frame = pl.concat(parts, how="diagonal_relaxed")
    frame = frame.with_columns(path=find_images(tree, frame["name"], frame["base"]))
    boxes = _boxes(tree, frame) if "objects" in frame.columns else []
    images = frame.drop([name for name in ("base", "text", "objects") if name in frame.columns])
    tags = frame.with_row_index("image").filter(pl.col("text").is_not_null()).select("image", "text")
    found = gathered(boxes, FOUND) if boxes else tags.with_columns(pl.col("image").cast(pl.Int64))
    return annotated_table(tree, Annotated(images=images, found=found), options)


def can_hold(table: ImageTable) -> str | None:
    """Split folders, so every row has a split or none has."""
    return mixed_split_reason(table)


def loses(table: ImageTable) -> tuple[str, ...]:
    """The coarse classes; boxes become images of their own."""
    return left_behind(table, "split", "attributes", "images")


def write(table: ImageTable, path: Path, *, images: Images = "link", replace: bool = False) -> Written:
    """Images and `metadata.jsonl` in the folder `path`, or in a folder for each split; crops become PNG files.

    Raises DataError when `can_hold` says why not, or there is something at `path`.
    """
    if (reason := can_hold(table)) is not None:
        raise DataError(f"an imagefolder cannot hold this: {reason}", where=table.source)
    check_free(path, replace=replace)
    folders = [split or "" for split in table.frame["split"]]
    names = file_names(table, range(len(table)), folders, crops=True)
    texts = [*table.labels.names, None]
    columns = {"file_name": names, "label": [texts[label] for label in table.frame["label"]]}
    frame = pl.DataFrame(columns, schema={"file_name": pl.String, "label": pl.String})
    frame = frame.with_columns(table.frame[name] for name in attribute_columns(table) if name not in columns)
    failures, written = Failures(), np.zeros(len(table), dtype=bool)

    def fill(folder: Path) -> None:
        for below in set(folders):
            (folder / below).mkdir(exist_ok=True)
        for row, (below, name) in enumerate(zip(folders, names, strict=True)):
            written[row] = place(table, row, folder / below / name, images, failures, whole=False)
        for below in set(folders):
            rows = frame.filter(pl.Series(written) & (pl.Series(folders) == below))
            (folder / below / "metadata.jsonl").write_bytes(frame_bytes(rows, ".jsonl"))

    publish_folder(path, fill, replace=replace)
    return Written(path=path, rows=int(written.sum()), findings=failures.findings())


def _named(given_frame: pl.DataFrame, base: str, label: str, where: str) -> pl.DataFrame:
    """name, base, text, split and the other columns of one metadata file."""
    folded = {name.casefold(): name for name in reversed(given_frame.columns)}
    if "file_name" not in folded:
        received = ", ".join(given_frame.columns[:12])
        raise DataError("metadata without a column file_name", where=where, received=f"columns {received}")
    wanted = LABEL_NAMES if label == "label" else (label.casefold(),)
    found = next((folded[name] for name in wanted if name in folded), None)
    if found is None and label != "label":
        raise DataError(
            "there is no such label column", where=where, received=label, hint=nearest(label, given_frame.columns)
        )
    for name in (folded["file_name"], found, folded.get("split")):
        if name is not None and given_frame[name].dtype.is_nested():
            hint = "one class an image, one text a cell"
            raise DataError(f"column {name!r} holds lists", where=where, received=str(given_frame[name][0]), hint=hint)
    text = pl.lit(None, dtype=pl.String) if found is None else pl.col(found).cast(pl.String)
    split = pl.col(folded["split"]).cast(pl.String) if "split" in folded else pl.lit(base.rpartition("/")[2])
    taken = {folded["file_name"], found, folded.get("split")}
    others = [name for name in given_frame.columns if name not in taken]
    return given_frame.select(
        name=pl.col(folded["file_name"]).cast(pl.String),
        base=pl.lit(base),
        text=text.str.strip_chars().replace("", None),
        split=split.str.to_lowercase().replace_strict(SPLIT_NAMES, default=None, return_dtype=pl.String),
        **{name if name == "objects" else attribute(name): pl.col(name) for name in others},
    )


def _boxes(tree: Tree, frame: pl.DataFrame) -> list[dict[str, Any]]:
    """x, y, width, height in pixels of images whose size has to be looked up."""
    found = []
    for row, (path, objects) in enumerate(frame.select("path", "objects").iter_rows()):
        if not isinstance(objects, Mapping) or not objects.get("bbox") or path is None:
            continue
        size = image_size(tree, path)
        texts = objects.get("categories") or objects.get("category") or objects.get("label") or []
        for box, text in zip(objects["bbox"], texts, strict=False):
            x, y, width, height = map(given, box)
            sides = corners([x, y, total(x, width), total(y, height)], size)
            found.append({"image": row, "text": str(text), "box": sides})
    return found
