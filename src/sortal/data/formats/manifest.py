"""The JSON manifest: `{"images": [{"id", "file_path", "annotations": [{"class_id", "label"}]}]}`, read and written.

Exactly this structure is accepted, with an optional `split` for each image. Relative paths are relative to the
manifest's folder, or to the one above where that is where the images are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as replaced
from pathlib import Path, PurePosixPath

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from sortal.core.canonical import parse, pretty
from sortal.core.errors import DataError, InputError, MachineError
from sortal.core.labels import LabelSet
from sortal.core.publish import publish_file
from sortal.core.report import Finding
from sortal.data.formats.classes import label_findings, normal_splits, tidy
from sortal.data.formats.options import Images, ReadOptions, Written
from sortal.data.formats.pictures import left_behind
from sortal.data.formats.placing import Failures, beside, check_free
from sortal.data.formats.rows import Rows
from sortal.data.table import ImageTable, build_table, finding

_OWN = ("id", "class_id")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Annotation(_Model):
    """One class of one image."""

    class_id: StrictInt = Field(ge=0)
    label: StrictStr = Field(min_length=1)


class Image(_Model):
    """One image; no annotation means that its class is unknown."""

    id: StrictInt | StrictStr
    file_path: StrictStr = Field(min_length=1)
    annotations: tuple[Annotation, ...] = ()
    split: StrictStr | None = None


class Manifest(_Model):
    """The whole file; `Manifest.model_json_schema()` is its JSON Schema."""

    images: tuple[Image, ...] = Field(min_length=1)


def sniff(path: Path) -> bool:
    """A `.json` file whose beginning has the key `images`."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return b'"images"' in file.read(65536)
    except OSError:
        return False


def read(path: Path, _options: ReadOptions) -> ImageTable:
    """A row for each image, `id` and `class_id` kept as columns. Raises DataError that names the first wrong entry."""
    images = _load(path).images
    labels, numbers, ids = _labels(images, path)
    frame = pl.DataFrame(
        {
            "uri": [image.file_path.replace("\\", "/").removeprefix("./") for image in images],
            "label": [numbers[i] if i is not None else -1 for i in ids],
            "split": normal_splits(pl.Series([image.split for image in images], dtype=pl.String), str(path)),
            "id": _ids(images),
            "class_id": pl.Series(ids, dtype=pl.Int64),
        }
    )
    root = _root(path, frame["uri"])
    rows = Rows(frame)
    rows.reject_missing(root)
    table = build_table(
        rows.frame, labels=labels, source=str(path), root=root, findings=rows.findings, rejected=rows.rejected
    )
    return table.with_findings(*_unlabeled(table), *_folder_disagrees(table), *label_findings(table))


def can_hold(table: ImageTable) -> str | None:
    """Paths are written with `/` only."""
    odd = table.frame["uri"].filter(table.frame["uri"].str.contains("\\", literal=True))
    return f"it has no backslashes in paths, as in {odd[0]!r}" if odd.len() else None


def loses(table: ImageTable) -> tuple[str, ...]:
    """Only class and split are kept, beside `id` and `class_id`; boxes become images of their own."""
    plain = replaced(table, frame=table.frame.drop([name for name in _OWN if name in table.frame.columns]))
    return left_behind(plain, "split", "images")


def write(table: ImageTable, path: Path, *, images: Images = "refer", replace: bool = False) -> Written:
    """A manifest that reads back to the same rows; crops, members and frames become files in `<stem>-images`.

    `id` and `class_id` of a table that has them are kept where they still fit. Raises DataError when `can_hold` says
    why not, or there is something at `path`.
    """
    if (reason := can_hold(table)) is not None:
        raise DataError(f"a manifest cannot hold this: {reason}", where=table.source)
    check_free(path, replace=replace)
    failures, frame = Failures(), table.frame
    names = beside(table, path, images, failures, crops=True, replace=replace)
    whole = "id" in frame.columns and frame["id"].n_unique() == len(table)
    ids = frame["id"].to_list() if whole else list(range(len(table)))
    class_ids = frame["class_id"] if _fits(frame) else frame["label"]
    values = zip(ids, frame["label"], class_ids, frame["split"], strict=True)
    entries = [_entry(table, names[row], *parts) for row, parts in enumerate(values) if row in names]
    publish_file(path, pretty({"images": entries}).encode())
    return Written(path=path, rows=len(entries), findings=failures.findings())


def _fits(frame: pl.DataFrame) -> bool:
    """Whether the column `class_id` still means the classes: one number each, none shared."""
    if "class_id" not in frame.columns or frame["class_id"].dtype != pl.Int64:
        return False
    pairs = frame.filter(pl.col("label") >= 0).select("label", "class_id").unique()
    good = pairs["class_id"].null_count() == 0 and bool((pairs["class_id"] >= 0).all())
    return good and pairs["label"].n_unique() == pairs.height == pairs["class_id"].n_unique()


def _entry(
    table: ImageTable, uri: str, key: int | str, label: int, class_id: int, split: str | None
) -> dict[str, object]:
    annotations = [] if label < 0 else [{"class_id": class_id, "label": table.labels.names[label]}]
    entry: dict[str, object] = {"id": key, "file_path": uri, "annotations": annotations}
    return entry if split is None else {**entry, "split": split}


def _load(path: Path) -> Manifest:
    try:
        return Manifest.model_validate(parse(path.read_bytes(), where=str(path)))
    except OSError as error:
        raise MachineError(f"cannot read this file: {error.strerror}", where=str(path)) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{place}: {first['msg']}", where=str(path), received=repr(first["input"])[:80]) from error
    except InputError as error:
        raise DataError(error.what, where=error.where) from error


def _ids(images: Sequence[Image]) -> pl.Series:
    keys = [image.id for image in images]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DataError("an image id is given twice", received=str(twice))
    whole = all(isinstance(key, int) for key in keys)
    return pl.Series(keys if whole else [str(key) for key in keys], dtype=pl.Int64 if whole else pl.String)


def _labels(images: Sequence[Image], path: Path) -> tuple[LabelSet, dict[int, int], list[int | None]]:
    """The classes in order of their ids, index by id, and the id of each image (None = unknown)."""
    names: dict[int, str] = {}
    ids: list[int | None] = []
    for image in images:
        for annotation in image.annotations:
            known = names.setdefault(annotation.class_id, tidy(annotation.label))
            if known != tidy(annotation.label):
                received = f"class_id {annotation.class_id} is {known!r} and {annotation.label!r}"
                raise DataError("class_id and label disagree", where=f"{path}, image {image.id}", received=received)
        found = {annotation.class_id for annotation in image.annotations}
        if len(found) > 1:
            hint = "sortal learns one class an image"
            raise DataError(
                "multi-label data", where=f"{path}, image {image.id}", received=f"{len(found)} classes", hint=hint
            )
        ids.append(found.pop() if found else None)
    order = sorted(names)
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        raise DataError("a label has more than one class_id", where=str(path), received=", ".join(twice[:5]))
    return LabelSet(names=tuple(names[i] for i in order)), {key: i for i, key in enumerate(order)}, ids


def _root(path: Path, uris: pl.Series) -> Path:
    """The manifest's folder, or the one above when the first images are there and not here."""
    first = uris.head(100)
    here = any((path.parent / uri).exists() for uri in first)
    above = path.parent.absolute().parent
    return above if not here and any((above / uri).exists() for uri in first) else path.parent


def _unlabeled(table: ImageTable) -> list[Finding]:
    rows = table.frame.filter(pl.col("label") < 0)["uri"]
    return (
        [finding("missing_label", "warning", f"{len(rows)} images have no annotation", rows.head(1000))]
        if len(rows)
        else []
    )


def _folder_disagrees(table: ImageTable) -> list[Finding]:
    known = set(table.labels.names)
    rows = [
        f"{uri}: folder {folder}, label {table.labels.names[label]}"
        for uri, label in table.frame.select("uri", "label").iter_rows()
        if (folder := tidy(PurePosixPath(uri).parent.name)) in known
        and label >= 0
        and table.labels.names[label] != folder
    ]
    if not rows:
        return []
    message = f"{len(rows)} images lie in the folder of another class than their label: {rows[0]}"
    named = [row.rpartition(": folder ")[0] for row in rows]
    return [finding("folder_label_disagrees", "warning", message, named, "the label in the manifest is used")]
