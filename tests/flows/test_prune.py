"""`sortal compress RUN compress.prune=...` from the command line: cut, trained, judged, and a bundle like any other."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from sortal.api import compress
from sortal.core.bundle import open_bundle
from sortal.core.progress import Silent
from worlds import World, class_folders, refused, sortal

QUICK = ("compress.prune_steps=2", "compress.prune_epochs=1", "compress.max_drop=100", "compress.criterion=l1")


@pytest.fixture(scope="module")
def home(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: what is written into the run must not be there for other tests."""
    folder = tmp_path_factory.mktemp("pruned")
    shutil.copytree(world.run, folder / "photos-1")
    shutil.copytree(world.home / "inbox", folder / "inbox")
    return folder


def test_a_run_is_pruned_and_becomes_int8_in_one_new_bundle(home: Path) -> None:
    run = home / "photos-1"
    before = {path: path.read_bytes() for path in (run / "bundle").rglob("*") if path.is_file()}
    done = sortal(
        home, "compress", run, "compress.prune=0.5", "compress.int8=true", "compress.method=own", *QUICK, "--json"
    )
    assert done.code == 0, done.err
    assert {path: path.read_bytes() for path in before} == before
    folder = run / "compressions" / "photos-1-1"
    original, made = open_bundle(run / "bundle"), open_bundle(folder / "bundle")
    assert made.manifest.parent == original.id
    assert made.manifest.model.cut
    assert made.manifest.model.parameters < 0.7 * original.manifest.model.parameters
    table = done.report["tables"]["candidates"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert [row["candidate"] for row in rows][:3] == ["the original", "29% cut", "50% cut"]
    macs = [row["macs_m"] for row in rows[:3]]
    assert 0.4 * macs[0] < macs[2] <= 0.52 * macs[0] < macs[1] < macs[0]
    assert rows[2]["verdict"] == "shipped"
    assert set(done.report["body"]["shipped"]) == {"bundle", *made.artifacts()} - {"onnx"}
    wholes = {row["engine"]: row["cpu_ms"] for row in rows if row["candidate"] == "the original"}
    for row in rows:  # the median of ratios is near the ratio of medians, so each is held against its own engine
        assert row["time_ratio"] == pytest.approx(row["cpu_ms"] / wholes[row["engine"]], rel=0.3)
    assert len(done.report["tables"]["sensitivity"]["rows"]) > 2
    for name in ("report.html", "report.json", "candidates.png", "sensitivity.png"):
        assert (folder / name).stat().st_size > 1_000

    said = [sortal(home, "predict", where, home / "inbox", "--json") for where in (folder / "bundle", run)]
    assert said[0].code == said[1].code

    again = sortal(home, "compress", run, "compress.prune=0.5", *QUICK, "--out", home / "small", "--json")
    assert again.code == 0, again.err  # both cuts are found where the first command left them
    assert len(list((run / "compressions" / "steps").iterdir())) == 2
    assert open_bundle(home / "small").id == made.id


@pytest.mark.slow
def test_a_pruned_bundle_is_exported_trained_and_pruned_again(home: Path) -> None:
    if not (home / "small").exists():
        pytest.skip("made by the test before this one")
    made = open_bundle(home / "small")
    assert sortal(home, "export", "small", "--to", "onnx-fp16", "--images", world_photos(home)).code == 0
    trained = sortal(
        home,
        "train",
        world_photos(home),
        "model=small",
        "train.epochs=0",
        "train.workers=0",
        "distill.teacher=null",
        "--out",
        "tuned",
        "--json",
    )
    assert trained.code == 0, trained.err
    run = next((home / "tuned").iterdir())
    assert open_bundle(run / "bundle").manifest.model.cut == made.manifest.model.cut
    quick = ("compress.prune_steps=1", *QUICK[1:])
    deeper = sortal(
        home, "compress", "small", world_photos(home), "compress.prune=0.3", *quick, "--out", "tiny", "--json"
    )
    assert deeper.code == 0, deeper.err
    assert open_bundle(home / "tiny").manifest.model.parameters < made.manifest.model.parameters
    assert open_bundle(home / "tiny").manifest.parent == made.id


def world_photos(home: Path) -> str:
    """Where the run's images are, as it recorded it."""
    return str(json.loads((home / "photos-1" / "state.json").read_text(encoding="utf-8"))["origin"]["source"])


def test_a_budget_that_no_cut_keeps_ships_nothing(home: Path) -> None:
    run = home / "photos-1"
    graph = np.array([path.stat().st_mtime_ns for path in sorted((run / "bundle").rglob("*"))])
    wish = ("compress.prune=0.9", "compress.prune_steps=1", "compress.prune_epochs=1", "compress.criterion=l1")
    done = sortal(home, "compress", run, *wish, "compress.max_drop=0", "--json")
    assert done.code in (0, 1), done.err
    assert (done.code == 0) == (done.report["body"]["verdict"] == "shipped")
    if done.code == 1:
        assert "cut_over_budget" in done.codes
        assert "bundle" not in done.report["paths"]
    assert (graph == [path.stat().st_mtime_ns for path in sorted((run / "bundle").rglob("*"))]).all()


def test_what_cannot_be_cut_is_said(home: Path) -> None:
    run = home / "photos-1"
    refused(sortal(home, "compress", run, "compress.prune=1"), "between 0 and 1")
    refused(sortal(home, "compress", run), "nothing was asked for", "compress.prune")


class Stopping(Silent):
    """Ctrl-C in the first epoch after a cut; keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)
        if text.startswith("epoch"):
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_in_training_after_a_cut_names_no_run_that_could_be_resumed(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "photos-1", tmp_path / "photos-1")
    run = tmp_path / "photos-1"
    shutil.rmtree(run / "compressions", ignore_errors=True)
    listener = Stopping()
    wishes = ["compress.prune=0.4", "compress.prune_steps=1", "compress.prune_epochs=3", "compress.criterion=l1"]
    with pytest.raises(KeyboardInterrupt, match="cuts that were finished are kept"):
        compress(run, settings=wishes, listener=listener)
    assert any(text.startswith("epoch") for text in listener.said)
    assert not any("--resume" in text for text in listener.said)
    assert [path for path in run.glob("compressions/**/*") if path.is_file()] == []


@pytest.mark.parametrize("what", ["compress.prune=0.3", "compress.frontier=true"])
def test_a_teacher_that_cannot_teach_is_said_before_anything_is_cut(home: Path, tmp_path: Path, what: str) -> None:
    shutil.copytree(home / "photos-1", tmp_path / "photos-1")
    run = tmp_path / "photos-1"
    shutil.rmtree(run / "compressions", ignore_errors=True)
    other = class_folders(tmp_path / "other", {"cyan": 8, "pink": 8}, seed=5)
    quick = ("model=sortal_small", "model.weights=null", "train.epochs=1", "train.workers=0")
    assert sortal(tmp_path, "train", other, *quick, "--out", "teachers").code == 0
    strange = tmp_path / "teachers" / "other-1"
    refused(sortal(tmp_path, "compress", run, what, f"compress.teacher={strange}"), "compress.teacher", "cyan")
    refused(sortal(tmp_path, "compress", run, what, "compress.teacher=runs/gone-1"), "compress.teacher", "runs/gone-1")
    refused(sortal(tmp_path, "compress", run, what, "compress.unlabelled=gone"), "compress.unlabelled", "gone")
    assert list(run.glob("compressions/*")) == []
