"""`sortal export`: artifacts into a run's bundle, checked on its own images, and what it refuses."""

from __future__ import annotations

import contextlib
import csv
import gc
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sortal.core.bundle import open_bundle
from sortal.core.preprocess import prepare
from sortal.data.decode import to_pixels
from sortal.export import conversion
from sortal.runtime.classifier import open_classifier
from sortal.runtime.engines.openvino import import_openvino
from sortal.runtime.signal_stack import kept_signal_stack
from worlds import World, refused, sortal


@pytest.fixture
def run(world: World, tmp_path: Path) -> Path:
    """A copy of the run: what is attached to it is no other test's."""
    shutil.copytree(world.run, tmp_path / "photos-1")
    return tmp_path / "photos-1"


def answers(folder: Path, model: object, source: Path) -> list[str]:
    done = sortal(folder, "predict", model, source, "--out", "answers.csv")
    assert done.code == 0, done.err
    with (folder / "answers.csv").open(newline="") as file:
        return [row["label"] for row in csv.DictReader(file)]


def state(bundle: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def test_artifacts_are_attached_and_answer_as_the_run(world: World, run: Path) -> None:
    before = state(run / "bundle")
    done = sortal(run.parent, "export", run.name, "--to", "onnx-uint8,onnx-fp16,onnx-resize", "--to", "openvino")
    assert done.code == 0, done.err
    assert "sortal predict photos-1/bundle/artifacts/onnx-uint8 inbox/" in done.out
    bundle = open_bundle(run / "bundle")
    assert bundle.artifacts() == ["onnx", "onnx-fp16", "onnx-resize", "onnx-uint8", "openvino"]
    expected = answers(run.parent, run, world.home / "other")
    for name in ("onnx-uint8", "onnx-resize", "onnx-fp16", "openvino"):
        details = bundle.attachment(f"artifacts/{name}").manifest.details
        assert details["parity"]["flips"] == 0
        assert answers(run.parent, bundle.artifact(name), world.home / "other") == expected
    assert details["parity"]["images"] > 10
    assert before.items() <= state(run / "bundle").items()
    explained = sortal(
        run.parent, "explain", bundle.artifact("onnx-uint8"), next((world.home / "other").rglob("*.png"))
    )
    assert explained.code == 0, explained.err
    refused(
        sortal(run.parent, "explain", bundle.artifact("onnx-resize"), next((world.home / "other").rglob("*.png"))),
        "resizes images itself",
    )


def test_what_other_programs_run_is_checked_as_far_as_that_goes_and_says_so(run: Path) -> None:
    done = sortal(run.parent, "export", run.name, "--to", "triton,tensorrt", "--count", "8")
    assert done.code == 0, done.err
    assert "triton: its ONNX file was checked here with ONNX Runtime; Triton itself was not run" in done.out
    assert "tritonserver --model-repository=photos-1/bundle/artifacts/triton/models" in done.out
    assert "sh photos-1/bundle/artifacts/tensorrt/build.sh" in done.out
    bundle = open_bundle(run / "bundle")
    size = bundle.preprocess.size[0]
    command = bundle.attachment("artifacts/tensorrt").manifest.details["command"]
    assert f"--optShapes=image:8x3x{size}x{size}" in command
    assert (bundle.artifact("triton") / "models" / "classifier" / "config.pbtxt").is_file()


def test_the_python_of_the_documentation_runs(world: World, run: Path, tmp_path: Path, monkeypatch) -> None:
    """In one go, in a folder where the run is `runs/photos-1`; each part prints the answer that Sortal gives."""
    import_openvino()  # without its telemetry
    shutil.copytree(run, tmp_path / "runs" / "photos-1")
    names = ["onnx-uint8", "onnx-uint8-nchw", "onnx-resize", "onnx-fp16", "openvino"]
    names += ["openvino-uint8", "openvino-resize", "tflite-uint8", "torch"]
    assert sortal(tmp_path, "export", "runs/photos-1", "--to", ",".join(names), "--count", "8").code == 0
    image = Image.open(next((world.home / "other" / "green").glob("*.png"))).resize((90, 71))
    image.save(tmp_path / "a.jpg", quality=95)
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    known: dict[str, Any] = {}
    with kept_signal_stack():  # the programs open OpenVINO themselves, in the process of these tests
        with contextlib.chdir(tmp_path), contextlib.redirect_stdout(io.StringIO()) as printed:
            for block in blocks:
                exec(compile(block, "export.md", "exec"), known)
        with open_classifier(tmp_path / "runs" / "photos-1") as model:
            answer = model.predict([tmp_path / "a.jpg"])
            upright = to_pixels((tmp_path / "a.jpg").read_bytes(), channels=3, depth=8, where="a.jpg")
            for way in ("crop", "pad", "stretch"):
                spec = model.preprocess.model_copy(update={"resize": way})
                found = np.asarray(known["prepared"](Image.fromarray(upright), spec.model_dump(mode="json")))
                np.testing.assert_array_equal(found, prepare(spec, upright))
            np.testing.assert_array_equal(known["pixels"][0], prepare(model.preprocess, upright))
        known.clear()
        gc.collect()
    assert printed.getvalue().split() == [model.labels.names[answer.index[0]]] * len(names)


def test_what_is_there_is_kept_unless_it_is_to_be_replaced(run: Path) -> None:
    assert sortal(run.parent, "export", run, "--to", "onnx-uint8").code == 0
    before = state(run / "bundle")
    refused(sortal(run.parent, "export", run, "--to", "onnx-fp16,onnx-uint8"), "has this artifact already", "--replace")
    assert state(run / "bundle") == before
    done = sortal(run.parent, "export", run, "--to", "onnx-uint8", "--replace", "--count", "3", "--json")
    assert done.code == 0, done.err
    assert done.report["metrics"]["images"]["value"] == 3
    folder = Path(run.parent / done.report["paths"]["onnx-uint8"])
    assert json.loads((folder / "parity.json").read_text())["metrics"]["images"]["value"] == 3


def test_a_failing_converter_leaves_the_bundle_as_it_was(run: Path, tmp_path: Path, monkeypatch) -> None:
    before = state(run / "bundle")
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nkill -SEGV $$\n")
    fake.chmod(0o755)
    monkeypatch.setattr(conversion.sys, "executable", str(fake))
    refused(sortal(run.parent, "export", run, "--to", "onnx", "--replace"), "the converter crashed", "signal 11")
    assert state(run / "bundle") == before


@pytest.mark.parametrize("name", ["onnx-uint8", "triton"])
def test_a_full_disk_leaves_the_bundle_as_it_was(name: str, world: World, run: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        bundle = shutil.copytree(run / "bundle", disk / "bundle")
        before = state(bundle)
        (disk / "others").write_bytes(bytes(shutil.disk_usage(disk).free - 30_000))
        done = sortal(tmp_path, "export", bundle, "--to", name, "--images", world.home / "other", "--count", "4")
        refused(done, "the machine refused: No space left on device", "free some disk space", code=3)
        assert state(bundle) == before
    finally:
        subprocess.run(["umount", disk], check=True)


def test_unknown_names_and_missing_images_are_refused(world: World, run: Path) -> None:
    refused(sortal(run.parent, "export", run, "--to", "onnx-unit8"), "did you mean onnx-uint8")
    shutil.copytree(run / "bundle", run.parent / "alone")
    refused(sortal(run.parent, "export", "alone", "--to", "onnx-uint8"), "--images photos/")
    refused(sortal(run.parent, "export", run, "--to", "onnx-uint8", "--count", "0"), "at least one image")
    remembered = json.loads((run / "state.json").read_text())
    remembered["origin"]["source"] = str(run.parent / "gone")
    (run / "state.json").write_text(json.dumps(remembered))
    refused(sortal(run.parent, "export", run, "--to", "onnx-uint8"), "not where they were", "--images photos/")
    done = sortal(run.parent, "export", "alone", "--to", "onnx-uint8", "--images", world.home / "other")
    assert done.code == 0, done.err


def test_an_artifact_that_decides_otherwise_is_refused(run: Path, monkeypatch) -> None:
    """The artifact's own preprocessing is made to differ behind the converter's back."""
    from sortal.export import story

    def wrong(name: str, onnx: Path, out: Path, **how: object) -> None:
        import onnx as package

        from sortal.export.graph import set_metadata

        model = package.load_model(onnx)
        spec = json.loads({item.key: item.value for item in model.metadata_props}["sortal.preprocess"])
        set_metadata(model, {"sortal.preprocess": json.dumps(spec | {"interpolation": "nearest"})})
        package.save_model(model, out / "model.onnx")

    before = state(run / "bundle")
    monkeypatch.setattr(story, "convert_apart", wrong)
    refused(
        sortal(run.parent, "export", run, "--to", "onnx", "--replace"),
        "the first stage that differs is resize",
        "interpolation is nearest",
    )
    assert state(run / "bundle") == before
