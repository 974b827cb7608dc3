"""`sortal compress` from the command line. Whether int8 is faster depends on the machine, so either verdict is right as
long as exit code, bundle and report say the same."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sortal.api import compress
from sortal.core.bundle import open_bundle
from sortal.core.progress import Silent
from worlds import COLORS, World, class_folders, refused, sortal


@pytest.fixture
def run(world: World, tmp_path: Path) -> Path:
    """A copy: what is attached must not be there for other tests."""
    shutil.copytree(world.run, tmp_path / "photos-1")
    return tmp_path / "photos-1"


def test_a_run_is_compressed_on_its_own_images(run: Path, tmp_path: Path) -> None:
    identity = {path: path.read_bytes() for path in (run / "bundle").rglob("*") if path.is_file()}
    done = sortal(tmp_path, "compress", run, "compress.int8=true", "compress.max_drop=100", "--json")
    assert done.code in (0, 1), done.err
    report = done.report
    assert report["kind"] == "compression"
    assert {path: path.read_bytes() for path in identity} == identity
    shipped = report["body"]["shipped"]
    assert (done.code == 0) == bool(shipped) == (report["body"]["verdict"] == "shipped")
    assert set(open_bundle(run / "bundle").artifacts()) == {"onnx", *shipped}
    table = report["tables"]["candidates"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert {row["candidate"] for row in rows} >= {"float32", "min-max, 8-bit weights", "entropy, 8-bit weights"}
    for row in rows:
        assert row["verdict"] in ("the original", "shipped", "fits", "not faster than float32 on this machine")
        if row["verdict"] in ("shipped", "fits"):
            assert row["time_ratio_high"] < 1.0
    for name in ("report.html", "report.json", "candidates.png"):
        assert (run / "compressions" / "photos-1-1" / name).stat().st_size > 1_000
    for name in shipped:
        answered = sortal(tmp_path, "predict", run / "bundle" / "artifacts" / name, run.parent / "photos-1")
        assert answered.code in (0, 2)


def test_one_command_holds_float32_int8_and_training_with_rounding_side_by_side(run: Path, tmp_path: Path) -> None:
    wishes = ("compress.int8=true", "compress.method=own", "compress.qat=true", "compress.qat_epochs=2")
    done = sortal(tmp_path, "compress", run, *wishes, "compress.max_drop=100", "compress.tensorrt=true", "--json")
    assert done.code in (0, 1), done.err
    table = done.report["tables"]["candidates"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert {row["method"] for row in rows} == {"FP32", "PTQ", "QAT"}
    assert any("Training with rounding" in sentence for sentence in done.report["body"]["summary"])
    assert {row[3] for row in done.report["tables"]["layers"]["rows"]} == {"int8"}
    artifact = run / "bundle" / "artifacts" / "tensorrt-int8"  # its time here decides nothing
    assert "trtexec --onnx" in (artifact / "build.sh").read_text()
    stored = json.loads((artifact / "calibration.json").read_text())
    with (run / "split.csv").open(newline="") as file:
        splits = {row["digest"]: row["split"] for row in csv.DictReader(file)}
    assert {splits[image["digest"]] for image in stored["images"]} == {"train"}
    answered = sortal(tmp_path, "predict", artifact, run.parent / "photos-1")
    assert answered.code in (0, 2)


class Impatient(Silent):
    """Stops as Ctrl-C does, in the middle of training with rounding."""

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage == "training with rounding" and done:
            raise KeyboardInterrupt


def test_training_that_is_broken_off_leaves_the_run_as_it_was(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    wishes = ["compress.int8=true", "compress.method=own", "compress.qat=true", "compress.calibration_images=10"]
    with pytest.raises(KeyboardInterrupt):
        compress(run, settings=wishes, listener=Impatient())
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_images_of_its_own_and_a_new_bundle(run: Path, tmp_path: Path) -> None:
    images = class_folders(tmp_path / "mine", dict.fromkeys(COLORS, 14), seed=5)
    own = ("compress.int8=true", "compress.method=own")
    done = sortal(tmp_path, "compress", run / "bundle", images, *own, "--out", tmp_path / "new", "--json")
    assert done.code in (0, 1), done.err
    assert "divided" in done.codes
    assert (done.code == 0) == (tmp_path / "new").exists()
    if done.code == 0:
        assert open_bundle(tmp_path / "new").manifest.parent == open_bundle(run / "bundle").id
    assert open_bundle(run / "bundle").artifacts() == ["onnx"]


def test_what_is_wrong_is_said(run: Path, tmp_path: Path) -> None:
    other = class_folders(tmp_path / "other", {"cyan": 8, "pink": 8}, seed=5)
    few = class_folders(tmp_path / "few", dict.fromkeys(COLORS, 3), seed=6)
    int8 = "compress.int8=true"
    refused(sortal(tmp_path, "compress", run), "nothing was asked for", int8)
    refused(sortal(tmp_path, "compress", run, other, int8), "no image has a class that the classifier knows")
    refused(sortal(tmp_path, "compress", run, few, int8), "10 calibration images")
    refused(sortal(tmp_path, "compress", run, tmp_path / "nowhere", int8), "nowhere")
    refused(sortal(tmp_path, "compress", run, int8, "train.epochs=3"), "not a setting of sortal compress")
    refused(sortal(tmp_path, "compress", run, int8, "compress.max_dorp=1"), "max_drop")
    (tmp_path / "c.yaml").write_text("recall: {cyan: 0.9}\n")
    refused(sortal(tmp_path, "compress", run, int8, f"contract={tmp_path / 'c.yaml'}"), "cyan")
    assert not (run / "compressions").exists()
    model = run / "bundle" / "artifacts" / "onnx" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    refused(sortal(tmp_path, "compress", run, int8), "model.onnx")


def test_training_images_that_are_gone(run: Path, tmp_path: Path) -> None:
    state = run / "state.json"
    state.write_text(state.read_text().replace("photos", "moved"))
    refused(
        sortal(tmp_path, "compress", run, "compress.int8=true"), "not where they were", "sortal compress RUN IMAGES"
    )


def test_torch_is_not_needed() -> None:
    program = "import sys, sortal.compress.study; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
