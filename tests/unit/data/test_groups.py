"""Proposed groups: what can be pasted into --group groups as it says, and the class itself is no group."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from sortal.core.labels import LabelSet
from sortal.data.groups import propose_groups, with_exif_columns
from sortal.data.open import with_group
from sortal.data.survey import Survey
from sortal.data.table import ImageTable, build_table


def _table(uris: list[str], labels: list[int], **columns: list[object]) -> ImageTable:
    frame = pl.DataFrame({"uri": uris, "label": labels, **columns})
    names = tuple(f"c{index}" for index in range(max(labels) + 1))
    return build_table(frame, labels=LabelSet(names=names), source="memory", root=None)


def _lots() -> ImageTable:
    uris = [f"{'ok' if row % 2 else '划痕'}/lot_{row // 8:03d}_cam{row % 3}_{row:05d}.jpg" for row in range(160)]
    return _table(uris, [row % 2 for row in range(160)])


def test_a_lot_in_the_name_comes_first_and_groups_as_it_says() -> None:
    table = _lots()
    best = propose_groups(table)[0]
    assert best.pattern == r"lot_(\d+)"
    assert (best.groups, best.matched, best.useless) == (20, 1.0, None)
    assert best.evenness > 0.99
    grouped = with_group(table, best.pattern)
    assert grouped.frame["group"].n_unique() == 20
    assert grouped.frame["group"][8] == "001"


def test_every_pattern_can_be_pasted() -> None:
    table = _lots()
    for proposal in propose_groups(table):
        assert with_group(table, proposal.pattern).frame["group"].n_unique() == proposal.groups


def test_the_class_is_no_group() -> None:
    table = _table([f"class{row % 3}/{row:04d}.jpg" for row in range(90)], [row % 3 for row in range(90)])
    assert all(proposal.useless for proposal in propose_groups(table))
    assert all(proposal.rank == 0 for proposal in propose_groups(table))


def test_what_is_only_numbered_offers_nothing() -> None:
    assert propose_groups(_table([f"{row:04d}.jpg" for row in range(50)], [0, 1] * 25)) == ()


def test_a_column_and_exif_are_offered() -> None:
    days = [datetime(2024, 3, 1 + row // 10) for row in range(60)]
    frame = pl.DataFrame({"camera": ["A", "B"] * 30, "taken": pl.Series(days, dtype=pl.Datetime("us"))})
    survey = Survey(frame=frame, hashes=np.zeros((60, 32), np.uint8), tiny=np.zeros((60, 16, 16, 3), np.uint8))
    patients: list[object] = [f"p{row // 4}" for row in range(60)]
    table = _table([f"{row:03d}.png" for row in range(60)], [0, 1, 1, 0] * 15, patient=patients)
    found = {proposal.pattern: proposal for proposal in propose_groups(table, survey)}
    assert found["patient"].groups == 15
    assert found["day"].groups == 6
    assert propose_groups(table, survey)[0].pattern == "patient"
    assert with_group(with_exif_columns(table, survey), "day").frame["group"].n_unique() == 6


def test_two_hundred_thousand_names_are_looked_at_in_columns() -> None:
    uris = [f"a/seq{row // 50}_{row}.jpg" for row in range(200_000)]
    found = propose_groups(_table(uris, [0, 1] * 100_000))
    assert r"seq(\d+)" in {proposal.pattern for proposal in found}


def test_columns_of_boxes_and_polygons_are_no_groups() -> None:
    boxes = pl.Series([[0.0, 0.0, float(row), 4.0] for row in range(160)], dtype=pl.Array(pl.Float64, 4))
    table = _lots().with_columns({"box": boxes})
    assert propose_groups(table)[0].pattern == r"lot_(\d+)"
