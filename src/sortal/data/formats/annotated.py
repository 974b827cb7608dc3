"""From annotations to a table: what all formats of boxes, polygons and tags have in common once they are parsed.

A reader hands over two frames, images and annotations. Here boxes that are none are set aside and named, boxes become
crops or the class of their image, repeats are merged, classes are numbered. Everything works on whole columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.core.report import Finding
from sortal.data.boxes import BOX, POLYGON, areas, box_problem, polygon_bounds, reaches_out, regions
from sortal.data.formats.classes import encode, label_findings, tidy
from sortal.data.formats.options import ReadOptions
from sortal.data.formats.rows import RESERVED
from sortal.data.formats.tree import Tree
from sortal.data.polygons import polygon_areas
from sortal.data.table import REJECTED_SCHEMA, ImageTable, build_table, finding

CANVAS = ("_canvas_width", "_canvas_height")
"""Pixels of the image as the annotation file has them; writers use them again."""

_SHAPES = ("region", "box", "polygon")
_OWN = ("image", "text", *_SHAPES, "split", "label", "path", "name", "base", "boxes")


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotated:
    """`images`: path (in the tree, null where it was not found), name (as the file has it), split, canvas size in
    pixels, other columns. `found`: image (row number in `images`), text (class), box (fractions; null is the whole
    image, or what lies around the polygon), polygon, other columns. `order` fixes the order of the classes.
    """

    images: pl.DataFrame
    found: pl.DataFrame
    order: Sequence[str] | None = None
    parents: Mapping[str, str] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    rejected: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REJECTED_SCHEMA))


class _Left:
    """What is left out on the way, with a finding for each reason."""

    def __init__(self, notes: Annotated) -> None:
        self.findings = list(notes.findings)
        self.rejected = notes.rejected

    def out(self, frame: pl.DataFrame, bad: pl.Series, code: str, what: str, hint: str | None = None) -> pl.DataFrame:
        """`frame` (with `_name`) without the rows where `bad`, which are named; their reason is `_why` or `what`."""
        if not bad.any():
            return frame
        moved = frame.filter(bad)
        self.findings.append(finding(code, "warning", f"{moved.height} {what}", moved["_name"].head(1000), hint))
        reason = pl.col("_why") if "_why" in frame.columns else pl.lit(what)
        self.rejected = pl.concat([self.rejected, moved.select(name="_name", code=pl.lit(code), reason=reason)])
        return frame.filter(~bad)


def annotated_table(tree: Tree, notes: Annotated, options: ReadOptions) -> ImageTable:
    """The table as `options` ask for it. Raises DataError where no image exists or every annotation is unusable."""
    left = _Left(notes)
    images = _present(tree, notes, left)
    rows = _sound(images, notes.found, left)
    rows = _crops(images, rows, options, left) if options.boxes == "crops" else _whole(images, rows, options, left)
    if not rows.height:
        codes = ", ".join(sorted({found.code for found in left.findings})) or "there are no annotations"
        raise DataError("no annotation that can be used", where=tree.source, received=codes)
    labels, indices, unused = _labels(rows["text"], notes)
    root, rows = _rooted(tree, rows.with_columns(label=indices))
    table = build_table(
        _typed(rows.drop([name for name in rows.columns if name in _DROPPED])),
        labels=labels,
        source=tree.source,
        root=root,
        findings=(*tree.findings, *left.findings, *unused),
        rejected=left.rejected,
        remote=tree.remote,
    )
    return table.with_findings(*_unlabeled(table), *label_findings(table))


_DROPPED = {"image", "text", "path", "name", "base", "_name", "_area"}


def _rooted(tree: Tree, rows: pl.DataFrame) -> tuple[Path | None, pl.DataFrame]:
    """Rows relative to the folder above where all images of a lone file lie there."""
    if tree.remote is not None:
        return None, rows
    if not tree.lone or not rows["uri"].str.starts_with("../").all():
        return tree.root, rows
    return tree.root.absolute().parent, rows.with_columns(pl.col("uri").str.strip_prefix("../"))


def _present(tree: Tree, notes: Annotated, left: _Left) -> pl.DataFrame:
    """The images that exist, one row for each, with uri and member; `image` is the number that `found` speaks of."""
    images = notes.images.with_columns(image=pl.int_range(pl.len(), dtype=pl.Int64), _name=pl.col("name"))
    if not images["path"].drop_nulls().len():
        first = images["name"][0] if images.height else "no image is named"
        hint = "keep the images beside the annotations, under the names that the annotations have"
        raise DataError("none of the annotated images is here", where=tree.source, received=str(first), hint=hint)
    images = left.out(images, images["path"].is_null(), "missing_file", "annotated images are not here")
    columns = ["path", *(name for name in tree.files.columns if name != "path")]
    if tree.is_archive or tree.remote:
        images = images.join(tree.files.select(columns), on="path", how="left", maintain_order="left")
    return tree.rows(images)


def _sound(images: pl.DataFrame, found: pl.DataFrame, left: _Left) -> pl.DataFrame:
    """Annotations of images that are there, each with a box that is one or none; `_name` is that of its image."""
    for name, kind in (("box", BOX), ("polygon", POLYGON), ("text", pl.String())):
        if name not in found.columns:
            found = found.with_columns(pl.lit(None, dtype=kind).alias(name))
    found = found.with_columns(pl.col("image").cast(pl.Int64), pl.col("text").cast(pl.String))
    found = found.with_columns(pl.col("box").cast(BOX), pl.col("polygon").cast(POLYGON))
    found = found.with_columns(box=pl.coalesce("box", polygon_bounds()))
    found = found.join(images.select("image", "_name"), on="image", how="inner", maintain_order="left")
    flat = found["polygon"].is_not_null() & pl.Series(~(polygon_areas(found["polygon"]) > 0))
    why = pl.coalesce(box_problem(), pl.when(flat).then(pl.lit("its polygon has no area")))
    found = found.with_columns(_why=why).with_columns(_name=_named_box())
    hint = "correct or remove them in the annotation tool"
    bad = found["_why"].is_not_null()
    counts = found["_why"].drop_nulls().value_counts(sort=True)
    listed = ", ".join(f"{number}: {reason}" for reason, number in counts.sort("_why").iter_rows())
    found = left.out(found, bad, "degenerate_box", f"boxes are none and left out ({listed})", hint).drop("_why")
    empty = found["text"].is_null() | (found["text"].str.strip_chars() == "")
    return left.out(found, empty, "missing_label", "annotations have no class and are left out")


def _named_box() -> pl.Expr:
    corners = pl.col("box").arr.to_list().cast(pl.List(pl.String)).list.join(",", ignore_nulls=False)
    return pl.when(pl.col("box").is_null()).then(pl.col("_name")).otherwise(pl.format("{}@{}", "_name", corners))


def _crops(images: pl.DataFrame, rows: pl.DataFrame, options: ReadOptions, left: _Left) -> pl.DataFrame:
    """A row for each box and tag; where the source has tags only, also for images without any."""
    rows = rows.with_columns(region=regions(rows["box"], options.margin))
    outside = rows.filter(reaches_out())["_name"]
    if outside.len():
        message = f"{outside.len()} boxes reach out of their image and are clipped to it"
        left.findings.append(finding("clipped_box", "info", message, outside.head(1000)))
    rows = _once(rows, left)
    bare = images.filter(~pl.col("image").is_in(rows["image"].implode()))
    boxed = rows["region"].is_not_null().any()
    if bare.height and boxed:
        message = f"{bare.height} images have no usable box, so no row"
        left.findings.append(finding("no_box", "info", message, bare["_name"].head(1000)))
    if not boxed:
        rows = pl.concat([rows, bare.select("image", "_name")], how="diagonal").sort("image", maintain_order=True)
    return _joined(images, rows)


def _once(rows: pl.DataFrame, left: _Left) -> pl.DataFrame:
    """One row a region: repeats with the same class become one, with different classes are left out."""
    keys = ["image", "region"]
    twice = rows.select(pl.struct(keys).is_duplicated()).to_series()
    if not twice.any():
        return rows
    odd = rows.select(pl.col("text").n_unique().over(keys) > 1).to_series()
    rows = left.out(rows, odd, "conflicting_labels", "boxes lie exactly on one of another class and are left out")
    repeat = rows.select(~pl.struct(keys).is_first_distinct()).to_series()
    return left.out(rows, repeat, "duplicate_row", "boxes are there again and left out")


def _whole(images: pl.DataFrame, rows: pl.DataFrame, options: ReadOptions, left: _Left) -> pl.DataFrame:
    """A row for each image, with the class of all its boxes or of the largest (a tag counts as the whole image)."""
    rows = rows.with_columns(_area=areas().fill_null(2.0), text=pl.col("text").str.strip_chars())
    several = rows.select(pl.col("text").n_unique().over("image") > 1).to_series()
    if options.boxes == "image" and several.any():
        mixed = set(rows.filter(several)["image"])
        odd = images["image"].is_in(pl.Series(sorted(mixed), dtype=pl.Int64).implode())
        what, hint = "images have boxes of several classes and are left out", "--boxes crops or --boxes largest"
        images = left.out(images, odd, "several_classes", what, hint)
    rows = rows.filter(pl.col("image").is_in(images["image"].implode()))
    first = rows.sort("_area", descending=True, maintain_order=True).unique("image", keep="first", maintain_order=True)
    counts = rows.filter(pl.col("box").is_not_null()).group_by("image").agg(boxes=pl.len().cast(pl.Int64))
    bare = images.filter(~pl.col("image").is_in(first["image"].implode())).select("image", "_name")
    chosen = pl.concat([first.drop("box", "polygon"), bare], how="diagonal").sort("image")
    return _joined(images, chosen.join(counts, on="image", how="left", maintain_order="left"))


def _joined(images: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the columns of their images; where both have a column, the annotation's counts."""
    both = [name for name in rows.columns if name in images.columns and name not in ("image", "_name")]
    there = images.drop("_name").rename({name: f"{name} image" for name in both})
    joined = rows.join(there, on="image", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce(name, f"{name} image") for name in both).drop(
        f"{name} image" for name in both
    )


def _labels(texts: pl.Series, notes: Annotated) -> tuple[LabelSet, pl.Series, list[Finding]]:
    """Classes in the declared order, those without a row left out; parents where every class has one."""
    used = {tidy(text) for text in texts.unique().drop_nulls()}
    order = None if notes.order is None else list(dict.fromkeys(map(tidy, notes.order)))
    unused = [] if order is None else [name for name in order if name not in used]
    if order is not None:
        order = [name for name in order if name in used] + sorted(used - set(order))
    labels, indices = encode(texts, order)
    parents = {tidy(name): tidy(parent) for name, parent in notes.parents.items()}
    if labels.names and all(parents.get(name) for name in labels.names):
        labels = LabelSet(names=labels.names, parents=tuple(parents[name] for name in labels.names))
    if not unused:
        return labels, indices, []
    message = f"{len(unused)} declared classes have no row and are no classes: {', '.join(unused[:5])}"
    return labels, indices, [finding("empty_class", "info", message, unused)]


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    """Columns that hold only whole or decimal numbers as such; ours keep their names, a stranger's make way."""
    renamed = {}
    for name in rows.columns:
        if name in _SHAPES or name in CANVAS or name in ("_offset", "_size", "_method", "uri", "member"):
            continue
        if name.startswith("_") or name in RESERVED:
            renamed[name] = f"{name.lstrip('_') or 'column'}_given"
    rows = rows.rename(renamed)
    kept = rows.select(series for series in rows if not _is_void(series))
    kept = kept.with_columns(_number(kept[name]) for name in kept.columns if name not in ("uri", "member", "split"))
    if "weight" in kept.columns and not _is_weight(kept["weight"]):
        kept = kept.rename({"weight": "weight_given"})
    return kept


def _is_weight(series: pl.Series) -> bool:
    """Whether an attribute of that name can weigh rows; the weight of a part in words or below zero cannot."""
    if not series.dtype.is_numeric():
        return False
    numbers = series.drop_nulls().cast(pl.Float64)
    return bool((numbers.is_finite() & (numbers >= 0)).all())


def _is_void(series: pl.Series) -> bool:
    return series.name not in ("uri", "member", "split", "label", "region") and series.null_count() == series.len()


def _number(series: pl.Series) -> pl.Series:
    if series.name == "group":
        return series.cast(pl.String)
    if series.dtype != pl.String or series.drop_nulls().is_empty():
        return series
    filled = series.drop_nulls()
    if filled.str.contains(r"^(0|-?[1-9][0-9]{0,15})$").all():
        return series.cast(pl.Int64)
    if filled.str.contains(r"^-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,12})?$").all():
        return series.cast(pl.Float64)
    return series


def _unlabeled(table: ImageTable) -> list[Finding]:
    rows = table.name_series().filter(table.frame["label"] < 0)
    if not rows.len():
        return []
    return [finding("missing_label", "warning", f"{rows.len()} images have no annotation", rows.head(1000))]


def gathered(rows: Sequence[Mapping[str, object]], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Parsed annotations as a frame: the columns of `schema`, then every other key as text."""
    others = dict.fromkeys(key for row in rows for key in row if key not in schema)
    columns = {
        **{name: pl.Series(name, [row.get(name) for row in rows], dtype=kind) for name, kind in schema.items()},
        **{name: pl.Series(name, [_text(row.get(name)) for row in rows], dtype=pl.String) for name in others},
    }
    return pl.DataFrame(list(columns.values()))


def attribute(name: str) -> str:
    """A stranger's attribute under a name that none of our own columns has."""
    plain = name.strip().lstrip("_") or "column"
    return f"{plain}_given" if plain in _OWN or plain in RESERVED else plain


def _text(value: object) -> str | None:
    if value is None or value == "":
        return None
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


FOUND: dict[str, pl.DataType] = {"image": pl.Int64(), "text": pl.String(), "box": BOX, "polygon": POLYGON}
IMAGES: dict[str, pl.DataType] = {
    "name": pl.String(),
    "base": pl.String(),
    "split": pl.String(),
    "_canvas_width": pl.Int64(),
    "_canvas_height": pl.Int64(),
}
