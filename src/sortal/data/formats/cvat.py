"""CVAT for images: one XML file with every image's boxes, polygons and tags, and their attributes.

Masks and ellipses count as the box around them. Lines, points, skeletons and the tracks of videos are no classes of
images: they are left out with a finding.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

import polars as pl

from sortal.core.errors import DataError
from sortal.core.publish import publish_file
from sortal.data.formats import glimpse
from sortal.data.formats.annotated import FOUND, IMAGES, Annotated, annotated_table, attribute, gathered
from sortal.data.formats.classes import SPLIT_NAMES
from sortal.data.formats.exact import Number, corners, difference, number, shown, total
from sortal.data.formats.locate import find_images, image_size
from sortal.data.formats.options import Images, ReadOptions, Written
from sortal.data.formats.pictures import (
    Note,
    Picture,
    Value,
    attribute_columns,
    in_pixels,
    left_behind,
    pictures,
    plain_text_reason,
)
from sortal.data.formats.placing import Failures, beside, check_free
from sortal.data.formats.safe_xml import is_xml_text, parse_xml
from sortal.data.formats.tree import Tree, tree_of
from sortal.data.table import ImageTable, finding

_SHAPES = ("box", "polygon", "mask", "ellipse", "tag")
_OTHER = ("polyline", "points", "skeleton", "cuboid")
_DIRECT = ("occluded", "source")
"""Attributes of a shape itself that are kept; `z_order` and `group_id` are the tool's own."""


def sniff(path: Path | Tree) -> bool:
    """An XML file of this kind, or a folder or archive that holds `annotations.xml` at its top or one folder below."""
    if glimpse.is_file(path, ".xml"):
        return _is_cvat(glimpse.head(path))
    found = next((name for name in glimpse.names(path) if _is_place(name)), None)
    return found is not None and _is_cvat(glimpse.head(path, found))


def read(path: Path, options: ReadOptions) -> ImageTable:
    """Boxes as rows, attributes as columns; classes in the order of the task's labels. Raises DataError."""
    return read_tree(tree_of(path), options)


def read_tree(tree: Tree, options: ReadOptions) -> ImageTable:
    """`read` of a listed tree."""
    files = tree.files if tree.lone else tree.files.filter(pl.Series(map(_is_place, tree.files["path"])))
    images: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    order: dict[str, None] = {}
    others: dict[str, int] = {}
    for name, data in tree.contents(files):
        root = parse_xml(data, tree.where(name))
        if root.tag != "annotations":
            raise DataError(f"the root element is {root.tag!r}, not 'annotations'", where=tree.where(name))
        order |= {label.text.strip(): None for label in root.iterfind(".//label/name") if label.text}
        for kind in ("track", *_OTHER):
            others[kind] = others.get(kind, 0) + sum(1 for _ in root.iter(kind))
        for element in root.iterfind("image"):
            found += [shape for child in element if (shape := _shape(child, len(images))) is not None]
            images.append(_image(element, name.rpartition("/")[0]))
    if not images:
        raise DataError("no annotated image here", where=tree.source, received=_listed(others) or "no image")
    frame = gathered(images, IMAGES)
    frame = frame.with_columns(path=find_images(tree, frame["name"], frame["base"]))
    rows = gathered(_in_fractions(tree, frame, found), FOUND)
    notes = Annotated(images=frame, found=rows, order=list(order) or None, findings=_unread(others))
    return annotated_table(tree, notes, options)


def can_hold(table: ImageTable) -> str | None:
    """Everything that XML can hold."""
    columns = [name for name in attribute_columns(table) if table.frame[name].dtype == pl.String]
    values = [value for name in columns for value in table.frame[name].unique().drop_nulls()]
    return plain_text_reason(table, [text for text in values if not is_xml_text(text)][:1])


def loses(table: ImageTable) -> tuple[str, ...]:
    """The coarse classes."""
    return left_behind(table, "split", "attributes", "polygons", "fractions", "images", "boxes")


def write(table: ImageTable, path: Path, *, images: Images = "refer", replace: bool = False) -> Written:
    """One XML file (CVAT for images 1.1); `subset` is the split.

    Raises DataError when `can_hold` says why not, or there is something at `path`.
    """
    if (reason := can_hold(table)) is not None:
        raise DataError(f"CVAT cannot hold this: {reason}", where=table.source)
    check_free(path, replace=replace)
    failures, rows = Failures(), 0
    names = beside(table, path, images, failures, crops=False, replace=replace)
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>", *_meta(table)]
    for position, picture in enumerate(pictures(table, names, failures)):
        lines += _picture_lines(picture, position)
        rows += len(picture.notes)
    publish_file(path, "\n".join([*lines, "</annotations>", ""]).encode())
    return Written(path=path, rows=rows, findings=failures.findings())


def _is_place(name: str) -> bool:
    return re.fullmatch(r"(?i)([^/]+/)?annotations?\.xml|[^/]+\.xml", name) is not None


def _is_cvat(start: bytes) -> bool:
    return re.search(rb"<annotations[\s>]", start) is not None


def _image(element: Element, base: str) -> dict[str, Any]:
    sizes = {f"_canvas_{side}": number(element.get(side)) for side in ("width", "height")}
    subset = SPLIT_NAMES.get((element.get("subset") or "").casefold())
    known = {name: int(value) if 0 < value < 1 << 31 else None for name, value in sizes.items()}
    return {"name": element.get("name") or "", "base": base, "split": subset, **known}


def _shape(element: Element, image: int) -> dict[str, Any] | None:
    """Coordinates stay in pixels here."""
    if element.tag not in _SHAPES:
        return None
    marks = {name: element.get(name) for name in _DIRECT if element.get(name) not in (None, "manual", "0")}
    marks |= {attribute(part.get("name") or ""): part.text for part in element.iterfind("attribute")}
    shape = {**marks, "image": image, "text": element.get("label")}
    if element.tag == "polygon":
        points = [number(value) for pair in (element.get("points") or "").split(";") for value in pair.split(",")]
        return {**shape, "polygon": points if len(points) % 2 == 0 else [float("nan")] * 6}
    return {**shape, "box": None if element.tag == "tag" else _box(element)}


def _box(element: Element) -> list[Number]:
    values = {name: number(value) for name, value in element.attrib.items()}
    missing = float("nan")
    if element.tag == "mask":
        left, top = values.get("left", missing), values.get("top", missing)
        return [left, top, total(left, values.get("width", missing)), total(top, values.get("height", missing))]
    if element.tag == "ellipse":
        x, y, rx, ry = (values.get(name, missing) for name in ("cx", "cy", "rx", "ry"))
        box: list[Number] = [difference(x, rx), difference(y, ry), total(x, rx), total(y, ry)]
    else:
        box = [values.get(name, missing) for name in ("xtl", "ytl", "xbr", "ybr")]
    turn = float(values.get("rotation", 0))
    return _turned([float(value) for value in box], turn) if turn % 180 else box


def _turned(box: list[float], degrees: float) -> list[Number]:
    """The upright box around one that is turned about its centre."""
    x, y, width, height = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    across, along = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    return [x - across, y - along, x + across, y + along]


def _in_fractions(tree: Tree, images: pl.DataFrame, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sizes = list(images.select("_canvas_width", "_canvas_height").iter_rows())
    paths = images["path"].to_list()
    scaled = []
    for row in found:
        if None in sizes[row["image"]]:
            sizes[row["image"]] = image_size(tree, paths[row["image"]])
        shapes = {
            name: corners(row[name], sizes[row["image"]]) for name in ("box", "polygon") if row.get(name) is not None
        }
        scaled.append({**row, **shapes})
    return scaled


def _unread(others: dict[str, int]) -> list[Any]:
    if not any(others.values()):
        return []
    return [finding("shape_not_read", "warning", f"left out, being no classes of images: {_listed(others)}")]


def _listed(others: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in others.items() if count)


def _meta(table: ImageTable) -> Iterator[str]:
    yield "<meta><task><labels>"
    attributes = [name for name in attribute_columns(table) if name not in _DIRECT]
    for name in table.labels.names:
        yield f"<label><name>{_escaped(name)}</name><attributes>"
        for column in attributes:
            yield f"<attribute><name>{_escaped(column)}</name><mutable>False</mutable><input_type>text</input_type>"
            yield "<default_value></default_value><values></values></attribute>"
        yield "</attributes></label>"
    yield "</labels></task></meta>"


def _picture_lines(picture: Picture, position: int) -> list[str]:
    subset = f" subset={quoteattr(picture.split)}" if picture.split else ""
    size = f'width="{picture.width}" height="{picture.height}"'
    lines = [f'<image id="{position}" name={quoteattr(picture.name)}{subset} {size}>']
    for note in picture.notes:
        lines += _note_lines(note, picture)
    return [*lines, "</image>"]


def _note_lines(note: Note, picture: Picture) -> Iterator[str]:
    """A box, or its polygon where that has exactly the box around it, or a tag."""
    direct = "".join(
        f" {name}={quoteattr(_text(note.attributes[name]))}" for name in _DIRECT if name in note.attributes
    )
    start = f"label={quoteattr(note.text)}{direct}"
    tag = "tag" if note.box is None else "polygon" if _is_around(note) else "box"
    if tag == "polygon":
        values = [shown(value) for value in in_pixels(note.polygon or (), picture.width, picture.height)]
        start += f' points="{";".join(map(",".join, zip(values[::2], values[1::2], strict=True)))}"'
    elif note.box is not None:
        sides = zip(("xtl", "ytl", "xbr", "ybr"), in_pixels(note.box, picture.width, picture.height), strict=True)
        start += "".join(f' {side}="{shown(value)}"' for side, value in sides)
    yield f"<{tag} {start}>"
    for name, value in note.attributes.items():
        if name not in _DIRECT:
            yield f"<attribute name={quoteattr(name)}>{_escaped(_text(value))}</attribute>"
    yield f"</{tag}>"


def _is_around(note: Note) -> bool:
    if not note.polygon or note.box is None:
        return False
    x, y = note.polygon[::2], note.polygon[1::2]
    return (min(x), min(y), max(x), max(y)) == tuple(note.box)


def _text(value: Value) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _escaped(text: str) -> str:
    return escape(text, {"\r": "&#13;"})
