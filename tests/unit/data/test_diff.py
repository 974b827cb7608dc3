"""Two versions of a data set compared: planted differences are found, each as what it is, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sortal.core.errors import DataError
from sortal.data.diff import KINDS, LISTING, Side, compare, report, side
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.split_file import save_split
from trees import image_bytes, make


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    a = make(tmp_path / "a", {"cat": 6, "dog": 4, "Ñandú": 2})
    shutil.copytree(a, tmp_path / "b")
    return a, tmp_path / "b"


def _kinds(a: Path, b: Path, *, content: bool = True) -> dict[str, list[tuple[str, str]]]:
    rows = compare(side(a, content=content), side(b, content=content)).rows
    found: dict[str, list[tuple[str, str]]] = {}
    for kind, name, other in rows.select("kind", "name", "other").iter_rows():
        found.setdefault(kind, []).append((name, other))
    return found


def test_equal_versions_do_not_differ(pair: tuple[Path, Path]) -> None:
    found = compare(side(pair[0]), side(pair[1]))
    assert found.equal
    assert set(found.counts().values()) == {0}
    assert report(found).provenance["content_digest_a"] == scan(images(pair[0])).content_digest


def test_each_difference_is_found_as_what_it_is(pair: tuple[Path, Path]) -> None:
    a, b = pair
    (b / "cat/0.png").unlink()
    (b / "dog/new.png").write_bytes(image_bytes(500))
    (b / "cat/1.png").rename(b / "dog/1-2.png")
    (b / "cat/2.png").rename(b / "cat/renamed.png")
    (b / "cat/3.png").write_bytes(image_bytes(501))
    assert _kinds(a, b) == {
        "removed": [("cat/0.png", "cat/0.png")],
        "added": [("dog/new.png", "dog/new.png")],
        "relabeled": [("cat/1.png", "dog/1-2.png")],
        "moved": [("cat/2.png", "cat/renamed.png")],
        "changed": [("cat/3.png", "cat/3.png")],
    }
    told = report(compare(side(a), side(b)))
    assert told.metrics["images a"].value == told.metrics["images b"].value == 12
    assert set(told.tables["Classes"].rows) == {("cat", 6, 4, -2), ("dog", 4, 6, 2)}


def test_the_other_way_round_is_the_opposite(pair: tuple[Path, Path]) -> None:
    a, b = pair
    (b / "cat/0.png").unlink()
    (b / "cat/1.png").rename(b / "dog/1-2.png")
    there, back = _kinds(a, b), _kinds(b, a)
    assert back["added"] == there["removed"]
    assert back["relabeled"] == [(other, name) for name, other in there["relabeled"]]


def test_copies_are_paired_one_to_one(pair: tuple[Path, Path]) -> None:
    a, b = pair
    for folder, names in ((a, ["x1", "x2"]), (b, ["y1", "y2", "y3"])):
        for name in names:
            (folder / "cat" / f"{name}.png").write_bytes(image_bytes(900))
    found = _kinds(a, b)
    assert found["moved"] == [("cat/x1.png", "cat/y1.png"), ("cat/x2.png", "cat/y2.png")]
    assert found["added"] == [("cat/y3.png", "cat/y3.png")]


def test_without_contents_only_names_count(pair: tuple[Path, Path]) -> None:
    a, b = pair
    (b / "cat/3.png").write_bytes(image_bytes(501))
    (b / "cat/2.png").rename(b / "cat/renamed.png")
    found = _kinds(a, b, content=False)
    assert found == {"removed": [("cat/2.png", "cat/2.png")], "added": [("cat/renamed.png", "cat/renamed.png")]}


def test_a_run_is_compared_by_its_split_file_without_reading_images(pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = pair
    table = scan(images(a))
    splits = ["train" if row % 3 else "test" for row in range(len(table))]
    divided = table.with_columns({"split": splits})
    run = tmp_path / "runs" / "photos-1"
    run.mkdir(parents=True)
    save_split(divided, run / "split.csv")
    mine = side(run)
    assert mine.content_digest == table.content_digest
    assert mine.listing_digest == divided.listing_digest
    shutil.rmtree(a)
    found = compare(mine, side(b))
    assert found.counts() == {**dict.fromkeys(KINDS, 0), "split": len(table)}
    save_split(divided.with_columns({"split": ["train", *splits[1:]]}), tmp_path / "other.csv")
    rows = compare(mine, side(tmp_path / "other.csv")).rows
    assert rows.select("kind", "split_a", "split_b").rows() == [("split", "test", "train")]


def test_a_damaged_split_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("name,digest,label,split\na,x,b,train\na,x,b,train\n")
    with pytest.raises(DataError, match="once"):
        side(path)


def test_crops_of_one_image_are_told_apart(tmp_path: Path) -> None:
    make(tmp_path / "photos", {"a": 1})
    head = "path,label,x0,y0,x1,y1\n"
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text(head + "photos/a/0.png,cat,0,0,0.5,1\nphotos/a/0.png,dog,0.5,0,1,1\n")
    two.write_text(head + "photos/a/0.png,cat,0,0,0.5,1\nphotos/a/0.png,cow,0.5,0,1,1\n")
    assert _kinds(one, two) == {"relabeled": [("photos/a/0.png@0.5,0.0,1.0,1.0",) * 2]}


def test_a_hundred_thousand_rows_with_planted_differences() -> None:
    count = 100_000
    order = np.random.default_rng(0).permutation(count)
    frame = pl.DataFrame(
        {
            "name": [f"c{n % 50}/{n:07}.jpg" for n in range(count)],
            "content": [f"{n:064x}" for n in range(count)],
            "label": [f"c{n % 50}" for n in range(count)],
            "split": ["train"] * count,
        },
        schema=LISTING,
    )
    later = frame[order.tolist()].with_row_index("n")
    moved = later.with_columns(
        name=pl.when(pl.col("n") < 100).then(pl.lit("new/") + pl.col("name")).otherwise("name"),
        content=pl.when(pl.col("n").is_between(100, 299)).then(pl.col("content") + "x").otherwise("content"),
        label=pl.when(pl.col("n").is_between(300, 699)).then(pl.lit("other")).otherwise("label"),
        split=pl.when(pl.col("n").is_between(700, 704)).then(pl.lit("test")).otherwise("split"),
    ).filter(pl.col("n") < count - 7)
    sides = [
        Side(source=s, listing=f, listing_digest="", content_digest="")
        for s, f in (("a", frame), ("b", moved.drop("n")))
    ]
    expected = {"added": 0, "removed": 7, "relabeled": 400, "moved": 100, "changed": 200, "split": 5}
    assert compare(*sides).counts() == expected
