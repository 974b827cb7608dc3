"""The step that repairs a table, a manifest or lists: the file written anew without the rows that are out, and with the
classes that the others have now. Image files stay where they are; the old file is kept beside the journal.

Columns, order, separators and encoding stay; lines of JSON and of lists that do not change stay to the byte.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sortal.core.canonical import parse, pretty
from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.data.formats.classes import tidy
from sortal.data.formats.folders import CLASS_LISTS
from sortal.data.formats.lists import LIST_NAMES
from sortal.data.formats.table_file import JSON_SUFFIXES, PARQUET_SUFFIXES, read_frame
from sortal.data.formats.tables import placed
from sortal.data.repair.journal import Script, Step
from sortal.data.repair.resolve import Changes, named_classes
from sortal.data.table import COLUMNS, ImageTable

_LINE = re.compile(
    r"(?P<path>.*?)(?P<a>\s*[,\t]\s*)(?P<id>[^,\t]*?)(?:(?P<b>\s*[,\t]\s*)(?P<coarse>[^,\t]*?))?(?P<end>\s*)"
)
_SPACED = re.compile(r"(?P<path>.*\S)(?P<a>\s+)(?P<id>\S+)(?P<b>)(?P<coarse>)(?P<end>\s*)")


def table_script(path: Path, _table: ImageTable, changes: Changes, label: str) -> Script:
    """Edit a CSV, TSV, JSON lines or Parquet table. Raises DataError where its label column cannot hold a class."""
    given = read_frame(path)
    roles, columns = placed(given, path, label)
    column = roles.get("label")
    if column is None and (changes.relabel or changes.classes):
        raise DataError("this table has no column of labels to change", where=str(path))
    frame = changes.applied(pl.DataFrame({"name": _names(columns), "class": _tidied(columns["text"])}))
    changed = frame["in"] & frame["after"].is_not_null() & frame["after"].ne_missing(frame["class"])
    edited = given if column is None else _with_labels(given, column, frame["after"], changed, path)
    old = path.read_bytes()
    new = _lines_of_json if path.suffix.lower() in JSON_SUFFIXES else _encoded
    return _script(path.parent, {path.name: (old, new(path, old, edited, frame["in"], changed))})


def manifest_script(path: Path, _table: ImageTable, changes: Changes, _label: str) -> Script:
    """Edit a JSON manifest; a class keeps its class_id, a new one gets the next."""
    old = path.read_bytes()
    data = parse(old, where=str(path))
    entries = data["images"]
    names = [entry["file_path"].replace("\\", "/").removeprefix("./") for entry in entries]
    labels = [tidy(notes[0]["label"]) if (notes := entry.get("annotations")) else None for entry in entries]
    frame = changes.applied(
        pl.DataFrame({"name": names, "class": labels}, schema={"name": pl.String, "class": pl.String})
    )
    ids = _class_ids(entries, frame)
    kept = [
        entry if after == label else {**entry, "annotations": [{"class_id": ids[after], "label": after}]}
        for entry, label, after, stays in zip(entries, labels, frame["after"], frame["in"], strict=True)
        if stays
    ]
    _refuse_empty(len(kept), path)
    return _script(path.parent, {path.name: (old, pretty({**data, "images": kept}).encode())})


def list_script(path: Path, table: ImageTable, changes: Changes, _label: str) -> Script:
    """Edit list files. Raises DataError for a class that none of their lines has, where ids are not the names."""
    root = path if path.is_dir() else path.parent
    files = [path] if path.is_file() else _list_files(path)
    known = named_classes(table)
    frame = changes.applied(known)
    rows = {name: (label, after, stays) for name, label, stays, after in frame.iter_rows()}
    base = files[0].parent.relative_to(root).as_posix()
    lines = {file: _split_lines(file) for file in files}
    ids = _list_ids(lines, rows, base, files[0].parent)
    texts = {
        file.relative_to(root).as_posix(): (
            file.read_bytes(),
            "".join(_line(line, rows, base, ids, file) for line in found).encode(),
        )
        for file, found in lines.items()
    }
    return _script(root, texts)


def _script(root: Path, texts: Mapping[str, tuple[bytes, bytes]]) -> Script:
    changed = {name: pair for name, pair in texts.items() if pair[0] != pair[1]}
    steps = tuple(
        Step(do="write", path=name, digest=hashlib.sha256(new).hexdigest(), old=hashlib.sha256(old).hexdigest())
        for name, (old, new) in changed.items()
    )
    folders = {Path(name).parent.as_posix() for name in changed}
    times = {folder: (root / folder).stat().st_mtime_ns for folder in {".", *folders}}
    return Script(steps=steps, texts=changed, folders=times)


def _refuse_empty(left: int, path: Path) -> None:
    if not left:
        raise DataError("the plan leaves no image", where=str(path))


def _names(columns: pl.DataFrame) -> pl.Series:
    """The row names that an ImageTable of these rows has, also for images that come twice."""
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in COLUMNS.items() if name not in columns.columns]
    frame = columns.with_columns(absent).select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
    return ImageTable(frame=frame, labels=LabelSet(names=()), source="", root=None).name_series()


def _tidied(texts: pl.Series) -> pl.Series:
    tidied = {text: tidy(text) for text in texts.unique().drop_nulls()}
    return texts.replace_strict(tidied, default=None, return_dtype=pl.String)


def _with_labels(given: pl.DataFrame, column: str, after: pl.Series, changed: pl.Series, path: Path) -> pl.DataFrame:
    kind = given.schema[column]
    values = after.cast(kind, strict=False)
    if (values.is_null() & changed).any():
        raise DataError(f"the column {column!r} holds {kind} and cannot hold a new class", where=str(path))
    return given.with_columns(pl.select(pl.when(changed).then(values).otherwise(given[column]).alias(column)))


def _encoded(path: Path, old: bytes, edited: pl.DataFrame, stays: pl.Series, _changed: pl.Series) -> bytes:
    kept = edited.filter(stays)
    _refuse_empty(kept.height, path)
    buffer = io.BytesIO()
    if path.suffix.lower() in PARQUET_SUFFIXES:
        kept.write_parquet(buffer)
        return buffer.getvalue()
    wide = old[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = old.decode("utf-16" if wide else "utf-8-sig")
    header = text.split("\n", 1)[0]
    separator = (
        "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=lambda mark: (header.count(mark), mark == ","))
    )
    kept.write_csv(buffer, separator=separator, line_terminator="\r\n" if header.endswith("\r") else "\n")
    if wide:
        return buffer.getvalue().decode().encode("utf-16")
    return (b"\xef\xbb\xbf" if old.startswith(b"\xef\xbb\xbf") else b"") + buffer.getvalue()


def _lines_of_json(path: Path, old: bytes, edited: pl.DataFrame, stays: pl.Series, changed: pl.Series) -> bytes:
    """Lines that stay as they are, but for the labels of the changed ones."""
    wide = old[:2] in (b"\xff\xfe", b"\xfe\xff")
    lines = [line for line in old.decode("utf-16" if wide else "utf-8-sig").splitlines() if line.strip()]
    _refuse_empty(int(stays.sum()), path)
    for row in changed.arg_true().to_list():
        data = parse(lines[row], where=str(path))
        new = edited.row(row, named=True)
        data = {
            key: new[key.strip()] if new[key.strip()] != value and isinstance(value, str | int | None) else value
            for key, value in data.items()
        }
        lines[row] = json.dumps(data, ensure_ascii=False)
    kept = pl.Series(lines, dtype=pl.String).filter(stays)
    return "".join(f"{line}\n" for line in kept).encode()


def _class_ids(entries: Sequence[Mapping[str, Any]], frame: pl.DataFrame) -> dict[str, int]:
    """class_id by name, as it is for the classes that stay; a renamed class keeps its own."""
    ids: dict[str, int] = {}
    notes: list[Mapping[str, Any]] = [(entry.get("annotations") or ({},))[0] for entry in entries]
    for note in notes:
        if note:
            ids.setdefault(tidy(note["label"]), note["class_id"])
    renamed = frame.filter(pl.col("class") != pl.col("after")).select("class", "after").unique(maintain_order=True)
    gone = set(frame["class"].drop_nulls()) - set(frame.filter(pl.col("in"))["after"].drop_nulls())
    for before, name in renamed.iter_rows():
        if name not in ids:
            ids[name] = ids[before] if before in gone and ids[before] not in _used(ids, gone) else max(ids.values()) + 1
    return ids


def _used(ids: Mapping[str, int], gone: set[str]) -> set[int]:
    return {number for name, number in ids.items() if name not in gone}


def _list_files(folder: Path) -> list[Path]:
    trains = (folder / "train.txt", *sorted(folder.glob("*/train.txt")))
    base = next(found.parent for found in trains if found.is_file())
    return [base / name for name in LIST_NAMES if (base / name).is_file()]


def _split_lines(file: Path) -> list[re.Match[str] | str]:
    text = file.read_text(encoding="utf-8-sig")
    found = []
    for line in text.splitlines(keepends=True):
        pattern = _LINE if "," in line or "\t" in line.strip() else _SPACED
        found.append(pattern.fullmatch(line) or line)
    return found


def _list_name(line: re.Match[str], base: str) -> str:
    path = line["path"].strip().removeprefix("./")
    return path if base == "." else f"{base}/{path}"


def _list_ids(
    lines: Mapping[Path, list[re.Match[str] | str]], rows: Mapping[str, tuple[Any, ...]], base: str, folder: Path
) -> dict[str, tuple[str, str]]:
    """The fine and coarse id of every class that a line has; without a list of classes a name is its own id."""
    ids: dict[str, tuple[str, str]] = {}
    for found in lines.values():
        for line in found:
            row = rows.get(_list_name(line, base)) if isinstance(line, re.Match) else None
            if row is not None and not isinstance(line, str):
                ids.setdefault(row[0], (line["id"], line["coarse"] or ""))
    if not any((folder / name).is_file() for name in (*CLASS_LISTS, "classes.csv")):
        for before, after, _ in rows.values():
            ids.setdefault(after, (after, ids.get(before, ("", ""))[1]))
    return ids


def _line(
    line: re.Match[str] | str,
    rows: Mapping[str, tuple[Any, ...]],
    base: str,
    ids: Mapping[str, tuple[str, str]],
    file: Path,
) -> str:
    row = None if isinstance(line, str) else rows.get(_list_name(line, base))
    if row is None or isinstance(line, str):
        return line if isinstance(line, str) else line[0]
    before, after, stays = row
    if not stays:
        return ""
    if before == after:
        return line[0]
    if after not in ids:
        hint = "name it by hand in the file of classes and in one line, or: sortal convert SOURCE --to csv --out FILE"
        raise DataError(f"no line has the class {after!r} yet, so its id is not known", where=str(file), hint=hint)
    fine, coarse = ids[after]
    return (
        line["path"]
        + line["a"]
        + fine
        + (line["b"] or "")
        + (coarse if line["coarse"] is not None else "")
        + line["end"]
    )
