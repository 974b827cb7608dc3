"""The pictures of an audit's page: thumbnails of the evidence within a budget of bytes, and the map with its sheets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.audit_sight import Sight
from sortal.core.progress import Listener
from sortal.data.checks.material import Material
from sortal.data.table import ImageTable
from sortal.embedding_map import layout_2d
from sortal.evaluate.drawing.thumbnails import jpeg_bytes, thumbnails_of
from sortal.evaluate.pages.audit_view import MapView, Picked, title_of
from sortal.evaluate.pages.page import data_uri
from sortal.runtime.threads import allowed_cpus

EVIDENCE_PX = 128
EVIDENCE_BYTES = 8_000_000
"""Of all addresses together, as they stand in the page."""
POINTS = 4_000
TILE_PX = 40
COLUMNS, ROWS = 25, 20
"""Tiles of a sheet."""
SHEET_BYTES = 3_000_000
BACKGROUND = 128
_QUALITIES = (75, 60, 45, 30, 15)


def evidence(table: ImageTable, picked: Sequence[Picked], listener: Listener) -> dict[str, str]:
    """Addresses of thumbnails by name: of every section the first, then of every section the next, until the budget is
    used up."""
    names = _in_turns(picked)
    rows = _rows_of(table, names)
    known = [name for name in names if name in rows]
    found: dict[str, str] = {}
    left, part = EVIDENCE_BYTES, 256
    for start in range(0, len(known), part):
        chosen = known[start : start + part]
        pictures = thumbnails_of(table, [rows[name] for name in chosen], EVIDENCE_PX, workers=allowed_cpus())
        listener.progress("drawing thumbnails", min(start + part, len(known)), len(known))
        for name, pixels in zip(chosen, pictures, strict=True):
            if pixels is None:
                continue
            uri = data_uri("jpeg", jpeg_bytes(pixels))
            uses = sum(name in item.names for one in picked for item in one.items)
            if left < uses * len(uri):
                return found
            found[name] = uri
            left -= uses * len(uri)
    return found


def map_of(
    material: Material, issues: pl.DataFrame, sight: Sight, listener: Listener, *, pictures: bool
) -> MapView | None:
    """The map of up to POINTS images, those with issues first among equals; None without features."""
    if material.features is None:
        return None
    rows = _sample(np.flatnonzero(np.isfinite(material.features).all(axis=1)), material, issues)
    if len(rows) < 3:
        return None
    listener.progress("laying out the map", 0, 1)
    places, method = layout_2d(material.features[rows])
    listener.progress("laying out the map", 1, 1)
    sheets = _sheets(material.table, rows, listener) if pictures else []
    total = len(material.table)
    shown = f"{len(rows):,} of {total:,} images" if len(rows) < total else f"All {total:,} images"
    return MapView(
        title="What looks alike to a network",
        help=f"{shown}, placed by {method} of the features of {sight.by}: near means alike, the axes mean nothing. "
        "Rings are images with issues.",
        data={
            **_points(material.table, rows, places, issues),
            "columns": COLUMNS if sheets else 0,
            "rows": ROWS,
        },
        sheets=sheets,
        points=len(rows),
    )


def _in_turns(picked: Sequence[Picked]) -> list[str]:
    queues = [[name for item in one.items for name in item.names] for one in picked]
    longest = max(map(len, queues), default=0)
    turns = (queue[place] for place in range(longest) for queue in queues if place < len(queue))
    return list(dict.fromkeys(turns))


def _rows_of(table: ImageTable, names: Sequence[str]) -> dict[str, int]:
    frame = pl.DataFrame({"name": table.name_series(), "row": np.arange(len(table))})
    return dict(frame.filter(pl.col("name").is_in(list(names))).iter_rows())


def _sample(rows: NDArray[np.int64], material: Material, issues: pl.DataFrame) -> NDArray[np.int64]:
    """Half of a sample are images with issues, where there are so many."""
    if len(rows) <= POINTS:
        return rows
    generator = np.random.Generator(np.random.Philox(key=0))
    told = issues.filter(pl.col("severity") != "info")["name"].unique()
    flagged = material.table.name_series().is_in(told.implode()).to_numpy()[rows]
    some = generator.permutation(rows[flagged])[: POINTS // 2]
    others = generator.permutation(np.setdiff1d(rows, some))[: POINTS - len(some)]
    return np.sort(np.concatenate([some, others]))


def _points(
    table: ImageTable, rows: NDArray[np.int64], places: NDArray[np.float32], issues: pl.DataFrame
) -> dict[str, object]:
    names = table.name_series()[rows].to_list()
    told = issues.filter(pl.col("severity") != "info").unique("name", keep="first", maintain_order=True)
    code = dict(zip(told["name"], told["code"], strict=True))
    codes = list(dict.fromkeys(told["code"].to_list()))
    number = {one: place for place, one in enumerate(codes)}
    return {
        "x": np.round(places[:, 0] * 1000).astype(int).tolist(),
        "y": np.round(places[:, 1] * 1000).astype(int).tolist(),
        "label": table.label_array()[rows].tolist(),
        "name": names,
        "issue": [number[code[name]] if name in code else -1 for name in names],
        "issues": [title_of(one) for one in codes],
        "classes": list(table.labels.names),
    }


def _sheets(table: ImageTable, rows: NDArray[np.int64], listener: Listener) -> list[str]:
    """Addresses of sheets of square tiles, in the order of the rows; coarser where the budget asks for it."""
    pictures = thumbnails_of(
        table,
        rows.tolist(),
        TILE_PX,
        workers=allowed_cpus(),
        progress=lambda done, total: listener.progress("drawing the map", done, total),
    )
    each = COLUMNS * ROWS
    drawn = [_sheet(pictures[start : start + each]) for start in range(0, len(pictures), each)]
    for quality in _QUALITIES:
        sheets = [data_uri("jpeg", jpeg_bytes(sheet, quality=quality)) for sheet in drawn]
        if sum(map(len, sheets)) <= SHEET_BYTES:
            return sheets
    return []


def _sheet(pictures: Sequence[NDArray[np.uint8] | None]) -> NDArray[np.uint8]:
    sheet = np.full((ROWS * TILE_PX, COLUMNS * TILE_PX, 3), BACKGROUND, np.uint8)
    for place, pixels in enumerate(pictures):
        if pixels is not None:
            height, width = pixels.shape[:2]
            top = place // COLUMNS * TILE_PX + (TILE_PX - height) // 2
            left = place % COLUMNS * TILE_PX + (TILE_PX - width) // 2
            sheet[top : top + height, left : left + width] = pixels
    return sheet
