"""Boxes: which are none, what region they stand for, how much they overlap."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from sortal.core.errors import DataError
from sortal.data.boxes import BOX, areas, box_problem, overlap, polygon_bounds, reaches_out, regions

NAN, INF = float("nan"), float("inf")


def _problems(*boxes: list[float] | None) -> list[str | None]:
    return pl.Series("box", boxes, dtype=BOX).to_frame().select(box_problem()).to_series().to_list()


def test_every_kind_of_degenerate_box_is_told() -> None:
    assert _problems(
        [0.1, 0.1, 0.5, 0.5],
        [-0.5, 0.1, 0.2, 2.0],
        None,
        [NAN, 0.1, 0.5, 0.5],
        [0.1, 0.1, INF, 0.5],
        [0.5, 0.1, 0.1, 0.5],
        [0.1, 0.5, 0.5, 0.1],
        [0.1, 0.1, 0.1, 0.5],
        [1.0, 0.1, 1.2, 0.5],
        [-0.2, 0.1, 0.0, 0.5],
    ) == [
        None,
        None,
        None,
        "a corner is no number",
        "a corner is no number",
        "its corners are swapped",
        "its corners are swapped",
        "it has no area",
        "it lies outside the image",
        "it lies outside the image",
    ]


def test_a_region_is_the_box_itself_without_margin_bit_for_bit() -> None:
    values = np.sort(np.random.default_rng(0).random((50, 2, 2)), axis=1).reshape(50, 4)
    boxes = pl.Series([*values.tolist(), None], dtype=BOX)
    assert regions(boxes).to_list() == boxes.to_list()


def test_the_margin_is_a_share_of_each_side_and_stays_inside() -> None:
    found = regions(pl.Series([[0.4, 0.2, 0.6, 0.6], [0.0, 0.0, 1.0, 0.5], [-0.5, 0.0, 0.5, 0.5]], dtype=BOX), 0.25)
    assert np.allclose(found.to_numpy(), [[0.35, 0.1, 0.65, 0.7], [0, 0, 1, 0.625], [0, 0, 0.75, 0.625]], atol=1e-12)


@pytest.mark.parametrize("margin", [-0.1, NAN, INF])
def test_a_margin_is_a_share(margin: float) -> None:
    with pytest.raises(DataError):
        regions(pl.Series([[0.0, 0.0, 1.0, 1.0]], dtype=BOX), margin)


def test_boxes_partly_outside_are_seen_but_not_rounding() -> None:
    frame = pl.Series("box", [[-0.1, 0, 0.5, 1], [0, 0, 1 + 1e-9, 1], [0, 0, 1, 1.01], None], dtype=BOX).to_frame()
    assert frame.select(reaches_out()).to_series().to_list() == [True, False, True, False]
    assert frame.select(areas()).to_series().to_list() == [0.5, 1.0, 1.0, None]


def test_the_box_around_a_polygon() -> None:
    frame = pl.DataFrame({"polygon": [[0.5, 0.1, 0.9, 0.2, 0.7, 0.6], None]}, schema={"polygon": pl.List(pl.Float64)})
    assert frame.select(polygon_bounds()).to_series().to_list() == [[0.5, 0.1, 0.9, 0.6], None]


def test_overlap_is_intersection_over_union() -> None:
    one = np.array([[0.0, 0, 2, 2], [5, 5, 5, 5]])
    other = np.array([[1.0, 1, 3, 3], [0, 0, 2, 2], [5, 5, 5, 5]])
    assert np.allclose(overlap(one, other), [[1 / 7, 1, 0], [0, 0, 0]])
