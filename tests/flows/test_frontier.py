"""`sortal compress compress.frontier=true` from the command line, on the tiny network of the flows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sortal.compress.frontier.pick import AS_SMALL
from sortal.core.bundle import open_bundle
from worlds import World, refused, sortal

QUICK = ("compress.frontier=true", "compress.max_drop=100", "compress.sizes=[24]", "compress.prune=0.5")
CUT = ("compress.prune_steps=1", "compress.prune_epochs=1")


@pytest.fixture
def run(world: World, tmp_path: Path) -> Path:
    """A copy, to write into."""
    shutil.copytree(world.run, tmp_path / "photos-1")
    return tmp_path / "photos-1"


def test_no_time_but_for_the_network_itself(run: Path, tmp_path: Path) -> None:
    done = sortal(tmp_path, "compress", run, *QUICK, "compress.time=0.001s", "--json")
    assert done.code == 1, done.err
    report = done.report
    assert report["kind"] == "frontier"
    assert (report["body"]["verdict"], report["body"]["shipped"]) == ("refused", [])
    assert {"none_fits", "not_tried"} <= set(done.codes)
    table = report["tables"]["candidates"]
    verdicts = [row[table["columns"].index("verdict")] for row in table["rows"]]
    assert verdicts[0] == "the original"
    assert all(verdict.startswith("not tried") for verdict in verdicts[1:])
    assert "would take" in verdicts[1]
    assert open_bundle(run / "bundle").artifacts() == ["onnx"]


def test_what_makes_no_sense_is_refused(run: Path, tmp_path: Path) -> None:
    refused(sortal(tmp_path, "compress", run, "compress.frontier=true", "compress.sizes=[4]"), "compress.sizes", "4")
    refused(sortal(tmp_path, "compress", run, "compress.frontier=true", "compress.prune=1.5"), "prune")
    assert not (run / "compressions").exists()


@pytest.mark.slow
def test_sizes_cuts_and_int8_of_a_run_and_the_same_command_again(run: Path, tmp_path: Path) -> None:
    identity = {path: path.read_bytes() for path in (run / "bundle").rglob("*") if path.is_file()}
    done = sortal(tmp_path, "compress", run, *QUICK, *CUT, "--out", tmp_path / "small", "--json")
    assert done.code == 0, done.err
    assert {path: path.read_bytes() for path in identity} == identity
    home = run / "compressions" / "photos-1-1"
    for name in ("report.html", "report.json", "frontier.png"):
        assert (home / name).stat().st_size > 1_000
    made = sorted(path.parent.name for path in home.glob("candidates/*/bundle"))
    assert {"24px-float32", "24px-cut25-float32", "24px-cut50-float32", "32px-cut50-float32"} <= set(made)
    original = open_bundle(run / "bundle")
    for name in made:
        child = open_bundle(home / "candidates" / name / "bundle")
        assert child.manifest.parent is not None
        assert min(child.preprocess.size) == int(name.partition("px")[0])
    assert open_bundle(home / "candidates" / "24px-float32" / "bundle").manifest.parent == original.id
    small = open_bundle(tmp_path / "small")
    table, taken = done.report["tables"]["candidates"], done.report["body"]["taken"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    good = {row["candidate"]: row["size_mb"] for row in rows if row["verdict"] in ("taken", "fits")}
    assert good[taken] <= AS_SMALL * min(good.values())
    assert ("cut" in taken) == (small.manifest.model.parameters < original.manifest.model.parameters)
    answered = sortal(tmp_path, "predict", tmp_path / "small", run.parent / "photos-1", "--json")
    assert answered.code in (0, 2)
    before = {path: path.stat().st_mtime_ns for path in home.glob("candidates/*/candidate.json")}
    again = sortal(tmp_path, "compress", run, *QUICK, *CUT, "compress.time=1h", "--json")
    assert again.code == 0
    assert {path: path.stat().st_mtime_ns for path in home.glob("candidates/*/candidate.json")} == before
    assert len(list((run / "compressions").iterdir())) == 1
    assert json.loads((home / "report.json").read_text())["body"]["taken"] == again.report["body"]["taken"]
