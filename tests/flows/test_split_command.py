"""`sortal split` through the command line and from Python: what belongs together is not cut, a sealed test stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

import sortal as package
from sortal.data.synth.dataset import synthesize
from sortal.data.synth.options import SynthOptions
from sortal.separate import Wish
from worlds import refused, sortal


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `parts`: three classes, every sixth file there twice, under another name."""
    home = tmp_path_factory.mktemp("splits")
    synthesize(home / "parts", SynthOptions(classes=3, images=72, size_px=48, seed=2))
    for file in sorted((home / "parts").rglob("*.jpg"))[::6]:
        shutil.copy(file, file.with_name(f"lot_{file.stem}_copy.jpg"))
    return home


def _split(file: Path) -> pl.DataFrame:
    return pl.read_csv(file, infer_schema=False)


def _cut(frame: pl.DataFrame, key: str) -> int:
    """How many values of a column are in several splits."""
    known = frame.filter(pl.col(key).is_not_null() & pl.col("split").is_not_null())
    return known.group_by(key).agg(pl.col("split").n_unique()).filter(pl.col("split") > 1).height


def test_copies_stay_together_and_the_command_says_so(home: Path) -> None:
    done = sortal(home, "split", "parts", "--out", "one.csv", "--folds", "3")
    assert done.code == 0, done.err
    assert "identical files" in done.out
    assert "by column fold" not in done.out, "its own folds are no groups to propose"
    assert "sortal train parts data.split.file=one.csv" in done.out
    frame = _split(home / "one.csv")
    assert frame.height == 84
    assert frame["split"].null_count() == 0
    assert (_cut(frame, "digest"), _cut(frame, "unit")) == (0, 0)
    assert frame.group_by("digest").agg(pl.col("fold").n_unique())["fold"].max() == 1
    assert set(frame.filter(pl.col("split") != "test")["fold"]) == {"0", "1", "2"}
    assert frame.filter(pl.col("split") == "test")["fold"].null_count() == (frame["split"] == "test").sum() > 0


def test_python_writes_the_same_file(home: Path) -> None:
    report = package.split(home / "parts", home / "two.csv", wish=Wish(folds=3))
    assert report.metrics["images"].value == 84
    assert _split(home / "two.csv").equals(_split(home / "one.csv"))


def test_a_sealed_test_stays_when_images_are_added(home: Path) -> None:
    shutil.copytree(home / "parts", home / "grows")
    assert sortal(home, "split", "grows", "--out", "sealed.csv", "--lock").code == 0
    before = _split(home / "sealed.csv").select("name", "split")
    synthesize(home / "more", SynthOptions(classes=3, images=36, size_px=48, seed=9))
    for file in sorted((home / "more").rglob("*.jpg")):
        shutil.copy(file, home / "grows" / file.parent.name / f"new_{file.name}")
    done = sortal(home, "split", "grows", "--out", "sealed.csv")
    assert done.code == 0, done.err
    after = _split(home / "sealed.csv").select("name", "split")
    assert after.height == before.height + 36
    assert before.join(after, on=["name", "split"]).height == before.height


def test_shares_that_leave_nothing_are_refused_and_write_nothing(home: Path) -> None:
    done = sortal(home, "split", "parts", "--out", "never.csv", "--val", "0.7", "--test", "0.6")
    refused(done, "together below 1", "val 0.7, test 0.6")
    assert not (home / "never.csv").exists()
