"""Class folders in a tree: `class/.../image`, with or without split folders above, wrapper folders skipped.

Split folders are found without regard to case (`train`, `val`, `valid`, `validation`, `test`, ...). Images deeper than
the class folder belong to it. A class list fixes the order and the names of the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.core.report import Finding
from sortal.data.formats.classes import SPLIT_NAMES, encode, label_findings, tidy
from sortal.data.formats.tree import Tree, ignored_finding
from sortal.data.table import ImageTable, build_table, finding

_SOURCES = r"(?i)\.(npz|csv|tsv|jsonl|ndjson|parquet|pq|json|zip|tar)$"
EXPECTED = "expected class folders (photos/cat/1.jpg), with or without train, val and test folders above them"


@dataclass(frozen=True, kw_only=True)
class ClassOrder:
    """Classes in a declared order, with longer texts for people; `used` names the files it was read from."""

    names: Sequence[str]
    display: Mapping[str, str] = field(default_factory=dict)
    used: tuple[str, ...] = ()


def read_layout(tree: Tree, order: ClassOrder | None = None) -> ImageTable:
    """The images of `tree` as a table. Raises DataError when there is none, or a class folder is not in `order`."""
    images = tree.images()
    if not images.height:
        raise DataError(f"no images here: {_what_is_there(tree)}", where=tree.source, hint=_nearby(tree) or EXPECTED)
    prefix, findings = _descend(images["path"])
    placed, notes = _place(images, prefix)
    kept = placed.filter(pl.col("reason").is_null())
    if not kept.height:
        raise DataError("no image lies in a class folder", where=tree.source, hint=EXPECTED)
    labels, indices = _encoded(kept["class"], order, tree)
    frame = tree.rows(kept).with_columns(label=indices).drop("path", "class", "reason")
    rejected = tree.rows(placed.filter(pl.col("reason").is_not_null())).select(
        name=pl.concat_str([pl.col("uri"), pl.col("member")], separator="::", ignore_nulls=True),
        code=pl.lit("outside_class_folder"),
        reason=pl.col("reason"),
    )
    findings += [*notes, *_empty_classes(tree, prefix, set(labels.names), kept), *_merged(kept["class"])]
    findings += ignored_finding(tree.files, () if order is None else order.used)
    table = build_table(
        frame,
        labels=labels,
        source=tree.source,
        root=None if tree.remote else tree.root,
        remote=tree.remote,
        findings=(*tree.findings, *findings),
        rejected=rejected,
    )
    return table.with_findings(*_unlabeled(table), *label_findings(table))


def _descend(paths: pl.Series) -> tuple[str, list[Finding]]:
    """The folder that holds the classes or splits: single folders that only hold folders are stepped through."""
    prefix = ""
    while True:
        parts = paths.str.strip_prefix(prefix).str.splitn("/", 3).struct.unnest()
        tops = parts["field_0"].unique()
        if len(tops) != 1 or parts["field_2"].null_count() or tops[0].casefold() in SPLIT_NAMES:
            break
        prefix += f"{tops[0]}/"
    if not prefix:
        return prefix, []
    message = f"classes are the folders below {prefix.rstrip('/')}"
    return prefix, [finding("wrapper_folder", "info", message)]


def _place(images: pl.DataFrame, prefix: str) -> tuple[pl.DataFrame, list[Finding]]:
    """Adds split, class and, for images that belong nowhere, reason."""
    rest = pl.col("path").str.strip_prefix(prefix)
    tops = images.select(rest.str.extract(r"^([^/]+)/").alias("top"))["top"]
    distinct = set(tops.unique().drop_nulls())
    splits = {top: SPLIT_NAMES[top.casefold()] for top in distinct if top.casefold() in SPLIT_NAMES}
    if splits and (distinct == set(splits) or "train" in splits.values()):
        return _place_in_splits(images, rest, tops, splits)
    flat = not distinct
    lost = pl.lit(flat) | tops.is_not_null()
    reason = pl.when(lost).then(None).otherwise(pl.lit("beside the class folders"))
    placed = images.with_columns(tops.alias("class"), reason.alias("reason"), split=pl.lit(None, dtype=pl.String))
    return placed, _outside(placed)


def _place_in_splits(
    images: pl.DataFrame, rest: pl.Expr, tops: pl.Series, splits: Mapping[str, str]
) -> tuple[pl.DataFrame, list[Finding]]:
    split = tops.replace_strict(splits, default=None, return_dtype=pl.String)
    placed = images.with_columns(split.alias("split"), rest.str.extract(r"^[^/]+/([^/]+)/").alias("class"))
    has_classes = pl.col("class").is_not_null().any().over("split")
    reason = (
        pl.when(pl.col("split").is_null())
        .then(pl.lit("beside the split folders"))
        .when(pl.col("class").is_null() & has_classes)
        .then(pl.lit("beside the class folders"))
    )
    placed = placed.with_columns(reason=reason)
    return placed, _outside(placed)


def _outside(placed: pl.DataFrame) -> list[Finding]:
    found = []
    for reason in placed["reason"].unique().drop_nulls().sort():
        rows = placed.filter(pl.col("reason") == reason)["path"]
        hint = "move them into a class folder, or out of the way"
        found.append(
            finding("outside_class_folder", "warning", f"{len(rows)} images lie {reason}", rows.head(1000), hint)
        )
    return found


def _encoded(texts: pl.Series, order: ClassOrder | None, tree: Tree) -> tuple[LabelSet, pl.Series]:
    try:
        return encode(texts) if order is None else encode(texts, order.names, display=dict(order.display))
    except DataError as error:
        raise DataError(
            error.what, where=tree.source, hint="add them to the class list, or remove their folders"
        ) from error


def _empty_classes(tree: Tree, prefix: str, filled: set[str], kept: pl.DataFrame) -> list[Finding]:
    depth = 2 if kept["split"].null_count() < kept.height else 1
    below = (folder.removeprefix(prefix) for folder in tree.folders if folder.startswith(prefix))
    names = {parts[-1] for folder in below if len(parts := folder.split("/")) == depth}
    empty = sorted(name for name in names if name.strip() not in filled and name not in set(kept["class"]))
    if not empty or not kept["class"].drop_nulls().len():
        return []
    message = f"{len(empty)} class folders hold no image and are no classes: {', '.join(empty[:5])}"
    return [finding("empty_class", "warning", message, empty, "add images, or remove the folders")]


def _merged(texts: pl.Series) -> list[Finding]:
    spelled: dict[str, list[str]] = {}
    for text in texts.unique().drop_nulls():
        spelled.setdefault(tidy(text), []).append(text)
    merged = sorted(name for name, spellings in spelled.items() if len(spellings) > 1)
    if not merged:
        return []
    message = f"folders whose names differ only in Unicode form or white space are one class: {', '.join(merged[:5])}"
    return [finding("merged_classes", "warning", message)]


def _unlabeled(table: ImageTable) -> list[Finding]:
    rows = table.frame.filter(pl.col("label") < 0).height
    if not rows:
        return []
    who = "1 image lies in no class folder and has" if rows == 1 else f"{rows:,} images lie in no class folder and have"
    message = f"{who} no label"
    hint = "put images into one folder a class to train on them"
    return [finding("unlabeled", "info", message, hint=hint)]


def _nearby(tree: Tree) -> str | None:
    """Point at a table, array file or archive that lies in the folder."""
    found = tree.files["path"].filter(tree.files["path"].str.contains(_SOURCES))
    return (
        None
        if tree.is_archive or tree.remote or not found.len()
        else f"point at the file itself: {tree.path / found[0]}"
    )


def _what_is_there(tree: Tree) -> str:
    if not tree.files.height:
        return f"{len(tree.folders)} folders and no files" if tree.folders else "it is empty"
    suffixes = tree.files["path"].str.extract(r"(\.[^./]+)$").fill_null("without suffix").value_counts(sort=True)
    listed = ", ".join(f"{number} {suffix}" for suffix, number in suffixes.head(3).iter_rows())
    return f"{tree.files.height} files ({listed}), none an image by its name"
