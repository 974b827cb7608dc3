"""Pascal VOC and LabelImg: one XML file an image, alone or in a folder, with or without the folders of the challenge.

`JPEGImages/`, `Annotations/` and `ImageSets/Main/{train,val,test}.txt` are used where they are there. Corners are taken
as edges of pixels, as LabelImg writes them: `xmin / width` to `xmax / width`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

import polars as pl

from sortal.core.errors import DataError
from sortal.core.publish import publish_folder
from sortal.core.report import Finding
from sortal.data.formats import glimpse
from sortal.data.formats.annotated import FOUND, IMAGES, Annotated, annotated_table, attribute, gathered
from sortal.data.formats.classes import SPLIT_NAMES
from sortal.data.formats.exact import corners, number
from sortal.data.formats.locate import find_images, image_size
from sortal.data.formats.options import Images, ReadOptions, Written
from sortal.data.formats.pictures import (
    Note,
    Picture,
    in_pixels,
    left_behind,
    pictures,
    plain_text_reason,
    whole_images_reason,
)
from sortal.data.formats.placing import Failures, check_free, place, whole_names
from sortal.data.formats.safe_xml import parse_xml, text_of
from sortal.data.formats.tree import IMAGE_SUFFIXES, Tree, tree_of
from sortal.data.table import REJECTED_SCHEMA, ImageTable, finding

_FOLDERS = {"annotations", "annotation", "xml", "xmls", "labels", *SPLIT_NAMES}
_SETS = re.compile(r"(?i)(?:^|/)ImageSets/Main/(train|val|test)\.txt$")
_KNOWN = {"name", "bndbox", "attributes", "part", "polygon"}


def sniff(path: Path | Tree) -> bool:
    """An XML file, or a folder or archive with XML files at its top, in a folder of annotations or in split folders."""
    if glimpse.is_file(path, ".xml"):
        return _is_voc(glimpse.head(path))
    found = next((name for name in glimpse.names(path) if _is_place(name)), None)
    return found is not None and _is_voc(glimpse.head(path, found))


def read(path: Path, options: ReadOptions) -> ImageTable:
    """Boxes as rows, with `difficult`, `truncated`, `pose` and other marks as columns. Raises DataError."""
    return read_tree(tree_of(path), options)


def read_tree(tree: Tree, options: ReadOptions) -> ImageTable:
    """`read` of a listed tree. A file that is no VOC annotation is a finding."""
    files = tree.files.filter(pl.col("path").str.to_lowercase().str.ends_with(".xml"))
    images: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    bad: list[tuple[str, str, str]] = []
    for name, data in tree.contents(files):
        try:
            image, boxes = _parse(data, name, len(images))
        except DataError as error:
            if tree.lone:
                raise
            bad.append((name, "bad_annotation", error.what))
            continue
        images.append(image)
        found.extend(boxes)
    if not images:
        reason = bad[0][2] if bad else "no XML file"
        raise DataError("no VOC annotation here", where=tree.source, received=reason)
    frame = _with_paths(tree, gathered(images, IMAGES))
    frame = frame.with_columns(split=_splits(tree, frame))
    rows = gathered(_in_fractions(tree, frame, found), FOUND)
    rejected = pl.DataFrame(bad, schema=REJECTED_SCHEMA, orient="row")
    notes = Annotated(images=frame, found=rows, findings=_bad(bad), rejected=rejected)
    return annotated_table(tree, notes, options)


def can_hold(table: ImageTable) -> str | None:
    """VOC has no classes of whole images."""
    return whole_images_reason(table) or plain_text_reason(table)


def loses(table: ImageTable) -> tuple[str, ...]:
    """No polygons, no coarse classes, no corners between pixels."""
    return left_behind(table, "split", "attributes", "images", "boxes")


def write(table: ImageTable, path: Path, *, images: Images = "link", replace: bool = False) -> Written:
    """`JPEGImages`, `Annotations` and `ImageSets/Main` in the folder `path`; the images linked, or copied.

    Raises DataError when `can_hold` says why not, or there is something at `path`.
    """
    if (reason := can_hold(table)) is not None:
        raise DataError(f"VOC cannot hold this: {reason}", where=table.source)
    check_free(path, replace=replace)
    failures, rows, names = Failures(), 0, whole_names(table)
    first = {name: row for row, name in reversed(names.items())}

    def fill(folder: Path) -> None:
        nonlocal rows
        splits: dict[str, list[str]] = {}
        for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (folder / part).mkdir(parents=True)
        for picture in pictures(table, names, failures):
            if not place(table, first[picture.name], folder / "JPEGImages" / picture.name, images, failures):
                continue
            stem = Path(picture.name).stem
            (folder / "Annotations" / f"{stem}.xml").write_text(_document(picture), encoding="utf-8", newline="\n")
            splits.setdefault(picture.split or "", []).append(stem)
            rows += len(picture.notes)
        for split in (split for split in splits if split):
            (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(
                "".join(f"{stem}\n" for stem in splits[split]), encoding="utf-8", newline="\n"
            )

    publish_folder(path, fill, replace=replace)
    return Written(path=path, rows=rows, findings=failures.findings())


def _is_place(name: str) -> bool:
    parts = name.casefold().split("/")
    return parts[-1].endswith(".xml") and (len(parts) == 1 or parts[-2] in _FOLDERS)


def _is_voc(start: bytes) -> bool:
    return re.search(rb"<annotation[\s>]", start) is not None


def _parse(data: bytes, name: str, position: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    root = parse_xml(data, name)
    if root.tag != "annotation":
        raise DataError(f"the root element is {root.tag!r}, not 'annotation'", where=name)
    size = root.find("size")
    width, height = (None if size is None else _pixels(text_of(size, side)) for side in ("width", "height"))
    filename = text_of(root, "filename") or Path(name).stem
    image: dict[str, Any] = {"name": filename, "base": name.rpartition("/")[0], "annotation": name}
    image |= {"_canvas_width": width, "_canvas_height": height, "folder": text_of(root, "folder")}
    return image, [_object(element, position) for element in root.iter("object")]


def _object(element: Element, position: int) -> dict[str, Any]:
    box = element.find("bndbox")
    sides = [number(None if box is None else text_of(box, side)) for side in ("xmin", "ymin", "xmax", "ymax")]
    marks = {attribute(part.tag): text_of(element, part.tag) for part in element if part.tag not in _KNOWN}
    marks |= {attribute(name): value for name, value in _attributes(element)}
    marks.pop("pose" if marks.get("pose") == "Unspecified" else "", None)
    return {**marks, "image": position, "text": text_of(element, "name"), "box": sides}


def _attributes(element: Element) -> Iterator[tuple[str, str | None]]:
    """The extension that CVAT writes."""
    for part in element.iterfind("attributes/attribute"):
        name = text_of(part, "name")
        if name:
            yield name, text_of(part, "value")


def _pixels(text: str | None) -> int | None:
    value = number(text)
    return int(value) if value == value and 0 < value < 1 << 31 else None


def _with_paths(tree: Tree, images: pl.DataFrame) -> pl.DataFrame:
    """Looked for under `filename`, then under the annotation's own name with the suffixes of images."""
    folders = [f"{name}/" for name in images["folder"].unique().drop_nulls().head(20)] if "folder" in images else []
    paths = find_images(tree, images["name"], images["base"], folders)
    own = images["annotation"].str.extract(r"([^/]+)\.[^./]+$")
    for suffix in IMAGE_SUFFIXES:
        if not paths.null_count():
            break
        paths = paths.fill_null(find_images(tree, own + suffix, images["base"], folders))
    return images.drop([name for name in ("folder",) if name in images.columns]).with_columns(path=paths)


def _splits(tree: Tree, images: pl.DataFrame) -> pl.Series:
    """From `ImageSets/Main`, else from split folders above the annotation."""
    names = images["annotation"].str.extract(r"([^/]+)\.[^./]+$")
    splits: dict[str, str] = {}
    sets = tree.files.filter(pl.col("path").str.contains(_SETS.pattern))
    for path, text in tree.texts(sets):
        split = path.rpartition("/")[2].removesuffix(".txt").lower()
        for line in filter(str.strip, text.splitlines()):  # a name, or a name and -1, 0 or 1
            splits[line.strip()] = split
            splits.setdefault(re.sub(r"\s+-?[01]$", "", line.strip()), split)
    if splits:
        return names.replace_strict(splits, default=None, return_dtype=pl.String)
    folder = images["base"].str.extract(r"^(?:[^/]+/)??([^/]+)(?:/[^/]+)?$").str.to_lowercase()
    return folder.replace_strict(SPLIT_NAMES, default=None, return_dtype=pl.String)


def _in_fractions(tree: Tree, images: pl.DataFrame, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sizes = list(images.select("_canvas_width", "_canvas_height").iter_rows())
    paths = images["path"].to_list()
    for row in {row["image"] for row in found}:
        if None in sizes[row]:
            sizes[row] = image_size(tree, paths[row])
    return [{**row, "box": corners(row["box"], sizes[row["image"]])} for row in found]


def _bad(bad: list[tuple[str, str, str]]) -> list[Finding]:
    if not bad:
        return []
    message = f"{len(bad)} XML files are no VOC annotations and are left out: {bad[0][2]}"
    return [finding("bad_annotation", "warning", message, [name for name, _, _ in bad])]


_MARKS = ("pose", "truncated", "difficult", "occluded")


def _document(picture: Picture) -> str:
    size = f"<width>{picture.width}</width><height>{picture.height}</height><depth>3</depth>"
    lines = ["<annotation>", "<folder>JPEGImages</folder>", f"<filename>{_escaped(picture.name)}</filename>"]
    lines += [f"<size>{size}</size>", "<segmented>0</segmented>"]
    lines += [line for note in picture.notes for line in _object_lines(note, picture)]
    return "\n".join([*lines, "</annotation>"]) + "\n"


def _object_lines(note: Note, picture: Picture) -> list[str]:
    values = in_pixels(note.box or (0.0, 0.0, 1.0, 1.0), picture.width, picture.height)
    sides = zip(("xmin", "ymin", "xmax", "ymax"), map(round, values), strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    marks = [f"<{name}>{_escaped(_mark(note.attributes[name]))}</{name}>" for name in _MARKS if name in note.attributes]
    others = [
        f"<attribute><name>{_escaped(name)}</name><value>{_escaped(str(value))}</value></attribute>"
        for name, value in note.attributes.items()
        if name not in _MARKS
    ]
    attributes = [f"<attributes>{''.join(others)}</attributes>"] if others else []
    return [
        "<object>",
        f"<name>{_escaped(note.text)}</name>",
        *marks,
        f"<bndbox>{box}</bndbox>",
        *attributes,
        "</object>",
    ]


def _mark(value: object) -> str:
    return {"true": "1", "false": "0"}.get(str(value).casefold(), str(value))


def _escaped(text: str) -> str:
    return escape(text, {"\r": "&#13;"})
