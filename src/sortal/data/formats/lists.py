"""List files: `train.txt`, `val.txt`, `test.txt` with a path and a class id on each line (Grocery Store, timm, TAO).

`path, fine id, coarse id` with a `classes.csv` beside it gives a taxonomy; `path id` with a `classes.txt` gives names
by line number; without either the ids are the names. Works in folders (or the folder above) and in archives.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import polars as pl

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.data.formats.classes import SPLIT_NAMES, encode, label_findings, read_class_list, tidy
from sortal.data.formats.folders import CLASS_LISTS
from sortal.data.formats.options import ReadOptions
from sortal.data.formats.rows import Rows, merge_repeats
from sortal.data.formats.tree import IMAGE_SUFFIXES, Tree, is_tree, open_tree
from sortal.data.members import index, is_archive
from sortal.data.table import ImageTable, build_table

LIST_NAMES = ("train.txt", "val.txt", "valid.txt", "validation.txt", "test.txt")
LIST_SUFFIXES = (".txt", ".lst")


def sniff(path: Path) -> bool:
    """A list file, or a folder or archive that holds `train.txt` at its top or one folder below."""
    if path.is_file() and path.suffix.lower() in LIST_SUFFIXES:
        return _is_list(_head(path))
    if path.is_dir():
        return any(_is_list(_head(found)) for found in (path / "train.txt", *sorted(path.glob("*/train.txt"))))
    return is_archive(path) and _archive_has_list(path)


def read(path: Path, _options: ReadOptions) -> ImageTable:
    """Official splits and, where the lists have it, the taxonomy. Raises DataError that names line and file."""
    tree = open_tree(path if is_tree(path) else path.parent)
    lists = [path.name] if path.is_file() and not tree.is_archive else _lists(tree)
    base = lists[0].rpartition("/")[0]
    parsed = pl.concat([_lines(tree, name) for name in lists])
    rows = Rows(parsed.with_columns(uri=pl.lit(f"{base}/" if base else "") + pl.col("path")))
    labels, indices = _labels(tree, base, rows.frame)
    rows.frame = rows.frame.with_columns(label=indices)
    merge_repeats(rows, str(path))
    _locate(rows, tree)
    frame = rows.frame.drop("path", "text", "coarse")
    table = build_table(
        frame, labels=labels, source=str(path), root=tree.root, findings=rows.findings, rejected=rows.rejected
    )
    return table.with_findings(*label_findings(table))


def _head(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.readline(4096)
    except (OSError, UnicodeDecodeError):
        return ""


def _is_list(line: str) -> bool:
    fields = _fields(line)
    return len(fields) >= 2 and fields[0].lower().endswith(IMAGE_SUFFIXES)


def _fields(line: str) -> list[str]:
    """`path, 3, 1`, `path<tab>3` and `path with spaces 3` as their fields."""
    if "," in line or "\t" in line:
        return [field.strip() for field in re.split(r"[,\t]", line.strip())]
    return line.strip().rsplit(maxsplit=1)


def _archive_has_list(path: Path) -> bool:
    try:
        return bool(index(path)["path"].str.contains(r"^([^/]+/)?train\.txt$").any())
    except DataError:
        return False


def _lists(tree: Tree) -> list[str]:
    train = tree.files.filter(pl.col("path").str.contains(r"^([^/]+/)?train\.txt$"))["path"]
    base = train[0].removesuffix("train.txt")
    names = set(tree.files["path"].filter(tree.files["path"].str.starts_with(base)))
    return [f"{base}{name}" for name in LIST_NAMES if f"{base}{name}" in names]


def _lines(tree: Tree, name: str) -> pl.DataFrame:
    """path, text (the fine id or name), coarse (or null), split."""
    lines = [line for line in (tree.text(name) or "").splitlines() if line.strip()]
    fields = [_fields(line) for line in lines]
    for number, found in enumerate(fields):
        if len(found) not in (2, 3) or not all(found):
            hint = "each line is: path id, or: path, fine id, coarse id"
            raise DataError("a line that is not understood", where=name, received=lines[number], hint=hint)
    split = SPLIT_NAMES.get(Path(name).stem.casefold())
    rows = [(found[0].removeprefix("./"), found[1], found[2] if len(found) == 3 else None) for found in fields]
    schema = {"path": pl.String, "text": pl.String, "coarse": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(split=pl.lit(split, dtype=pl.String))


def _labels(tree: Tree, base: str, rows: pl.DataFrame) -> tuple[LabelSet, pl.Series]:
    prefix = f"{base}/" if base else ""
    table = tree.text(f"{prefix}classes.csv")
    if table is not None:
        return _from_table(table, rows, f"{prefix}classes.csv")
    for name in CLASS_LISTS:
        text = tree.text(f"{prefix}{name}")
        if text is not None:
            return _from_list(read_class_list(name, text), rows, name)
    labels, indices = encode(rows["text"])
    if rows["coarse"].null_count():
        return labels, indices
    parents = _parents(rows)
    return LabelSet(names=labels.names, parents=tuple(parents[name] for name in labels.names)), indices


def _from_list(names: list[str], rows: pl.DataFrame, where: str) -> tuple[LabelSet, pl.Series]:
    ids = rows["text"].unique().to_list()
    known = {str(number): name for number, name in enumerate(names)} | {name: name for name in names}
    _refuse_strangers([text for text in ids if tidy(text) not in known], where)
    return encode(rows["text"].str.strip_chars().replace_strict(known, return_dtype=pl.String), names)


def _from_table(text: str, rows: pl.DataFrame, where: str) -> tuple[LabelSet, pl.Series]:
    """A `classes.csv` as Grocery Store has: class name, class id, and maybe coarse class name, coarse class id."""
    lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text)) if line]
    header = [cell.casefold() for cell in lines[0]]
    name, number = _column(header, "name", coarse=False), _column(header, "id", coarse=False)
    coarse = _column(header, "name", coarse=True)
    if name is None or number is None or not all(len(line) == len(header) for line in lines):
        raise DataError("expected the columns class name and class id", where=where, received=", ".join(lines[0]))
    ordered = sorted(lines[1:], key=lambda line: (len(line[number]), line[number]))
    ids = {line[number]: position for position, line in enumerate(ordered)}
    parents = None if coarse is None else tuple(tidy(line[coarse]) for line in ordered)
    labels = LabelSet(names=tuple(tidy(line[name]) for line in ordered), parents=parents)
    _refuse_strangers([text for text in rows["text"].unique().to_list() if text not in ids], where)
    return labels, rows["text"].replace_strict(ids, return_dtype=pl.Int64)


def _column(header: list[str], word: str, *, coarse: bool) -> int | None:
    wanted = (i for i, cell in enumerate(header) if re.search(rf"\b{word}\b", cell) and ("coarse" in cell) == coarse)
    return next(wanted, None)


def _refuse_strangers(texts: list[str], where: str) -> None:
    if texts:
        raise DataError("ids without a class name", where=where, received=", ".join(sorted(texts)[:5]))


def _parents(rows: pl.DataFrame) -> dict[str, str]:
    pairs = rows.select("text", "coarse").unique()
    double = pairs.filter(pl.col("text").is_duplicated())["text"].unique().sort().to_list()
    if double:
        raise DataError(f"classes with more than one coarse class: {', '.join(double[:5])}")
    return {tidy(text): tidy(coarse) for text, coarse in pairs.iter_rows()}


def _locate(rows: Rows, tree: Tree) -> None:
    """Check that the files are there; for archives, find their offsets."""
    if not tree.is_archive:
        rows.reject_missing(tree.root)
        return
    found = rows.frame.join(tree.files, left_on="uri", right_on="path", how="left", maintain_order="left")
    rows.frame = found
    rows.reject(found["_offset"].is_null(), "missing_file", "there is no such member")
    if not rows.frame.height:
        raise DataError("none of the images is in the archive", where=str(tree.path))
    rows.frame = rows.frame.with_columns(member=pl.col("uri"), uri=pl.lit(tree.path.name))
