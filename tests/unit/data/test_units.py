"""Units, folds and growing splits: what belongs together stays together, whatever the chains and whatever is added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.data.folds import with_folds
from sortal.data.grow import grow_split
from sortal.data.leaks import leaked_rows, optimism, shared
from sortal.data.split import check_leaks, split
from sortal.data.split_file import LOCK, load_split, lock_test, save_split, sealed
from sortal.data.table import SPLITS, ImageTable, build_table
from sortal.data.units import kept_together, together, units

NONE = -1


def _table(labels: list[int], **columns: list[object]) -> ImageTable:
    frame = pl.DataFrame({"uri": [f"{row:05d}.jpg" for row in range(len(labels))], "label": labels, **columns})
    names = tuple(f"c{index}" for index in range(max([*labels, 0]) + 1))
    return build_table(frame, labels=LabelSet(names=names), source="memory", root=None)


def _digest(content: int) -> str:
    return f"{content:064x}"


Row = tuple[int, int, int, int, int]

rows_of_links = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 12), st.integers(0, 40), st.integers(-1, 10), st.integers(-1, 10)),
    min_size=8,
    max_size=90,
)
"""label, group (0: none), content, cluster of near duplicates, burst"""


def _linked(rows: list[Row]) -> ImageTable:
    labels, groups, contents, near, bursts = (list(column) for column in zip(*rows, strict=True))
    table = _table(
        labels,
        group=[f"g{group}" if group else None for group in groups],
        digest=[_digest(content) for content in contents],
    )
    return together(table, near=np.asarray(near), burst=np.asarray(bursts))


def _connected(rows: list[Row]) -> list[set[int]]:
    """The units by hand: a walk over everything that shares a group, content, cluster or burst."""
    left, found = set(range(len(rows))), []
    while left:
        unit, waiting = set(), [left.pop()]
        while waiting:
            row = waiting.pop()
            unit.add(row)
            mine = rows[row]
            for other in list(left):
                theirs = rows[other]
                if any(
                    mine[part] == theirs[part] and (part == 2 or mine[part] not in (NONE, 0 if part == 1 else NONE))
                    for part in (1, 2, 3, 4)
                ):
                    left.remove(other)
                    waiting.append(other)
        found.append(unit)
    return found


@settings(max_examples=80, deadline=None)
@given(rows=rows_of_links, seed=st.integers(0, 99))
def test_units_never_cross_splits_whatever_the_chains(rows: list[Row], seed: int) -> None:
    table = _linked(rows)
    found = units(table)
    wanted = _connected(rows)
    assert {frozenset(np.flatnonzero(found == unit).tolist()) for unit in np.unique(found)} == {
        frozenset(unit) for unit in wanted
    }
    done = split(table, val=0.2, test=0.2, seed=seed)
    assert check_leaks(done) == ()
    assert not leaked_rows(done).any()
    for unit in wanted:
        assert len(set(done.frame["split"][sorted(unit)].to_list())) == 1


@settings(max_examples=60, deadline=None)
@given(rows=rows_of_links, count=st.integers(2, 6), seed=st.integers(0, 99))
def test_folds_are_a_partition_that_cuts_no_unit(rows: list[Row], count: int, seed: int) -> None:
    table = _linked(rows)
    found = units(table)
    if len(np.unique(found)) < count:
        with pytest.raises(DataError, match="fewer units"):
            with_folds(table, count, seed=seed)
        return
    folds = with_folds(table, count, seed=seed).frame["fold"].to_numpy()
    assert set(folds.tolist()) <= set(range(count))
    assert all(len(set(folds[found == unit].tolist())) == 1 for unit in np.unique(found))


def test_folds_share_every_class_evenly() -> None:
    folds = with_folds(_table([0] * 50 + [1] * 23), 5, seed=1).frame["fold"].to_numpy()
    assert (np.bincount(folds[:50], minlength=5) == 10).all()
    assert set(np.bincount(folds[50:], minlength=5).tolist()) == {4, 5}


def test_a_locked_test_has_no_fold_and_a_class_of_one_burst_is_named() -> None:
    table = together(_table([0] * 30 + [1] * 10), burst=np.asarray([-1] * 30 + [7] * 10))
    done = with_folds(table.with_columns({"split": ["test"] * 5 + [None] * 35}), 3, seed=0)
    assert done.frame["fold"][:5].null_count() == 5
    assert [found.rows for found in done.findings if found.code == "class_of_one_unit"] == [("c1",)]


def test_what_keeps_rows_together_is_counted() -> None:
    table = together(
        _table([0] * 6, digest=[_digest(n) for n in (1, 1, 2, 3, 4, 5)], group=[None, None, "a", "a", "a", "b"]),
        near=np.asarray([-1, -1, -1, -1, 4, 4]),
    )
    assert kept_together(table) == {"identical files": (1, 2), "near duplicates": (1, 2), "groups": (1, 3)}


def test_synthetic_rows_only_train() -> None:
    sources = ["real"] * 40 + ["Synthetic", "generated", "simulated ", "synthetic"]
    digests = [_digest(n) for n in range(43)] + [_digest(3)]
    table = _table([0, 1] * 22, source=sources, digest=digests)
    for seed in range(12):
        done = split(table, val=0.3, test=0.3, seed=seed)
        made = done.frame["split"][40:].to_list()
        assert made[:3] == ["train"] * 3
        assert made[3] == ("train" if done.frame["split"][3] == "train" else None)
        assert sum(len(done.split_rows(name)) for name in SPLITS) == 43 + (made[3] is not None)
    given = table.with_columns({"split": ["train"] * 22 + ["test"] * 22})
    assert set(split(given, val=0.2, test=0.2, seed=0).frame["split"][40:43].to_list()) == {"train"}


def _scanned(contents: list[int], near: list[int] | None = None) -> ImageTable:
    table = _table([content % 2 for content in contents], digest=[_digest(content) for content in contents])
    return table if near is None else together(table, near=np.asarray(near))


@settings(max_examples=40, deadline=None)
@given(
    first=st.integers(8, 40),
    added=st.lists(st.integers(1, 15), min_size=1, max_size=3),
    clusters=st.lists(st.integers(-1, 12), min_size=120, max_size=120),
    seed=st.integers(0, 9),
)
def test_a_locked_split_grows_and_moves_nothing(
    tmp_path_factory: pytest.TempPathFactory, first: int, added: list[int], clusters: list[int], seed: int
) -> None:
    path = tmp_path_factory.mktemp("grow") / "split.csv"
    table = _scanned(list(range(first)), clusters[:first])
    save_split(lock_test(split(table, val=0.2, test=0.2, seed=seed)), path)
    before = dict(zip(*pl.read_csv(path, infer_schema=False).select("digest", "split").get_columns(), strict=True))
    size = first
    for more in added:
        size += more
        table = _scanned(list(range(size)), clusters[:size])
        grown = lock_test(grow_split(table, path, val=0.2, test=0.2, seed=seed))
        now = dict(zip(grown.frame["digest"], grown.frame["split"], strict=True))
        assert {digest: now[digest] for digest in before} == before
        assert not leaked_rows(grown).any()
        save_split(grown, path)
        assert len(sealed(path)) == len(grown.split_rows("test"))
        before = now
    kept = load_split(table, path)
    assert kept.frame["split"].to_list() == grown.frame["split"].to_list()


def test_new_images_join_the_side_of_their_unit_or_none(tmp_path: Path) -> None:
    done = _scanned(list(range(20))).with_columns({"split": ["train"] * 10 + ["val"] * 5 + ["test"] * 5})
    path = save_split(lock_test(done), tmp_path / "split.csv")
    near = [0, -1, -1, -1, -1] + [-1] * 10 + [-1, -1, -1, 7, -1] + [0, 7, 0, 7]
    table = _scanned(list(range(24)), near)
    table = table.with_columns({"group": [None] * 20 + [None, None, "g", "g"]})
    grown = grow_split(table, path, val=0.2, test=0.2, seed=0)
    # the last two link a training picture with a test picture, and with them everything of both sides
    assert grown.frame["split"][20:].to_list() == [None] * 4
    assert {found.code for found in grown.findings} >= {"links_splits"}
    alone = grow_split(table.with_columns({"group": [None] * 24}), path, val=0.2, test=0.2, seed=0)
    assert alone.frame["split"][20:].to_list() == ["train", "test", "train", "test"]


def test_a_locked_test_that_was_altered_is_refused(tmp_path: Path) -> None:
    path = save_split(lock_test(split(_scanned(list(range(40))), val=0.2, test=0.2, seed=0)), tmp_path / "s.csv")
    frame = pl.read_csv(path, infer_schema=False)
    row = int(np.flatnonzero((frame["split"] == "test").to_numpy())[0])
    fewer = frame.filter(pl.int_range(pl.len()) != row)
    moved = frame.with_columns(split=pl.when(pl.int_range(pl.len()) == row).then(pl.lit("train")).otherwise("split"))
    for altered in (fewer, moved):
        altered.write_csv(path)
        with pytest.raises(DataError, match="locked"):
            load_split(_scanned(list(range(40))), path)


def test_images_of_a_locked_test_that_are_gone_stay_in_the_file(tmp_path: Path) -> None:
    done = lock_test(split(_scanned(list(range(40))), val=0.2, test=0.2, seed=0))
    path = save_split(done, tmp_path / "s.csv")
    kept = done.frame["digest"].to_list()
    lost = done.frame["digest"][int(done.split_rows("test")[0])]
    table = _scanned([content for content in range(40) if _digest(content) != lost])
    grown = lock_test(grow_split(table, path, val=0.2, test=0.2, seed=0))
    gone = sealed(path).filter(pl.col("digest") == lost)
    save_split(grown, path, gone=gone)
    assert sorted(pl.read_csv(path, infer_schema=False)["digest"].to_list()) == sorted(kept)
    assert load_split(table, path).frame[LOCK].count() == len(done.split_rows("test")) - 1


def test_a_unit_of_the_file_that_is_cut_by_hand_is_a_leak(tmp_path: Path) -> None:
    table = together(_scanned(list(range(20))), burst=np.asarray([3, 3] + [-1] * 18))
    path = save_split(split(table, val=0.2, test=0.2, seed=0), tmp_path / "split.csv")
    frame = pl.read_csv(path, infer_schema=False)
    cut = ["train", "test", *frame["split"].to_list()[2:]]
    frame.with_columns(split=pl.Series(cut)).write_csv(path)
    loaded = load_split(_scanned(list(range(20))), path)
    assert shared(loaded, "_unit").tolist() == [True, True] + [False] * 18


def test_leaks_count_towards_the_judged_side_only() -> None:
    table = together(
        _table([0] * 7, split=["train", "test", "val", "test", "train", None, "test"]),
        near=np.asarray([1, 1, 2, 2, 5, 5, -1]),
    )
    assert leaked_rows(table).tolist() == [False, True, False, True, False, False, False]
    right = np.asarray([True, True, False, False])
    found = optimism(right, np.asarray([True, True, False, False]))
    assert (found.every.accuracy, found.leaked.accuracy, found.clean.accuracy) == (0.5, 1.0, 0.0)
    assert found.points == pytest.approx(50.0)
    assert optimism(right, np.ones(4, bool)).points is None
