"""Polygons: closed forms for areas, masks against areas, and every way to enclose nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.core.errors import DataError
from sortal.data.polygons import (
    polygon_area,
    polygon_areas,
    polygon_box,
    polygon_coverage,
    polygon_mask,
    polygon_problem,
)

SQUARE = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])


def _star(seed: int, corners: int, radius: float, centre: float) -> np.ndarray:
    """Corners around a centre in order of their angle: never crosses itself."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    lengths = rng.uniform(0.4, 1.0, corners) * radius
    return np.column_stack([centre + lengths * np.cos(angles), centre + lengths * np.sin(angles)])


def test_areas_in_closed_form() -> None:
    angles = np.arange(64) * 2 * np.pi / 64
    circle = np.column_stack([100 + 10 * np.cos(angles), 100 + 10 * np.sin(angles)])
    assert polygon_area(SQUARE) == 16
    assert polygon_area(SQUARE[::-1]) == 16
    assert polygon_area(np.array([[0.0, 0], [3, 0], [0, 4]])) == 6
    assert polygon_area(circle) == pytest.approx(0.5 * 64 * 100 * np.sin(2 * np.pi / 64), rel=1e-12)
    assert polygon_area(SQUARE[:2]) == 0


def test_many_areas_at_once_are_those_of_each() -> None:
    rings = [_star(seed, 3 + seed, 5, 20) for seed in range(20)]
    lists = pl.Series([*(ring.ravel().tolist() for ring in rings), None, [1.0, 2.0], []], dtype=pl.List(pl.Float64))
    assert np.allclose(polygon_areas(lists), [*map(polygon_area, rings), 0, 0, 0], rtol=1e-12)


@pytest.mark.parametrize(
    ("corners", "why"),
    [
        (SQUARE, None),
        (np.vstack([SQUARE, SQUARE[:1]]), None),
        (SQUARE[:2], "fewer than three"),
        (np.zeros((5, 2)), "fewer than three"),
        (np.empty((0, 2)), "fewer than three"),
        (np.array([[0, 0], [1, np.nan], [1, 1]]), "no number"),
        (np.array([[0.0, 0], [4, 4], [4, 0], [0, 4]]), "crosses"),
        (np.array([[0.0, 0], [1, 1], [2, 2]]), "no area"),
    ],
)
def test_what_encloses_nothing_says_why(corners: np.ndarray, why: str | None) -> None:
    found = polygon_problem(corners)
    assert found is None if why is None else why in (found or "")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), corners=st.integers(3, 24), radius=st.floats(6, 30))
def test_masks_have_the_area_of_their_polygon(seed: int, corners: int, radius: float) -> None:
    ring = _star(seed, corners, radius, 32)
    assert polygon_problem(ring) in (None, "it crosses or touches itself")
    covered = polygon_coverage(ring, 64, 64)
    assert covered.sum() == pytest.approx(polygon_area(ring), rel=0.01, abs=0.3)
    assert covered.min() >= 0
    assert covered.max() <= 1


def test_a_mask_fills_exactly_the_pixels_inside() -> None:
    mask = polygon_mask(np.array([[2.0, 1], [7, 1], [7, 5], [2, 5]]), 8, 10)
    expected = np.zeros((8, 10), dtype=bool)
    expected[1:5, 2:7] = True
    assert np.array_equal(mask, expected)
    angles = np.arange(200) * 2 * np.pi / 200
    disc = np.column_stack([50.3 + 30 * np.cos(angles), 49.8 + 30 * np.sin(angles)])
    assert polygon_mask(disc, 100, 100).sum() == pytest.approx(polygon_area(disc), rel=0.01)


def test_what_lies_outside_the_image_is_clipped() -> None:
    around = np.array([[-5.0, -5], [50, -5], [50, 50], [-5, 50]])
    assert polygon_coverage(around, 4, 6).sum() == 24
    assert polygon_coverage(around + 100, 4, 6).sum() == 0


def test_the_box_around() -> None:
    assert polygon_box(SQUARE) == (0, 0, 4, 4)
    with pytest.raises(DataError):
        polygon_box(np.empty((0, 2)))
