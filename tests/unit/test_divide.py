"""Dividing for training: leaks that a source declares are refused or measured, near duplicates never cross a split."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sortal.cli.app import run
from sortal.core.decision import DecisionSpec
from sortal.core.errors import DataError
from sortal.core.predictions import predictions_from_logits
from sortal.core.progress import Silent
from sortal.core.recipe import Recipe, load_recipe
from sortal.data.leaks import leaked_rows
from sortal.data.open import images
from sortal.data.table import SPLITS, ImageTable
from sortal.data.units import NEAR
from sortal.divide import LEAKED, divide
from sortal.evaluate.evaluation import evaluate_predictions
from sortal.optimism import with_optimism


def _jpeg(image: Image.Image, quality: int = 92) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return data.getvalue()


def _pictures(count: int, side_px: int = 96) -> list[Image.Image]:
    rng = np.random.Generator(np.random.Philox(key=9))
    coarse = [Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(count)]
    return [image.resize((side_px, side_px), Image.Resampling.BICUBIC) for image in coarse]


def _save(root: Path, *, split: bool, side_px: int = 96) -> Path:
    for number, picture in enumerate(_pictures(40, side_px)):
        part = ("test" if number >= 30 else "train") if split else "."
        path = root / part / ("a" if number % 2 else "b") / f"{number:02d}x.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_jpeg(picture))
    return root


def _divided(root: Path, *settings: str) -> ImageTable:
    return divide(images(root), load_recipe(None, settings), Silent())


def test_near_duplicates_are_on_one_side_of_a_split_made_here(tmp_path: Path) -> None:
    root = _save(tmp_path / "p", split=False)
    for number, picture in enumerate(_pictures(40)):
        (root / ("a" if number % 2 else "b") / f"{number:02d}y.jpg").write_bytes(_jpeg(picture, 55))
    for seed in range(3):
        table = _divided(root, f"seed={seed}")
        assert table.frame[NEAR].null_count() == 0
        assert not leaked_rows(table).any()
        assert LEAKED not in table.frame.columns
        assert all(len(table.split_rows(name)) for name in SPLITS)
    assert NEAR not in _divided(root, "data.split.near=false").frame.columns


def test_one_picture_under_two_labels_is_refused_or_allowed(tmp_path: Path) -> None:
    root = _save(tmp_path / "p", split=False)
    (root / "a/again.jpg").write_bytes((root / "b/00x.jpg").read_bytes())
    with pytest.raises(DataError, match="1 images are there under different labels") as refused:
        _divided(root)
    assert "again.jpg" in str(refused.value)
    assert "sortal fix" in str(refused.value)
    assert len(_divided(root, "data.quality=allow")) == 41


def test_many_files_that_cannot_be_read_are_refused_and_a_few_are_left_out(tmp_path: Path) -> None:
    root = _save(tmp_path / "p", split=False)
    for number in range(4):
        (root / f"a/broken{number}.jpg").write_bytes(b"\xff\xd8\xff broken")
    assert len(_divided(root)) == 40  # 4 of 44
    (root / "a/broken4.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="5 of 45 files cannot be read") as refused:
        _divided(root)
    assert "data.quality=allow" in str(refused.value)
    assert len(_divided(root, "data.quality=allow")) == 40


@pytest.mark.parametrize("quality", [92, 85])
def test_a_declared_split_that_leaks_is_refused_or_allowed(tmp_path: Path, quality: int) -> None:
    """To the byte (the same quality), or nearly."""
    root = _save(tmp_path / "p", split=True)
    (root / "test/b/copy.jpg").write_bytes(_jpeg(_pictures(1)[0], quality))
    with pytest.raises(DataError, match="2 images are") as refused:
        _divided(root)
    assert "copy.jpg" in str(refused.value)
    assert "sortal split" in str(refused.value)
    assert "data.split.leaks=allow" in str(refused.value)
    allowed = _divided(root, "data.split.leaks=allow")
    names = [Path(name).name for name in allowed.names()]
    assert [name for name, leaked in zip(names, allowed.frame[LEAKED], strict=True) if leaked] == ["copy.jpg"]


def test_tiny_images_that_look_alike_are_not_refused(tmp_path: Path) -> None:
    root = _save(tmp_path / "p", split=True, side_px=32)
    (root / "test/b/copy.jpg").write_bytes(_jpeg(_pictures(1, 32)[0], 85))
    codes = {found.code for found in _divided(root).findings}
    assert "near_duplicates_across_splits" in codes


def test_groups_across_declared_splits_are_refused(tmp_path: Path) -> None:
    root = _save(tmp_path / "p", split=True)
    recipe = Recipe()
    table = images(root).with_columns({"group": ["g", *[None] * 38, "g"]})
    with pytest.raises(DataError, match="images of one group"):
        divide(table, recipe, Silent())


def test_the_command_writes_a_split_that_training_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = _save(tmp_path / "p", split=False)
    (root / "b" / "copy.jpg").write_bytes(_jpeg(_pictures(1)[0], 60))
    out = tmp_path / "split.csv"
    assert run(["split", str(root), "--out", str(out), "--folds", "4", "--lock"]) == 0
    said = capsys.readouterr().out
    assert "near duplicates" in said
    assert f"sortal train {root} data.split.file={out}" in said
    frame = pl.read_csv(out, infer_schema=False)
    assert set(frame["split"]) == set(SPLITS)
    assert frame["lock"].count() == (frame["split"] == "test").sum()
    assert frame.filter(pl.col("split") != "test")["fold"].n_unique() == 4
    table = _divided(root, f"data.split.file={out}")
    assert len(table.split_rows("test")) == (frame["split"] == "test").sum()
    before = dict(frame.select("digest", "split").iter_rows())
    for number, picture in enumerate(_pictures(60)[40:]):
        (root / "a" / f"n{number}x.jpg").write_bytes(_jpeg(picture))
    assert run(["split", str(root), "--out", str(out), "--json"]) == 0
    after = dict(pl.read_csv(out, infer_schema=False).select("digest", "split").iter_rows())
    assert {digest: after[digest] for digest in before} == before
    assert len(after) == len(before) + 20


def test_an_altered_split_file_that_leaks_is_refused(tmp_path: Path) -> None:
    root = _save(tmp_path / "p", split=False)
    (root / "b" / "copy.jpg").write_bytes(_jpeg(_pictures(1)[0], 60))
    out = tmp_path / "split.csv"
    assert run(["split", str(root), "--out", str(out), "--json"]) == 0
    frame = pl.read_csv(out, infer_schema=False)
    copied = frame["name"].str.contains(r"00x\.jpg|copy\.jpg").to_numpy()
    cut = np.where(copied, np.where(frame["name"].str.contains("copy").to_numpy(), "test", "train"), frame["split"])
    frame.with_columns(split=pl.Series(cut)).write_csv(out)
    with pytest.raises(DataError, match="parts of one unit"):
        _divided(root, f"data.split.file={out}")


def test_the_optimism_of_a_result_is_measured(tmp_path: Path) -> None:
    table = images(_save(tmp_path / "p", split=False))
    leaked = np.arange(40) < 10
    table = table.with_columns({LEAKED: leaked})
    labels = table.label_array()
    answers = np.where(leaked | (np.arange(40) % 2 == 0), labels, 1 - labels)
    logits = np.eye(2, dtype=np.float32)[answers] * 5
    predictions = predictions_from_logits(
        logits, names=table.names(), labels=table.labels, decision=DecisionSpec(), bundle_id="x"
    )
    report = evaluate_predictions(predictions, labels, subject="p")
    found = with_optimism(report, predictions, labels, table)
    assert found.metrics["accuracy_leaked"].value == 1.0
    assert found.metrics["accuracy_clean"].value == pytest.approx(0.5)
    assert found.metrics["optimism"].value == pytest.approx(0.125)
    assert found.findings[0].code == "leaks_flatter"
    assert "12.5 points" in found.findings[0].message
    assert with_optimism(report, predictions, labels, images(tmp_path / "p")) is report
