"""YOLO: a text file for each image, one box (or polygon) a line, class numbers that `data.yaml` or `classes.txt` names.

`images/` and `labels/` side by side, with split folders inside or outside, or label files beside their images. Numbers
are fractions of the image. The classification layout of Ultralytics is plain class folders: see `folders`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from sortal.core.errors import DataError
from sortal.core.publish import publish_folder
from sortal.data.boxes import polygon_bounds
from sortal.data.formats import glimpse
from sortal.data.formats.annotated import FOUND, Annotated, annotated_table, gathered
from sortal.data.formats.classes import SPLIT_NAMES, read_class_list
from sortal.data.formats.exact import Number, decimal, difference, half, number, shown, total
from sortal.data.formats.options import Images, ReadOptions, Written
from sortal.data.formats.pictures import Note, left_behind, pictures, whole_images_reason
from sortal.data.formats.placing import Failures, check_free, place, sources, whole_names
from sortal.data.formats.tree import IMAGE_SUFFIXES, Tree, tree_of
from sortal.data.table import REJECTED_SCHEMA, ImageTable, finding

CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels", "labels/classes.txt")
NAN = float("nan")

_LINE = re.compile(rb"\s*\d{1,6}(?:\s+[-+.\deE]+){4,}\s*(?:\r?\n|$)")
_LABELS = re.compile(r"(?i)(^|/)labels(/.*)?$")


def sniff(path: Path | Tree) -> bool:
    """A folder or archive with label files: text files of the names of images that hold a class number and a box."""
    names = glimpse.names(path)
    stems = {_stem(name) for name in names if name.lower().endswith(IMAGE_SUFFIXES)}
    texts = [name for name in names if name.lower().endswith(".txt") and name.rpartition("/")[2] not in CLASS_FILES]
    labels = [name for name in texts if _LABELS.search(name.rpartition("/")[0]) or _stem(name) in stems]
    return any(_LINE.match(glimpse.head(path, name)) for name in labels[:20])


def read(path: Path, options: ReadOptions) -> ImageTable:
    """Boxes as rows; classes in the order of their numbers. Raises DataError for a folder without labels."""
    return read_tree(tree_of(path), options)


def read_tree(tree: Tree, options: ReadOptions) -> ImageTable:
    """`read` of a listed tree. Lines that are no box are named in `rejected`."""
    settings = _settings(tree)
    names = _class_names(tree, settings)
    images = tree.images().select("path", name="path", labels=_label_path())
    beside = images["path"].str.replace(r"\.[^./]+$", ".txt")
    here = tree.has(images["labels"])
    images = images.with_columns(labels=pl.select(pl.when(here).then(images["labels"]).otherwise(beside)).to_series())
    images = images.with_columns(split=_splits(tree, images["path"], settings))
    position = {label: row for row, label in enumerate(images["labels"])}
    files = tree.files.filter(pl.col("path").is_in(images["labels"].implode()))
    if not files.height:
        raise DataError("no label file belongs to an image", where=tree.source, hint="expected images/ and labels/")
    found: list[dict[str, Any]] = []
    bad: list[tuple[str, str, str]] = []
    for path, text in tree.texts(files):
        for line, values in _lines(text, pose="kpt_shape" in settings):
            if values is None:
                bad.append((f"{path}, line {line}", "bad_annotation", "not a class number and a box or polygon"))
            else:
                found.append({**values, "image": position[path], "text": _name(values["text"], names)})
    findings = []
    if bad:
        message = f"{len(bad)} lines are no boxes and are left out, the first in {bad[0][0]}"
        findings = [finding("bad_annotation", "warning", message, [name for name, _, _ in bad])]
    rejected = pl.DataFrame(bad, schema=REJECTED_SCHEMA, orient="row")
    used = {row["text"] for row in found}
    order = [*names, *sorted(used - set(names), key=lambda name: (len(name), name))]
    images = images.drop("labels")
    notes = Annotated(images=images, found=gathered(found, FOUND), order=order, findings=findings, rejected=rejected)
    return annotated_table(tree, notes, options)


def can_hold(table: ImageTable) -> str | None:
    """YOLO's detection layout has no classes of whole images."""
    reason = whole_images_reason(table)
    return reason and f"{reason}; its classification layout is --to folder"


def loses(table: ImageTable) -> tuple[str, ...]:
    """No attributes and no coarse classes; polygons where every row has one and its box lies close around it."""
    shapes = ("polygons",) if _as_polygons(table) else ()
    return left_behind(table, "split", "fractions", "images", "boxes", *shapes)


def write(table: ImageTable, path: Path, *, images: Images = "link", replace: bool = False) -> Written:
    """`images`, `labels` and `data.yaml` in the folder `path`; the images linked, or copied.

    Raises DataError when `can_hold` says why not, or there is something at `path`.
    """
    if (reason := can_hold(table)) is not None:
        raise DataError(f"YOLO cannot hold this: {reason}", where=table.source)
    check_free(path, replace=replace)
    splits = table.frame["split"].to_list()
    used = sorted({split for split in splits if split})
    folders = [f"{splits[row] or 'other'}/" if used else "" for row in sources(table).first.tolist()]
    names, failures, rows, shapes = whole_names(table, folders), Failures(), 0, _as_polygons(table)
    first = {name: row for row, name in reversed(names.items())}

    def fill(folder: Path) -> None:
        nonlocal rows
        for part in ("images", "labels"):
            for below in set(folders):
                (folder / part / below).mkdir(parents=True, exist_ok=True)
        for picture in pictures(table, names, failures):
            if place(table, first[picture.name], folder / "images" / picture.name, images, failures):
                lines = "".join(f"{_line(note, shapes=shapes)}\n" for note in picture.notes)
                label = (folder / "labels" / picture.name).with_suffix(".txt")
                label.write_text(lines, encoding="utf-8", newline="\n")
                rows += len(picture.notes)
        (folder / "data.yaml").write_text(_yaml(table, used), encoding="utf-8", newline="\n")

    publish_folder(path, fill, replace=replace)
    return Written(path=path, rows=rows, findings=failures.findings())


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]


def _settings(tree: Tree) -> dict[str, Any]:
    """The first YAML file at the top (or one folder below) that has `names`."""
    for name in tree.files["path"].filter(tree.files["path"].str.contains(r"(?i)^([^/]+/)?[^/]+\.ya?ml$")):
        try:
            content = yaml.safe_load(tree.text(name) or "")
        except (yaml.YAMLError, RecursionError) as error:
            raise DataError(f"not valid YAML: {error}", where=tree.where(name)) from error
        if isinstance(content, dict) and isinstance(content.get("names"), list | dict):
            return {**content, "_base": name.rpartition("/")[0]}
    return {}


def _class_names(tree: Tree, settings: dict[str, Any]) -> list[str]:
    """Names by number; a number without a name is its own."""
    given = settings.get("names")
    if isinstance(given, list):
        given = dict(enumerate(given))
    if isinstance(given, dict):
        given = {key: name for key, name in given.items() if isinstance(name, str | int | float)}
        numbered = {int(key): str(name) for key, name in given.items() if str(key).isdecimal() and int(key) < 1 << 20}
        return [numbered.get(key, str(key)) for key in range(max(numbered, default=-1) + 1)]
    for name in CLASS_FILES:
        text = tree.text(name)
        if text is not None:
            return read_class_list(tree.where(name), text)
    return []


def _name(text: str, names: list[str]) -> str:
    position = int(text)
    return names[position] if position < len(names) else text


def _label_path() -> pl.Expr:
    """`a/images/b/c.jpg` as `a/labels/b/c.txt`, the last folder called images counting; null without one."""
    other = pl.col("path").str.replace(r"(?i)^(.*/)?images/(.*)\.[^./]+$", "${1}labels/${2}.txt")
    return pl.when(other != pl.col("path")).then(other)


def _splits(tree: Tree, paths: pl.Series, settings: dict[str, Any]) -> pl.Series:
    """From `data.yaml`, else from the names of folders."""
    frame = pl.DataFrame({"path": paths}).with_columns(split=pl.lit(None, dtype=pl.String))
    given = {key: _entries(settings.get(key)) for key in ("train", "val", "test")}
    flat = [entry for entries in given.values() for entry in entries]
    for split, entries in given.items():
        for entry in (entry for entry in entries if flat.count(entry) == 1):
            held = _held(tree, settings["_base"], entry)
            frame = frame.with_columns(split=pl.when(held).then(pl.lit(split)).otherwise("split"))
    if frame["split"].null_count() < frame.height:
        return frame["split"]
    words = "|".join(SPLIT_NAMES)
    found = paths.str.to_lowercase().str.extract(rf"(?:^|/)({words})[0-9]*/")
    return found.replace_strict(SPLIT_NAMES, default=None, return_dtype=pl.String)


def _entries(value: object) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    return [re.sub(r"^(\.{1,2}/)+", "", entry).strip("/") for entry in listed if isinstance(entry, str)]


def _held(tree: Tree, base: str, entry: str) -> pl.Expr:
    """Which paths belong to a folder or list file of `data.yaml`."""
    place = f"{base}/{entry}".strip("/")
    if entry.endswith(".txt"):
        lines = [re.sub(r"^(\.{1,2}/)+", "", line.strip()) for line in (tree.text(place) or "").splitlines()]
        listed = pl.Series([f"{base}/{line}".strip("/") for line in lines if line], dtype=pl.String)
        return pl.col("path").is_in(listed.implode())
    return pl.col("path").str.starts_with(f"{place}/")


def _lines(text: str, *, pose: bool) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """(line number, class and box or polygon), None where a line is neither; empty lines are left out.

    In files for `pose` keypoints follow the box, which are not read.
    """
    for position, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        values = [number(field) for field in fields[1:]]
        if not re.fullmatch(r"\d{1,6}", fields[0], re.ASCII) or len(values) < 4:
            yield position, None
        elif pose or len(values) in (4, 5):  # a fifth number is a detector's confidence
            yield position, {"text": fields[0], "box": _box(values)}
        elif len(values) % 2 == 0:
            yield position, {"text": fields[0], "polygon": [float(value) for value in values]}
        else:
            yield position, None


def _box(values: list[Number]) -> list[float]:
    x, y, width, height = values[:4]
    sides = (half(width), half(height))
    low, high = [difference(x, sides[0]), difference(y, sides[1])], [total(x, sides[0]), total(y, sides[1])]
    return [float(value) if not value.is_nan() else NAN for value in (*low, *high)]


def _as_polygons(table: ImageTable) -> bool:
    """Whether polygons can stand for the boxes: the layout mixes no boxes and polygons."""
    frame = table.frame.filter(pl.col("region").is_not_null() & (pl.col("label") >= 0))
    if "polygon" not in frame.columns or not frame.height or frame["polygon"].null_count():
        return False
    box = "box" if "box" in frame.columns else "region"
    close = frame.select((polygon_bounds() == pl.col(box)).all()).item()
    return bool(close) and bool((frame["polygon"].list.len() >= 6).all())


def _line(note: Note, *, shapes: bool) -> str:
    if shapes and note.polygon:
        return f"{note.label} {' '.join(shown(value) for value in note.polygon)}"
    x0, y0, x1, y1 = map(decimal, note.box or (0.0, 0.0, 1.0, 1.0))
    numbers = (half(total(x0, x1)), half(total(y0, y1)), difference(x1, x0), difference(y1, y0))
    return f"{note.label} {' '.join(map(shown, numbers))}"


def _yaml(table: ImageTable, splits: list[str]) -> str:
    """Ultralytics wants train and val; without a split both are all images."""
    places = {split: f"images/{split}" for split in splits} or {"train": "images", "val": "images"}
    names = dict(enumerate(table.labels.names))
    return yaml.safe_dump({"path": ".", **places, "names": names}, allow_unicode=True, sort_keys=False)
