"""Splitting: shares within one sample a class, groups and duplicates whole, official splits kept, files verified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.data.split import check_leaks, load_split, save_split, split, units
from sortal.data.statistics import class_buckets, statistics
from sortal.data.table import SPLITS, ImageTable, build_table


def _table(labels: list[int], **columns: list[object]) -> ImageTable:
    number = max([*labels, 0]) + 1
    frame = pl.DataFrame({"uri": [f"{row:05d}.jpg" for row in range(len(labels))], "label": labels, **columns})
    names = tuple(f"c{index:04d}" for index in range(number))
    return build_table(frame, labels=LabelSet(names=names), source="memory", root=None)


def _counts(table: ImageTable) -> np.ndarray:
    """(classes, 3) rows by class and split."""
    labels = table.label_array()
    return np.stack(
        [np.bincount(labels[table.split_rows(name)], minlength=len(table.labels)) for name in SPLITS], axis=1
    )


def _codes(table: ImageTable) -> set[str]:
    return {found.code for found in table.findings}


shares = st.sampled_from([0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4])


@settings(max_examples=120, deadline=None)
@given(sizes=st.lists(st.integers(3, 60), min_size=1, max_size=12), val=shares, test=shares, seed=st.integers(0, 2**32))
def test_every_class_is_within_one_sample_of_its_share(sizes: list[int], val: float, test: float, seed: int) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    counts = _counts(split(_table(labels), val=val, test=test, seed=seed))
    ideal = np.asarray(sizes)[:, None] * np.asarray([1 - val - test, val, test])
    assert counts.sum() == len(labels)
    assert (np.abs(counts - ideal) <= 1 + 1e-6).all()
    assert (counts[:, 0] >= 1).all()
    for column, share in ((1, val), (2, test)):
        assert (counts[:, column] > 0)[(ideal[:, 1] + ideal[:, 2] >= 1) & (share > 0)].all()


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(20, 400), min_size=2, max_size=8), seed=st.integers(0, 1000))
def test_proportions_agree_with_the_whole(sizes: list[int], seed: int) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    counts = _counts(split(_table(labels), val=0.15, test=0.15, seed=seed))
    whole = np.asarray(sizes)[:, None] / len(labels) * counts.sum(axis=0)
    assert (np.abs(counts - whole) <= 1.5).all()
    assert np.abs(counts.sum(axis=0) - np.asarray([0.7, 0.15, 0.15]) * len(labels)).max() <= 3


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 15), st.integers(0, 30)), min_size=3, max_size=120),
    seed=st.integers(0, 1000),
)
def test_groups_and_duplicates_are_never_cut(rows: list[tuple[int, int, int]], seed: int) -> None:
    labels, groups, contents = zip(*rows, strict=True)
    table = _table(
        list(labels),
        group=[f"g{group}" if group else None for group in groups],
        digest=[f"{content:064x}" for content in contents],
    )
    done = split(table, val=0.2, test=0.2, seed=seed)
    assert check_leaks(done) == ()
    assert done.frame["split"].null_count() == 0


def test_units_join_groups_and_duplicates_in_chains() -> None:
    digests = [f"{content:064x}" for content in (1, 2, 2, 3, 3, 9)]
    table = _table([0] * 6, group=["a", "a", "b", "b", None, None], digest=digests)
    found = units(table)
    assert len(set(found[:5].tolist())) == 1
    assert found[5] != found[0]


def test_large_groups_keep_the_shares_and_the_classes() -> None:
    rng = np.random.Generator(np.random.Philox(key=3))
    groups = [f"patient{number}" for number in range(120) for _ in range(int(rng.integers(2, 12)))]
    labels = [int(group[7:]) % 3 for group in groups]
    counts = _counts(split(_table(labels, group=groups), val=0.15, test=0.15, seed=1))
    assert np.abs(counts / counts.sum(axis=1, keepdims=True) - [0.7, 0.15, 0.15]).max() < 0.05


def test_a_class_of_three_groups_is_in_every_split() -> None:
    groups = [f"g{number}" for number in range(3) for _ in range(10)] + [
        f"h{number}" for number in range(30) for _ in range(4)
    ]
    counts = _counts(split(_table([0] * 30 + [1] * 120, group=groups), val=0.15, test=0.15, seed=5))
    assert (counts > 0).all()


def test_where_every_class_is_one_group_nothing_is_held_out_and_it_says_why() -> None:
    done = split(_table([0] * 10 + [1] * 12, group=["a"] * 10 + ["b"] * 12), val=0.2, test=0.2, seed=0)
    assert len(done.split_rows("train")) == 22
    [found] = [one for one in done.findings if one.code == "nothing_held_out"]
    assert "22 images are 2 units of images that belong together, for 2 classes" in found.message
    assert "nothing_held_out" not in _codes(split(_table([0] * 10 + [1] * 12), val=0.2, test=0.2, seed=0))


def test_the_same_seed_gives_the_same_split() -> None:
    table = _table([0, 1] * 200)
    first, again, other = (split(table, val=0.15, test=0.15, seed=seed) for seed in (4, 4, 5))
    assert first.frame.equals(again.frame)
    assert not first.frame.equals(other.frame)


def test_tiny_classes_train_first() -> None:
    counts = _counts(split(_table([0] + [1] * 2 + [2] * 3 + [3] * 40), val=0.15, test=0.15, seed=0))
    assert (counts[:, 0] >= 1).all()


@pytest.mark.parametrize("classes", [2, 12, 208, 1000])
def test_any_number_of_classes(classes: int) -> None:
    done = split(_table([label for label in range(classes) for _ in range(4)]), val=0.15, test=0.15, seed=0)
    assert (_counts(done) == [2, 1, 1]).all()


def test_a_long_tail_keeps_its_head_middle_and_tail() -> None:
    sizes = [int(500 * 0.85**number) + 3 for number in range(25)]
    done = split(_table([label for label, size in enumerate(sizes) for _ in range(size)]), val=0.15, test=0.15, seed=0)
    buckets = class_buckets(done)
    assert sum(map(len, buckets.values())) == 25
    assert buckets["head"][0] == "c0000"
    assert buckets["rare"][-1] == "c0024"
    report = statistics(done)
    assert "rare_class" in {found.code for found in report.findings}
    assert report.metrics["imbalance_ratio"].value == pytest.approx(sizes[0] / sizes[-1])


def test_official_test_is_kept_and_val_carved_from_train() -> None:
    splits: list[object] = ["train"] * 80 + ["test"] * 20
    done = split(_table([0, 1] * 50, split=splits), val=0.25, test=0.5, seed=0)
    assert done.split_rows("test").tolist() == list(range(80, 100))
    assert done.split_rows("val").size == 20


def test_without_an_official_test_there_is_none() -> None:
    splits: list[object] = ["train"] * 80 + ["val"] * 20
    done = split(_table([0, 1] * 50, split=splits), val=0.25, test=0.25, seed=0)
    assert done.split_rows("test").size == 0
    assert done.split_rows("val").tolist() == list(range(80, 100))
    assert "no_test_split" in _codes(done)


def test_train_only_is_divided_and_complete_splits_are_untouched() -> None:
    done = split(_table([0, 1] * 50, split=["train"] * 100), val=0.15, test=0.15, seed=0)
    assert [done.split_rows(name).size for name in SPLITS] == [70, 15, 15]
    again = split(done, val=0.4, test=0.4, seed=9)
    assert again.frame.equals(done.frame)


def test_rows_without_split_beside_others_train() -> None:
    splits: list[object] = ["test"] * 20 + ["val"] * 20 + [None] * 60
    done = split(_table([0, 1] * 50, split=splits), val=0.15, test=0.15, seed=0)
    assert done.split_rows("train").tolist() == list(range(40, 100))
    assert "split_filled" in _codes(done)


def test_unlabeled_rows_take_no_part() -> None:
    done = split(_table([0, 1] * 20 + [-1] * 5), val=0.2, test=0.2, seed=0)
    assert done.frame["split"][40:].null_count() == 5
    assert "unlabeled_left_out" in _codes(done)
    with pytest.raises(DataError, match="no image has a label"):
        split(_table([-1, -1]), val=0.2, test=0.2, seed=0)


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (0.5, 0.5), (0.0, 1.0)])
def test_impossible_shares(val: float, test: float) -> None:
    with pytest.raises(DataError):
        split(_table([0, 1]), val=val, test=test, seed=0)


def test_zero_shares_leave_everything_to_train() -> None:
    done = split(_table([0, 1] * 10), val=0.0, test=0.0, seed=0)
    assert done.split_rows("train").size == 20


def test_leaks_between_official_splits_are_named() -> None:
    digests = ["1" * 64, "1" * 64, "2" * 64, "3" * 64]
    table = _table([0, 0, 1, 1], digest=digests, split=["train", "test", "train", "test"], group=["a", "b", "c", "c"])
    found = {finding.code: finding.rows for finding in check_leaks(table)}
    assert found["duplicates_across_splits"] == ("00000.jpg", "00001.jpg")
    assert found["group_across_splits"] == ("00002.jpg", "00003.jpg")


def _scanned() -> ImageTable:
    digests = [f"{number:064x}" for number in range(40)]
    return split(_table([0, 1] * 20, digest=digests), val=0.2, test=0.2, seed=0)


@pytest.mark.parametrize("name", ["split.csv", "split.parquet"])
def test_a_split_file_survives_renaming_and_shuffling(tmp_path: Path, name: str) -> None:
    done = _scanned()
    path = save_split(done, tmp_path / name)
    renamed = done.with_columns({"uri": [f"moved/{row}.jpg" for row in range(40)], "split": [None] * 40})
    loaded = load_split(renamed.select(list(range(39, -1, -1))), path)
    assert loaded.frame["split"].to_list() == done.frame["split"].to_list()[::-1]
    assert loaded.findings == done.findings


def test_changed_content_is_refused(tmp_path: Path) -> None:
    done = _scanned()
    path = save_split(done, tmp_path / "split.csv")
    digests = [*done.frame["digest"].to_list()[:-1], "f" * 64]
    with pytest.raises(DataError, match=r"00039\.jpg"):
        load_split(done.with_columns({"digest": digests}), path)


def test_swapped_files_follow_their_content(tmp_path: Path) -> None:
    done = _scanned()
    path = save_split(done, tmp_path / "split.csv")
    loaded = load_split(done.with_columns({"digest": done.frame["digest"].to_list()[::-1]}), path)
    assert loaded.frame["split"].to_list() == done.frame["split"].to_list()[::-1]


def test_new_gone_and_relabeled_rows_are_findings(tmp_path: Path) -> None:
    done = _scanned()
    path = save_split(done.select(list(range(39))), tmp_path / "split.csv")
    changed = done.select(list(range(1, 40))).with_columns({"label": [0] * 39})
    loaded = load_split(changed, path)
    assert {"not_in_split_file", "missing_from_source", "label_changed"} <= _codes(loaded)
    assert loaded.frame["split"][38] is None


@pytest.mark.parametrize(
    "text",
    [
        "name,label\na,b\n",
        "name,digest,label,split,group\na,123,x,train,\n",
        f"name,digest,label,split,group\na,{'0' * 64},x,dev,\n",
    ],
)
def test_files_that_are_no_split_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DataError):
        load_split(_scanned(), tmp_path / "split.csv")


def test_the_report_counts_classes_by_split() -> None:
    done = _scanned()
    report = statistics(done)
    assert report.kind == "data"
    assert report.data_digest == done.content_digest
    assert report.body["dataset_id"] == done.content_digest[:16]
    row = dict(zip(report.tables["classes"].columns, report.tables["classes"].rows[0], strict=True))
    assert (row["images"], row["train"], row["val"], row["test"], row["bucket"]) == (20, 12, 4, 4, "rare")
    assert statistics(_table([0, 1])).body["digest"] == "listing"
