"""A table as the writers of annotation formats want it: picture by picture, with its boxes, tags and attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from sortal.core.errors import DataError, ImageError
from sortal.data.formats.annotated import CANVAS
from sortal.data.formats.classes import natural_key
from sortal.data.formats.exact import decimal, pixels
from sortal.data.formats.placing import Failures, sources
from sortal.data.header import read_header
from sortal.data.table import COLUMNS, ImageTable

Value = str | int | float | bool
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Note:
    """One annotation: a class, with the box (fractions) that it is about or None for the whole image."""

    text: str
    label: int
    box: Box | None
    polygon: list[float] | None
    attributes: Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image under the name that the file calls it, its size in pixels, and its annotations."""

    name: str
    width: int
    height: int
    split: str | None
    notes: tuple[Note, ...]


def pictures(table: ImageTable, names: Mapping[int, str], failures: Failures) -> Iterator[Picture]:
    """Every image that has a name in `names` (by row), in order of first appearance. Rows without class are no note."""
    columns = attribute_columns(table)
    frame = table.frame
    order = np.argsort(sources(table).number, kind="stable")
    number = sources(table).number[order]
    bounds = np.flatnonzero(np.diff(number, prepend=-1, append=-1)).tolist() if len(number) else []
    for start, stop in pairwise(bounds):
        rows = [int(row) for row in order[start:stop] if int(row) in names]
        size = _size(table, rows[0], failures) if rows else None
        if size is None:
            continue
        values = [frame.row(row, named=True) for row in rows]
        notes = tuple(_note(table, value, columns) for value in values if value["label"] >= 0)
        split = next((value["split"] for value in values if value["split"]), None)
        yield Picture(name=names[rows[0]], width=size[0], height=size[1], split=split, notes=notes)


def attribute_columns(table: ImageTable) -> list[str]:
    """The columns that describe an annotation beyond class and shape: `group` and `weight` where they say something."""
    extra = [
        name
        for name in table.frame.columns
        if name not in COLUMNS and not name.startswith("_") and name not in ("box", "polygon", "boxes", "annotation")
    ]
    group = ["group"] if table.frame["group"].null_count() < len(table) else []
    weight = ["weight"] if (table.frame["weight"] != 1.0).any() else []
    return [*group, *weight, *extra]


def left_behind(table: ImageTable, *holds: str) -> tuple[str, ...]:
    """What of the table a format does not hold, in words.

    `holds` names what it does: split, attributes, polygons, fractions (boxes between pixels), parents, images (without
    annotation), boxes, regions (beside the boxes as annotated).
    """
    frame, lost = table.frame, []
    if "split" not in holds and frame["split"].null_count() < len(table):
        lost.append("the split into train, val and test")
    elif "split" in holds and _split_images(table):
        lost.append(f"the splits of {_split_images(table)} images that have rows in several")
    if "attributes" not in holds and (columns := attribute_columns(table)):
        lost.append(f"the columns {', '.join(columns)}")
    if "polygons" not in holds and "polygon" in frame.columns and frame["polygon"].null_count() < len(table):
        lost.append("polygons (the boxes around them are kept)")
    if "fractions" not in holds and (count := _between_pixels(table)):
        lost.append(f"the exact place of {count} boxes, which are rounded to whole pixels")
    if "parents" not in holds and table.labels.parents is not None:
        lost.append("the coarse classes")
    if "boxes" not in holds and frame["region"].null_count() < len(table):
        lost.append("the boxes: each becomes an image of its own")
    grown = 0 if "regions" in holds else _grown(table)
    if "boxes" in holds and grown:
        lost.append(f"the margin around {grown} boxes, which are written as they were annotated")
    unlabeled = frame.filter((pl.col("label") < 0) & ((pl.col("region").is_not_null()) | pl.lit("images" not in holds)))
    if unlabeled.height:
        lost.append(f"{unlabeled.height} rows without a class")
    return tuple(lost)


def plain_text_reason(table: ImageTable, texts: Iterable[str] = ()) -> str | None:
    """Why XML cannot hold the class names or `texts`."""
    from sortal.data.formats.safe_xml import is_xml_text

    odd = [text for text in (*table.labels.names, *texts) if not is_xml_text(text)]
    return f"XML cannot hold the control characters in {odd[0]!r}" if odd else None


def whole_images_reason(table: ImageTable) -> str | None:
    """Why a format of boxes only cannot hold the table."""
    whole = table.frame.filter(pl.col("region").is_null() & (pl.col("label") >= 0)).height
    return f"it holds boxes, and {whole} rows are classes of whole images" if whole else None


def mixed_split_reason(table: ImageTable) -> str | None:
    """Why split folders cannot hold the table."""
    labeled = table.frame.filter(pl.col("label") >= 0)
    loose = labeled["split"].null_count()
    if not loose or loose == labeled.height:
        return None
    return f"{loose} rows have no split beside {labeled.height - loose} that have one"


def is_natural(table: ImageTable) -> bool:
    """Whether the classes are in the order that a reader finds without a list, and all of them have rows."""
    names = list(table.labels.names)
    used = table.frame["label"].unique().drop_nulls()
    return names == sorted(names, key=natural_key) and used.filter(used >= 0).len() == len(names)


def in_pixels(values: Iterable[float], width: int, height: int) -> list[Any]:
    """x, y, x, y ... in pixels: whole numbers where that is exact, else decimals."""
    return [pixels(value, height if place % 2 else width) for place, value in enumerate(values)]


def is_truth(value: Value | None) -> bool:
    """Whether a mark such as `difficult` is set, in any spelling."""
    return str(value).strip().casefold() in ("1", "true", "yes", "1.0")


def _note(table: ImageTable, values: Mapping[str, Any], columns: list[str]) -> Note:
    box = None
    if values["region"] is not None:
        given = values.get("box")
        box = tuple(values["region"] if given is None else given)
    return Note(
        text=table.labels.names[values["label"]],
        label=values["label"],
        box=box,
        polygon=values.get("polygon") if box is not None else None,
        attributes={name: _plain(values[name]) for name in columns if values[name] is not None},
    )


def _plain(value: Any) -> Value:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _size(table: ImageTable, row: int, failures: Failures) -> tuple[int, int] | None:
    """(width, height) of the annotated canvas, else of the upright image."""
    frame = table.frame
    if all(name in frame.columns and frame[name][row] is not None for name in CANVAS):
        return int(frame[CANVAS[0]][row]), int(frame[CANVAS[1]][row])
    try:
        content = table.read_whole(row)
        height, width = read_header(content).upright if isinstance(content, bytes) else content.shape[:2]
    except (ImageError, DataError) as error:
        failures.codes[table.name(row)] = getattr(error, "code", "missing")
        return None
    return int(width), int(height)


def _split_images(table: ImageTable) -> int:
    keys = ["uri", "member", "frame"]
    counts = table.frame.filter(pl.col("split").is_not_null()).group_by(keys).agg(pl.col("split").n_unique())
    return int((counts["split"] > 1).sum())


def _between_pixels(table: ImageTable) -> int:
    """Boxes whose corners are no whole pixels of a canvas that is known."""
    frame = table.frame.filter(pl.col("region").is_not_null())
    if not frame.height or not all(name in frame.columns for name in CANVAS):
        return 0
    corners = frame["box" if "box" in frame.columns else "region"].to_numpy().reshape(-1, 4)
    sizes = frame.select(*CANVAS, *(pl.col(name).alias(f"{name} ") for name in CANVAS)).to_numpy().astype(np.float64)
    scaled = corners * sizes
    return int((np.abs(scaled - np.rint(scaled)) > 1e-6).any(axis=1).sum())


def _grown(table: ImageTable) -> int:
    frame = table.frame.filter(pl.col("region").is_not_null())
    if not frame.height or "box" not in frame.columns:
        return 0
    known = frame.filter(pl.col("box").is_not_null())
    clipped = np.clip(known["box"].to_numpy().reshape(-1, 4), 0.0, 1.0)
    return int((np.abs(clipped - known["region"].to_numpy().reshape(-1, 4)) > 1e-12).any(axis=1).sum())


def as_json(value: Value) -> Any:
    """An attribute's value as JSON holds it: numbers exactly."""
    return decimal(value) if isinstance(value, float) else value
