"""COCO: one JSON file with images, annotations and categories, alone or in a folder with one file a split.

Boxes and polygons; of masks in run-length encoding only the box is used. `supercategory` becomes the coarse class. An
annotation without box and without segmentation is a class of the whole image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sortal.core.errors import DataError
from sortal.core.publish import publish_file
from sortal.data.formats import glimpse
from sortal.data.formats.annotated import FOUND, IMAGES, Annotated, annotated_table, attribute, gathered
from sortal.data.formats.classes import SPLIT_NAMES
from sortal.data.formats.exact import corners, decimal, difference, given, read_json, total, write_json
from sortal.data.formats.locate import find_images, image_size
from sortal.data.formats.options import Images, ReadOptions, Written
from sortal.data.formats.pictures import Note, Picture, as_json, in_pixels, left_behind, pictures
from sortal.data.formats.placing import Failures, beside, check_free
from sortal.data.formats.tree import Tree, tree_of
from sortal.data.polygons import ring_area
from sortal.data.table import ImageTable

_ROOT = "no category"
NAN = float("nan")


def sniff(path: Path | Tree) -> bool:
    """A JSON file of this kind, or a folder or archive that holds one at its top or in a folder of annotations."""
    if glimpse.is_file(path, ".json") and isinstance(path, Path):
        return _is_coco(glimpse.head(path, size=1 << 16) + glimpse.tail(path))
    places = [name for name in glimpse.names(path) if _is_place(name)]
    return any(_is_coco(glimpse.head(path, name, size=1 << 16)) for name in places[:8])


def read(path: Path, options: ReadOptions) -> ImageTable:
    """Boxes as rows; classes in the order of their ids; attributes as columns. Raises DataError."""
    return read_tree(tree_of(path), options)


def read_tree(tree: Tree, options: ReadOptions) -> ImageTable:
    """`read` of a listed tree."""
    files = tree.files if tree.lone else tree.files.filter(pl.Series(map(_is_place, tree.files["path"])))
    images: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    categories: dict[str, str | None] = {}
    for name, data in tree.contents(files):
        content = read_json(data, tree.where(name))
        if not _is_whole(content):
            if tree.lone:
                hint = "expected lists images, annotations and categories"
                raise DataError("not a COCO file", where=tree.where(name), hint=hint)
            continue
        names = _categories(content["categories"], tree.where(name), categories)
        number = _images(content["images"], name, images)
        found += [_annotation(note, names, number) for note in content["annotations"] if isinstance(note, dict)]
    if not images:
        raise DataError("no COCO file with images here", where=tree.source)
    frame = gathered(images, IMAGES)
    folders = _folders(tree) + [f"{base}/" for base in frame["split_folder"].unique().drop_nulls()]
    frame = frame.with_columns(path=find_images(tree, frame["name"], frame["base"], folders)).drop("split_folder")
    rows = gathered(_in_fractions(tree, frame, found), FOUND)
    parents = {name: parent for name, parent in categories.items() if parent}
    return annotated_table(tree, Annotated(images=frame, found=rows, order=list(categories), parents=parents), options)


def can_hold(_table: ImageTable) -> str | None:
    """Everything that is no pixel array."""
    return None


def loses(table: ImageTable) -> tuple[str, ...]:
    """Hardly anything; coarse classes only where every class has one."""
    return left_behind(table, "split", "attributes", "polygons", "fractions", "parents", "images", "boxes")


def write(table: ImageTable, path: Path, *, images: Images = "refer", replace: bool = False) -> Written:
    """One JSON file; `split` is a key of each image. Raises DataError when there is something at `path`."""
    check_free(path, replace=replace)
    failures = Failures()
    names = beside(table, path, images, failures, crops=False, replace=replace)
    parents = table.labels.parents or ("",) * len(table.labels)
    categories = [
        {"id": number + 1, "name": name, "supercategory": parent}
        for number, (name, parent) in enumerate(zip(table.labels.names, parents, strict=True))
    ]
    listed: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for picture in pictures(table, names, failures):
        size = {"width": picture.width, "height": picture.height}
        split = {"split": picture.split} if picture.split else {}
        listed.append({"id": len(listed) + 1, "file_name": picture.name, **size, **split})
        notes += [
            _entry(note, picture, len(listed), len(notes) + place + 1) for place, note in enumerate(picture.notes)
        ]
    content = {"info": {"description": "written by Sortal"}, "images": listed, "annotations": notes}
    publish_file(path, write_json({**content, "categories": categories}))
    return Written(path=path, rows=len(notes), findings=failures.findings())


def _is_place(name: str) -> bool:
    parts = name.split("/")
    folder = parts[-2].casefold() if len(parts) > 1 else ""
    return parts[-1].lower().endswith(".json") and (len(parts) == 1 or folder in ("annotations", *SPLIT_NAMES))


def _is_coco(start: bytes) -> bool:
    text = re.sub(rb"\s", b"", start)
    told = b'"categories":[' in text or b'"image_id":' in text or (b'"file_name":' in text and b'"images":[' in text)
    return told and b'"file_path":' not in text and text.startswith(b"{")


def _is_whole(content: object) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    )


def _categories(listed: list[Any], where: str, known: dict[str, str | None]) -> dict[Any, str]:
    """Names by id, in the order of the ids; `known` grows by them and their parents."""
    names: dict[Any, str] = {}
    try:
        for entry in sorted(listed, key=lambda entry: entry["id"]):
            name, parent = str(entry["name"]), entry.get("supercategory")
            names[entry["id"]] = name
            known.setdefault(name, str(parent) if parent and parent not in ("none", name) else None)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError("a category has an id and a name", where=where) from error
    return names


def _images(listed: list[Any], name: str, images: list[dict[str, Any]]) -> dict[Any, int]:
    """Row numbers by image id; `images` grows by the images of one file."""
    base, _, file = name.rpartition("/")
    split, folder = _split_of(file, base)
    numbers: dict[Any, int] = {}
    for entry in listed:
        if not isinstance(entry, dict) or not entry.get("file_name") or "id" not in entry:
            raise DataError("an image has an id and a file_name", where=name, received=str(entry)[:80])
        numbers[entry["id"]] = len(images)
        given_split = SPLIT_NAMES.get(str(entry.get("split", "")).casefold())
        size = {f"_canvas_{side}": _side(entry.get(side)) for side in ("width", "height")}
        own = {"name": str(entry["file_name"]), "base": base, "split": given_split or split, "split_folder": folder}
        images.append({**own, **size})
    return numbers


def _split_of(file: str, base: str) -> tuple[str | None, str | None]:
    """The split, and the folder of images in COCO's own layout: `val` and `val2017` for `instances_val2017.json`."""
    for word in re.split(r"[_\-. ]", Path(file).stem):
        split = SPLIT_NAMES.get(re.sub(r"\d+$", "", word).casefold())
        if split:
            return split, word
    return SPLIT_NAMES.get(base.rpartition("/")[2].casefold()), None


def _side(value: object) -> int | None:
    size = given(value)
    return int(size) if size == size and 0 < size < 1 << 31 else None


def _annotation(note: Mapping[str, Any], names: Mapping[Any, str], number: Mapping[Any, int]) -> dict[str, Any]:
    """Coordinates stay in pixels here: the size of the image may have to be looked up."""
    marks = note.get("attributes") if isinstance(note.get("attributes"), dict) else {}
    found = {attribute(str(name)): value for name, value in (marks or {}).items()}
    found |= {"iscrowd": "1"} if note.get("iscrowd") else {}
    polygon = _polygon(note.get("segmentation"))
    box = note.get("bbox")
    if isinstance(box, list) and len(box) == 4:
        x, y, width, height = map(given, box)
        found["box"] = [x, y, total(x, width), total(y, height)]
    elif box or (note.get("segmentation") and polygon is None):
        found["box"] = [NAN] * 4
    return {
        **found,
        "image": number.get(note.get("image_id")),
        "text": names.get(note.get("category_id")),
        "polygon": polygon,
    }


def _polygon(segmentation: object) -> list[Any] | None:
    """The largest of the polygons."""
    if not isinstance(segmentation, list):
        return None
    if segmentation and not isinstance(segmentation[0], list):
        segmentation = [segmentation]
    rings = [[given(value) for value in ring] for ring in segmentation if isinstance(ring, list)]
    rings = [ring for ring in rings if len(ring) >= 6 and len(ring) % 2 == 0]
    return max(rings, key=ring_area, default=None)


def _folders(tree: Tree) -> list[str]:
    """Beside a lone file: the folders of its folder and of the one above."""
    if not tree.lone:
        return []
    try:
        places = [entry for top in (tree.root, tree.root.absolute().parent) for entry in sorted(top.iterdir())]
        return list(dict.fromkeys(f"{entry.name}/" for entry in places[:400] if entry.is_dir()))[:60]
    except OSError:
        return []


def _in_fractions(tree: Tree, images: pl.DataFrame, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    sizes = list(images.select("_canvas_width", "_canvas_height").iter_rows())
    paths = images["path"].to_list()
    scaled = []
    for row in found:
        place = row["image"]
        if place is None:
            continue
        if None in sizes[place]:
            sizes[place] = image_size(tree, paths[place])
        shapes = {name: corners(row[name], sizes[place]) for name in ("box", "polygon") if row.get(name) is not None}
        scaled.append({**row, **shapes})
    return scaled


def _entry(note: Note, picture: Picture, image: int, number: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": number, "image_id": image, "category_id": note.label + 1, "iscrowd": 0}
    marks = {name: as_json(value) for name, value in note.attributes.items() if name != "iscrowd"}
    entry |= {"iscrowd": 1} if note.attributes.get("iscrowd") else {}
    if note.box is not None:
        x0, y0, x1, y1 = in_pixels(note.box, picture.width, picture.height)
        width, height = _plain(difference(x1, x0)), _plain(difference(y1, y0))
        entry |= {"bbox": [x0, y0, width, height], "area": float(width) * float(height)}
    if note.polygon:
        entry["segmentation"] = [in_pixels(note.polygon, picture.width, picture.height)]
    return {**entry, "attributes": marks} if marks else entry


def _plain(value: Any) -> Any:
    whole = int(value)
    return whole if decimal(whole) == value else value
