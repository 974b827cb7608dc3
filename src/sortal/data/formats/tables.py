"""Tables of images: one row an image, a path and a class under their common names, everything else kept.

Known columns (without regard to case): path, label, split, group, weight, and a region x0, y0, x1, y1 in fractions of
the upright image. Relative paths are relative to the table's own folder. Columns `box` and `polygon` may hold lists of
numbers, also as JSON text. Writing is the matter of `table_writer`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from sortal.core.errors import DataError, nearest
from sortal.core.report import Finding
from sortal.data.boxes import BOX, POLYGON
from sortal.data.formats.classes import encode, label_findings, normal_splits
from sortal.data.formats.options import ReadOptions
from sortal.data.formats.rows import RESERVED, Rows, merge_repeats
from sortal.data.formats.table_file import SUFFIXES, read_frame
from sortal.data.formats.table_writer import REGION_NAMES as REGION_NAMES
from sortal.data.formats.table_writer import can_hold as can_hold
from sortal.data.formats.table_writer import loses as loses
from sortal.data.formats.table_writer import write as write
from sortal.data.table import ImageTable, build_table, finding

PATH_NAMES = (
    "path",
    "image_path",
    "filepath",
    "file_path",
    "file_name",
    "filename",
    "file",
    "image",
    "img",
    "id",
    "image_id",
)
LABEL_NAMES = ("label", "class_name", "class", "category", "target", "labels")


def sniff(path: Path) -> bool:
    """A file whose name says CSV, TSV, JSON lines or Parquet."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read(path: Path, options: ReadOptions) -> ImageTable:
    """A row for each image that exists; missing files and bad regions are listed in findings and `rejected`.

    Raises DataError for tables without a path column, without the label column asked for, or with several labels a row.
    """
    given = read_frame(path)
    if not given.height:
        raise DataError("a table without rows", where=str(path))
    roles, columns = placed(given, path, options.label)
    rows = Rows(columns)
    rows.reject_missing(path.parent)
    if "region" in rows.frame.columns:
        rows.reject_regions()
    merge_repeats(rows, str(path))
    labels, indices = encode(rows.frame["text"])
    table = build_table(
        rows.frame.with_columns(label=indices).drop("text"),
        labels=labels,
        source=str(path),
        root=path.parent,
        findings=rows.findings,
        rejected=rows.rejected,
    )
    return table.with_findings(*_unlabeled(table, given, roles), *label_findings(table))


def placed(given: pl.DataFrame, path: Path, label: str) -> tuple[dict[str, str], pl.DataFrame]:
    """Which column plays which part, and for each row of the file uri, text (its class), region ... where known."""
    roles = _roles(given, label, str(path))
    return roles, _core_columns(given, roles, path)


def _roles(given: pl.DataFrame, label: str, where: str) -> dict[str, str]:
    """Which column plays which part."""
    folded = {name.casefold(): name for name in reversed(given.columns)}
    wanted: dict[str, tuple[str, ...]] = {
        "path": PATH_NAMES,
        "label": LABEL_NAMES if label == "label" else (label.casefold(),),
        **{name: (name,) for name in ("split", "group", "weight", *REGION_NAMES)},
    }
    roles = {part: found for part, names in wanted.items() if (found := _first(folded, names))}
    columns = ", ".join(given.columns[:12])
    if "path" not in roles:
        hint = f"call the column one of {', '.join(PATH_NAMES[:7])}"
        raise DataError("no column of image paths", where=where, received=f"columns {columns}", hint=hint)
    if "label" not in roles and label != "label":
        raise DataError(
            "there is no such label column", where=where, received=label, hint=nearest(label, given.columns)
        )
    if "label" not in roles and len(many := _flag_columns(given, set(roles.values()))) > 1:
        _refuse_multi(where, f"columns of 0 and 1: {', '.join(many[:5])}")
    if "label" in roles:
        _check_single(given[roles["label"]], where)
    return roles


def _first(folded: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((folded[name] for name in names if name in folded), None)


def _flag_columns(given: pl.DataFrame, taken: set[str]) -> list[str]:
    flags = {"0", "1", "0.0", "1.0", "true", "false"}
    others = [name for name in given.columns if name not in taken and not given[name].dtype.is_nested()]
    distinct = {name: {str(value).casefold() for value in given[name].drop_nulls().unique()} for name in others}
    return [name for name, values in distinct.items() if values and values <= flags]


def _check_single(cells: pl.Series, where: str) -> None:
    if cells.dtype.is_nested():
        _refuse_multi(where, f"column {cells.name!r} holds lists")
    if cells.dtype == pl.String:
        distinct = cells.unique().drop_nulls()
        parts = distinct.filter(distinct.str.contains(r"[|;]")).to_list()
        whole = set(distinct.filter(~distinct.str.contains(r"[|;]")).str.strip_chars())
        joined = [cell for cell in parts if {p.strip() for p in cell.replace(";", "|").split("|")} & whole]
        listed = distinct.filter(distinct.str.contains(r"^\s*\[.*\]\s*$")).to_list()
        if listed or joined or len(parts) > 1:
            _refuse_multi(where, f"column {cells.name!r} holds {(listed or joined or parts)[0]!r}")


def _refuse_multi(where: str, received: str) -> None:
    hint = "sortal learns one class an image: give one column with one class name a row"
    raise DataError("multi-label data", where=where, received=received, hint=hint)


def _core_columns(given: pl.DataFrame, roles: Mapping[str, str], path: Path) -> pl.DataFrame:
    """uri, text, split, group, weight, region and the extra columns; rows without a path are left for `Rows`."""
    text = (
        given[roles["label"]].cast(pl.String) if "label" in roles else pl.Series([None] * given.height, dtype=pl.String)
    )
    columns = {"uri": _uris(given[roles["path"]], path.parent), "text": text.str.strip_chars().replace("", None)}
    if "split" in roles:
        columns["split"] = normal_splits(given[roles["split"]].cast(pl.String), str(path))
    if "group" in roles:
        columns["group"] = given[roles["group"]].cast(pl.String).replace("", None)
    if "weight" in roles:
        columns["weight"] = _numbers(given[roles["weight"]], str(path)).fill_null(1.0)
    frame = pl.DataFrame([series.alias(name) for name, series in columns.items()])
    if all(name in roles for name in REGION_NAMES):
        corners = [_numbers(given[roles[name]], str(path)).alias(name) for name in REGION_NAMES]
        has = ~pl.any_horizontal(pl.col(REGION_NAMES).is_null())
        region = pl.when(has).then(pl.concat_list(REGION_NAMES).list.to_array(4)).alias("region")
        frame = frame.with_columns(pl.DataFrame(corners).select(region).to_series())
    extra = [name for name in given.columns if name not in roles.values()]
    frame = frame.with_columns(given[name].alias(_free(name, frame.columns)) for name in extra)
    return frame.with_columns(_shape(frame[name]) for name in ("box", "polygon") if name in frame.columns)


def _shape(cells: pl.Series) -> pl.Series:
    """Lists of numbers as the boxes or polygons that they are; a stranger's column of that name stays as it is."""
    try:
        lists = cells.str.json_decode(POLYGON) if cells.dtype == pl.String else cells.cast(POLYGON)
        return lists.list.to_array(4).cast(BOX) if cells.name == "box" else lists
    except pl.exceptions.PolarsError:
        return cells


def _free(name: str, taken: list[str]) -> str:
    """An extra column may not hide one of ours, nor look like a technical one."""
    plain = name.lstrip("_") or "column"
    return (
        f"{plain}_given"
        if plain in taken or plain in (*RESERVED, "label", "text", "split", "group", "weight")
        else plain
    )


def _uris(cells: pl.Series, folder: Path) -> pl.Series:
    texts = cells.cast(pl.String).str.strip_chars().fill_null("")
    climbs = texts.str.contains(r"\\").to_numpy()
    if climbs.any():  # written on Windows, unless a file really is called so
        real = pl.Series([bool(c) and os.path.lexists(folder / t) for c, t in zip(climbs, texts, strict=True)])
        texts = pl.select(
            pl.when(real).then(texts).otherwise(texts.str.replace_all("\\", "/", literal=True))
        ).to_series()
    return texts.str.strip_prefix("./").str.strip_prefix(f"{folder.absolute().as_posix()}/")


def _numbers(cells: pl.Series, where: str) -> pl.Series:
    filled = cells.replace("", None) if cells.dtype == pl.String else cells
    numbers = filled.cast(pl.Float64, strict=False)
    bad = filled.filter(numbers.is_null() & filled.is_not_null())
    if bad.len():
        raise DataError(f"column {cells.name!r} must hold numbers", where=where, received=str(bad[0]))
    return numbers


def _unlabeled(table: ImageTable, given: pl.DataFrame, roles: Mapping[str, str]) -> list[Finding]:
    if "label" not in roles:
        message = f"no label column among {', '.join(given.columns[:12])}; no image has a label"
        return [finding("no_labels", "info", message, hint=f"call it one of {', '.join(LABEL_NAMES)}, or name it")]
    rows = table.name_series().filter(table.frame["label"] < 0)
    if not rows.len():
        return []
    return [finding("missing_label", "warning", f"{rows.len()} rows have no label and teach nothing", rows.head(1000))]
