"""Checks of duplicates, leaks, bursts and groups: each planted fault is named once, and a clean set has none."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sortal.data.checks import bursts, duplicates, groups, leaks
from sortal.data.checks.material import ISSUES, Material
from sortal.data.checks.pairs import near_of, related_table
from sortal.data.open import images
from sortal.data.repair.suggest import plan_from
from sortal.data.survey import survey


def _picture(rng: np.random.Generator) -> Image.Image:
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return coarse.resize((96, 96), Image.Resampling.BICUBIC)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _jpeg(image: Image.Image, quality: int = 92) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return data.getvalue()


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Clean pictures, with an exact copy, a near copy, one of each under another label, and leaks of either kind."""
    root = tmp_path_factory.mktemp("照片")
    rng = np.random.Generator(np.random.Philox(key=4))
    pictures = [_picture(rng) for _ in range(40)]
    for number, picture in enumerate(pictures):
        place = "test" if number % 4 == 3 else "train"
        label = "苹果" if number % 2 else "pear"
        _write(root / place / label / f"p{number:02d} lot{number:03d}x.jpg", _jpeg(picture))
    _write(root / "train/pear/z-exact of 0.jpg", _jpeg(pictures[0]))
    _write(root / "train/pear/z-near of 2.jpg", _jpeg(pictures[2], 60))
    _write(root / "train/苹果/z-exact of 4.jpg", _jpeg(pictures[4]))
    _write(root / "train/苹果/z-near of 6.jpg", _jpeg(pictures[6], 60))
    _write(root / "test/pear/z-exact of 8.jpg", _jpeg(pictures[8]))
    _write(root / "test/pear/z-near of 10.jpg", _jpeg(pictures[10], 60))
    table, found = survey(images(root))
    return Material(table=table, survey=found)


def _named(frame: pl.DataFrame, code: str) -> set[str]:
    return {name.rsplit("/", 1)[-1] for name in frame.filter(pl.col("code") == code)["name"]}


def test_every_copy_is_named_and_the_first_stays(material: Material) -> None:
    found = duplicates.check(material)
    assert found.issues.schema == ISSUES
    assert _named(found.issues, "exact_duplicates") == {"z-exact of 0.jpg", "p08 lot008x.jpg"} or _named(
        found.issues, "exact_duplicates"
    ) == {"z-exact of 0.jpg", "z-exact of 8.jpg"}
    assert len(_named(found.issues, "near_duplicates")) == 2
    removed = found.issues.filter(pl.col("do") == "quarantine")
    assert set(removed["code"]) == {"exact_duplicates", "near_duplicates"}
    assert removed["other"].null_count() == 0
    assert not set(removed["name"]) & set(removed["other"])


def test_a_near_duplicate_that_is_not_certain_is_left_to_a_person(material: Material) -> None:
    """The plan sets nothing to be applied that only looks like a copy."""
    near = near_of(material)
    doubted = replace(near, pairs=near.pairs.with_columns(certain=pl.lit(value=False)))
    sure = replace(near, pairs=near.pairs.with_columns(certain=pl.lit(value=True)))
    for one, applied in ((sure, True), (doubted, False)):
        found = duplicates.check(replace(material, known={"near": one})).issues
        plan = plan_from(found.filter(pl.col("code") == "near_duplicates"), material.table)
        assert [action.apply for action in plan.actions] == [applied] * 2


def test_two_labels_of_one_picture_are_a_conflict_for_a_person(material: Material) -> None:
    found = duplicates.check(material)
    odd = found.issues.filter(pl.col("code") == "conflicting_labels")
    assert _named(found.issues, "conflicting_labels") == {
        "p04 lot004x.jpg",
        "z-exact of 4.jpg",
        "p06 lot006x.jpg",
        "z-near of 6.jpg",
    }
    assert odd["do"].null_count() == odd.height
    assert all("苹果" in value and "pear" in value for value in odd["value"])


def test_leaks_are_errors_with_their_companion(material: Material) -> None:
    found = leaks.check(material)
    assert _named(found.issues, "duplicates_across_splits") == {"p08 lot008x.jpg", "z-exact of 8.jpg"}
    assert _named(found.issues, "near_duplicates_across_splits") == {"p10 lot010x.jpg", "z-near of 10.jpg"}
    assert {one.severity for one in found.findings} == {"error"}
    taken = found.issues.filter(pl.col("do") == "quarantine")
    assert _named(taken, "duplicates_across_splits") == {"p08 lot008x.jpg"}
    pairs = dict(found.issues.select("name", "other").iter_rows())
    assert all(pairs[pairs[name]] == name for name in pairs)


def test_groups_across_splits_and_what_they_flatter(material: Material) -> None:
    count = len(material.table)
    grouped = material.table.with_columns({"group": ["g"] * 8 + [None] * (count - 8)})
    grouped = grouped.with_columns({"split": ["train", "test"] * (count // 2)})
    labels = grouped.label_array()
    features = np.eye(2, dtype=np.float32)[labels]
    wrong = np.arange(count) >= count - 6
    features[wrong & (grouped.frame["split"] == "test").to_numpy()] = features[0] * 0 + [0.6, 0.8]
    found = leaks.check(Material(table=grouped, survey=material.survey, features=features))
    assert found.body["leaks"]["group_across_splits"] == 8
    assert found.body["optimism_points"] is not None
    assert "leaks" in found.tables


def test_without_splits_nothing_leaks(material: Material) -> None:
    table = material.table.with_columns({"split": [None] * len(material.table)})
    found = leaks.check(Material(table=table, survey=material.survey))
    assert (found.findings, found.issues.height) == ((), 0)


def test_pairs_are_found_once(material: Material) -> None:
    assert near_of(material) is near_of(material)
    assert related_table(material) is related_table(material)


def test_bursts_count_what_is_independent(material: Material) -> None:
    rng = np.random.Generator(np.random.Philox(key=5))
    count = len(material.table)
    labels = material.table.label_array()
    order = np.argsort(labels, kind="stable")
    features = np.empty((count, 16), np.float32)
    features[order] = np.repeat(rng.normal(size=(count // 2 + 1, 16)), 2, axis=0)[:count]
    features += 0.05 * rng.normal(size=features.shape)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    loose = Material(table=material.table, survey=material.survey, features=features)
    said = bursts.check(loose)  # all images are in pairs, and nothing but looks says so
    assert [one.code for one in said.findings] == ["alike_throughout"]
    assert said.issues.height == 0
    table = material.table.with_columns({"uri": [f"IMG_{place:04d}.jpg" for place in np.argsort(order)]})
    found = bursts.check(replace(loose, table=table, known={}))
    assert 0.35 * count <= found.body["independent"] <= 0.65 * count
    assert found.issues.height == found.body["images"]
    assert bursts.check(material).issues.height == 0


def test_groups_are_proposed_with_what_to_paste(material: Material) -> None:
    uris = [f"x/lot{row // 4:02d}_{row:04d}.jpg" for row in range(len(material.table))]
    proposed = groups.check(Material(table=material.table.with_columns({"uri": uris}), survey=material.survey))
    assert r"--group 'lot(\d+)'" in str(proposed.findings[0].hint)
    assert proposed.body["proposals"][0]["pattern"] == r"lot(\d+)"
    assert proposed.tables["groups"].rows[0][1] == r"lot(\d+)"
