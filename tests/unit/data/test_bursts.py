"""Bursts: found by order, time and sight where they were planted, and not where pictures only look alike."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from sortal.core.labels import LabelSet
from sortal.data.bursts import find_bursts
from sortal.data.sequences import neighbors
from sortal.data.survey import Survey
from sortal.data.table import ImageTable, build_table


def _table(uris: list[str], labels: list[int]) -> ImageTable:
    names = tuple(f"c{index}" for index in range(max(labels) + 1))
    return build_table(
        pl.DataFrame({"uri": uris, "label": labels}), labels=LabelSet(names=names), source="memory", root=None
    )


def _survey(count: int, taken: list[datetime | None] | None = None, tiny: np.ndarray | None = None) -> Survey:
    frame = pl.DataFrame(
        {
            "camera": pl.Series([None] * count, dtype=pl.String),
            "taken": pl.Series(taken or [None] * count, dtype=pl.Datetime("us")),
        }
    )
    rng = np.random.Generator(np.random.Philox(key=0))
    pictures = rng.integers(0, 256, (count, 16, 16, 3)).astype(np.uint8) if tiny is None else tiny
    return Survey(frame=frame, hashes=np.zeros((count, 32), np.uint8), tiny=pictures)


def _scenes(rng: np.random.Generator, objects: int, each: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Features of `objects` objects with `each` pictures, one after the other: those of one lie close together."""
    centers = np.repeat(rng.normal(size=(objects, 24)), each, axis=0)
    values = centers + spread * rng.normal(size=centers.shape)
    return values.astype(np.float32), np.repeat(np.arange(objects), each)


def _mixed(rng: np.random.Generator, alone: int) -> tuple[ImageTable, np.ndarray, np.ndarray]:
    """60 objects in 4 pictures each and `alone` in one, in any order, of 5 classes: table, features, truth."""
    values, truth = _scenes(rng, 60, 4, 0.25)
    values = np.concatenate([values, rng.normal(size=(alone, 24)).astype(np.float32)])
    truth = np.concatenate([truth, np.arange(60, 60 + alone)])
    order = rng.permutation(len(values))
    values, truth = values[order], truth[order]
    return _table([f"{row}x.jpg" for row in range(len(truth))], (truth % 5).tolist()), values, truth


def _agreement(sets: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Shares of the true pairs that are found, and of the found pairs that are true."""
    together = (sets[:, None] == sets[None]) & (sets[:, None] >= 0)
    same, apart = truth[:, None] == truth[None], ~np.eye(len(truth), dtype=bool)
    return float(together[same & apart].mean()), float(same[together & apart].mean())


def test_scenes_are_found_in_any_order() -> None:
    table, values, truth = _mixed(np.random.Generator(np.random.Philox(key=1)), 300)
    found = find_bursts(table, _survey(len(truth)), values)
    recall, precision = _agreement(found.burst, truth)
    assert recall > 0.95
    assert precision > 0.8
    assert len(found.evidence) == 1
    assert (found.alike == -1).all()
    assert [one.code for one in found.findings(table)] == ["bursts"]


def test_where_most_pictures_look_alike_no_single_one_is_marked() -> None:
    table, values, truth = _mixed(np.random.Generator(np.random.Philox(key=1)), 0)
    table = table.with_columns({"split": ["train", "test"] * 120})
    found = find_bursts(table, _survey(240), values)
    assert (found.burst == -1).all()
    recall, precision = _agreement(found.alike, truth)
    assert recall > 0.95
    assert precision > 0.9
    (said,) = found.findings(table)
    assert (said.code, said.severity, said.rows) == ("alike_throughout", "info", ())
    assert "240 of 240 images" in said.message
    assert "across splits" in said.message


def test_where_pictures_look_alike_by_degrees_scenes_are_kept_together_and_none_is_marked() -> None:
    rng = np.random.Generator(np.random.Philox(key=7))
    rows = rng.permutation(np.concatenate([np.arange(480), np.repeat(480 + np.arange(20), 4)]))
    backgrounds = rng.normal(size=(12, 64))[rng.integers(0, 12, 500)]
    pictured = backgrounds + 0.5 * rng.normal(size=(500, 64))
    values = (pictured[rows] + 0.1 * rng.normal(size=(560, 64))).astype(np.float32)
    table = _table([f"{row}x.jpg" for row in range(560)], (rows % 8).tolist())
    found = find_bursts(table, _survey(560), values)
    assert (found.burst == -1).all()
    assert (found.alike[rows < 480] >= 0).mean() < 0.1
    assert _agreement(found.alike, rows)[0] > 0.7
    (said,) = found.findings(table)
    assert (said.code, said.rows) == ("alike_throughout", ())
    assert "look alike by degrees" in said.message


def test_what_order_and_likeness_say_is_marked_also_where_it_is_everything() -> None:
    rng = np.random.Generator(np.random.Philox(key=6))
    values, _ = _scenes(rng, 60, 4, 0.35)
    table = _table([f"IMG_{row:04d}.jpg" for row in range(240)], [row // 48 for row in range(240)])
    found = find_bursts(table, _survey(240), values)
    assert (found.burst >= 0).mean() > 0.95
    assert "numbers in file names" in found.evidence[0]


def test_neighbors_in_file_order_that_are_alike_are_one_burst() -> None:
    rng = np.random.Generator(np.random.Philox(key=3))
    tiny = np.repeat(rng.integers(0, 256, (40, 16, 16, 3)), 5, axis=0) + rng.integers(-6, 7, (200, 16, 16, 3))
    survey = _survey(200, tiny=np.clip(tiny, 0, 255).astype(np.uint8))
    table = _table([f"shots/IMG_{row:04d}.jpg" for row in range(200)], [row // 100 for row in range(200)])
    found = find_bursts(table, survey)
    bursts = found.burst.reshape(40, 5)
    assert (bursts == bursts[:, :1]).all()
    assert (bursts >= 0).all()
    assert len(np.unique(bursts)) >= 35
    assert "numbers in file names" in found.evidence[0]
    shuffled = table.with_columns({"uri": [f"shots/IMG_{row:04d}.jpg" for row in rng.permutation(200)]})
    assert (find_bursts(shuffled, survey).burst == -1).mean() > 0.9


def test_numbers_that_are_far_apart_or_of_another_class_are_no_neighbors() -> None:
    uris = [*(f"a/x_{number}.jpg" for number in (1, 2, 4, 9, 10)), "b/x_11.jpg", "b/y_12.jpg", "b/x_12.jpg"]
    found = neighbors(_table(uris, [0, 0, 0, 0, 1, 1, 1, 1]), _survey(8))
    assert [order.words for order in found] == ["numbers in file names"]
    assert set(zip(found[0].first.tolist(), found[0].second.tolist(), strict=True)) == {(0, 1), (1, 2), (5, 7)}


def test_time_is_an_order_too() -> None:
    start = datetime(2024, 5, 1, 12)
    taken: list[datetime | None] = [start + timedelta(seconds=second) for second in (300, 0, 60, 1000, 301)]
    found = neighbors(_table([f"{name}.jpg" for name in "abcde"], [0] * 5), _survey(5, taken))
    assert [order.words for order in found] == ["EXIF time"]
    assert set(zip(found[0].first.tolist(), found[0].second.tolist(), strict=True)) == {(1, 2), (0, 4)}


def test_rows_without_a_class_are_in_no_burst() -> None:
    rng = np.random.Generator(np.random.Philox(key=5))
    values = np.concatenate([_scenes(rng, 20, 4, 0.2)[0], rng.normal(size=(60, 24)).astype(np.float32)])
    table = _table([f"{row}x.jpg" for row in range(140)], [0] * 140).with_columns({"label": [-1] * 40 + [0] * 100})
    found = find_bursts(table, _survey(140), values)
    assert (found.burst[:40] == -1).all()
    assert (found.burst[40:] >= 0).any()
