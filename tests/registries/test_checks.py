"""What every check of a data set promises, over the whole table, for hardly any, plain and odd images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sortal.core.report import Finding, Table
from sortal.data.checks import CHECKS
from sortal.data.checks.material import ISSUES, Material, Outcome
from sortal.data.open import images
from sortal.data.survey import survey

DONE = {None, "quarantine", "relabel", "drop"}
KINDS = ("none", "one", "unlabeled", "plain", "odd", "split", "regions")


def _photo(seed: int, size: tuple[int, int] = (48, 36)) -> Image.Image:
    rng = np.random.Generator(np.random.Philox(key=seed))
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = rng.normal(0, 8, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


def _folders(top: Path, count: int, classes: str = "ab") -> None:
    for seed in range(count):
        folder = top / classes[seed % len(classes)]
        folder.mkdir(parents=True, exist_ok=True)
        _photo(seed).save(folder / f"{seed}.png")


def _odd(top: Path) -> None:
    """Names, sizes, modes and contents that are unusual, duplicates, contradictions and unreadable files."""
    _folders(top, 12, "好é")
    first = top / "好" / "0.png"
    (top / "é" / "same content, other label.png").write_bytes(first.read_bytes())
    (top / "好" / "copy of 0.png").write_bytes(first.read_bytes())
    Image.open(first).convert("RGB").save(top / "好" / "again.jpg", quality=60)
    Image.new("RGB", (1, 1)).save(top / "好" / "pixel.png")
    Image.new("RGB", (900, 3), "white").save(top / "é" / "long.png")
    Image.new("L", (64, 64), 9).save(top / "é" / "grey.bmp")
    _photo(40).save(top / "é" / "wrong.png", "JPEG")
    (top / "é" / "cut.png").write_bytes(first.read_bytes()[:200])
    (top / "好" / "text.jpg").write_text("no image")
    (top / "rare").mkdir()
    _photo(41).save(top / "rare" / "single.png")


def _split(top: Path) -> None:
    for split in ("train", "val", "test"):
        _folders(top / split, 8)


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Material]:
    """A Material of each kind, surveyed from files; none has features or probabilities."""
    tops = {name: tmp_path_factory.mktemp(name) for name in KINDS}
    _photo(0).save(tops["one"] / "only.png")
    (tops["none"] / "only.png").write_bytes(b"not readable")
    for seed in range(5):
        _photo(seed).save(tops["unlabeled"] / f"{seed}.png")
    _folders(tops["plain"], 20)
    _odd(tops["odd"])
    _split(tops["split"])
    _photo(5).save(tops["regions"] / "a.png")
    lines = ["path,label,x0,y0,x1,y1", "a.png,x,0,0,0.5,1", "a.png,y,0.5,0,1,1", "a.png,x,0.2,0.2,0.3,0.3"]
    (tops["regions"] / "t.csv").write_text("\n".join(lines) + "\n")
    sources = {
        **tops,
        "none": [tops["none"] / "only.png"],
        "one": [tops["one"] / "only.png"],
        "unlabeled": sorted(tops["unlabeled"].iterdir()),
        "regions": tops["regions"] / "t.csv",
    }
    found = {name: survey(images(source), workers=1) for name, source in sources.items()}
    return {name: Material(table=table, survey=surveyed) for name, (table, surveyed) in found.items()}


@pytest.fixture(params=sorted(CHECKS.table))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def checked(name: str, material: Material) -> Outcome:
    outcome: Outcome = CHECKS.get(name).check(material)
    return outcome


@pytest.mark.parametrize("kind", KINDS)
def test_an_outcome_holds_its_schema_and_names_rows_of_the_table(
    name: str, kind: str, materials: dict[str, Material]
) -> None:
    material = materials[kind]
    outcome = checked(name, material)
    assert isinstance(outcome, Outcome)
    assert dict(outcome.issues.schema) == ISSUES
    known = {*material.table.names(), *material.table.rejected["name"]}
    assert set(outcome.issues["name"]) <= known
    assert set(outcome.issues["other"].drop_nulls()) <= known
    assert set(outcome.issues["do"]) <= DONE
    assert set(outcome.issues["severity"]) <= {"info", "warning", "error"}
    assert outcome.issues["score"].drop_nulls().is_between(0, 1).all()
    assert not outcome.issues["code"].null_count()
    assert all(isinstance(found, Finding) and found.message for found in outcome.findings)
    assert all(isinstance(table, Table) for table in outcome.tables.values())


@pytest.mark.parametrize("kind", KINDS)
def test_relabeling_names_a_class_and_nothing_else_has_an_argument(
    name: str, kind: str, materials: dict[str, Material]
) -> None:
    issues = checked(name, materials[kind]).issues
    relabeled = issues.filter(pl.col("do") == "relabel")
    assert set(relabeled["to"]) <= set(materials[kind].table.labels.names)
    assert issues.filter(pl.col("do").is_null() | (pl.col("do") != "relabel"))["to"].null_count() == (
        issues.height - relabeled.height
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_check_changes_nothing_and_repeats_itself(name: str, kind: str, materials: dict[str, Material]) -> None:
    material = materials[kind]
    found = material.survey
    before = (material.table.frame.clone(), material.table.rejected.clone(), found.frame.clone())
    arrays = (found.hashes.copy(), found.tiny.copy())
    first, second = checked(name, material), checked(name, material)
    assert all(one.equals(other) for one, other in zip(before, _frames(material), strict=True))
    for kept, array in zip(arrays, (found.hashes, found.tiny), strict=True):
        np.testing.assert_array_equal(kept, array)
    assert first.issues.equals(second.issues)
    assert first.findings == second.findings
    assert first.tables == second.tables


def test_features_and_probabilities_of_the_right_shape_are_taken(name: str, materials: dict[str, Material]) -> None:
    """Features that say little and probabilities that are missing for some rows."""
    for kind in ("plain", "odd", "split"):
        material = materials[kind]
        rng = np.random.Generator(np.random.Philox(key=9))
        features = rng.normal(size=(len(material.table), 16)).astype(np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        shares = rng.dirichlet(np.ones(len(material.table.labels)), len(material.table)).astype(np.float32)
        shares[::5] = np.nan
        outcome = checked(name, replace(material, features=features, probabilities=shares))
        assert dict(outcome.issues.schema) == ISSUES
        assert set(outcome.issues["name"]) <= {*material.table.names(), *material.table.rejected["name"]}


def _frames(material: Material) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    return material.table.frame, material.table.rejected, material.survey.frame
