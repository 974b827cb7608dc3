"""The verbs from Python: what a script of a user does."""

from __future__ import annotations

import contextlib
import io
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sortal
from sortal.api import show
from sortal.core.errors import BundleError, MissingExtraError
from worlds import COLORS, TINY, World, class_folders


def _settings() -> dict[str, object]:
    return {name: value for name, _, value in (setting.partition("=") for setting in TINY)}


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    """Images that stand in a table, a small budget of settings as a mapping, every kind of input."""
    class_folders(tmp_path / "photos", dict.fromkeys(COLORS, 6), seed=4)
    class_folders(tmp_path / "other", dict.fromkeys(COLORS, 2), seed=5)
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(io.StringIO()) as printed:
        images = sortal.images("photos/")
        settings = _settings() | {"model": "sortal_tiny", "model.arguments": {"width": 0.15, "depth": 0.5}}
        run = sortal.train(images, overrides=settings | {"model.weights": None, "train.epochs": 3})
        assert run.path == Path("runs/photos-1")
        assert run.report.provenance["split"] == "test"
        file = "other/red/000.png"
        array, picture = np.asarray(Image.open(file)), Image.open(file)
        with sortal.load_model(run) as model:
            predictions = model.predict([file, array, picture, Path(file).read_bytes()])
            report = sortal.evaluate(model, sortal.images("other/"))
        assert sortal.predict(run, file).names == (file,)
    assert printed.getvalue() == ""
    assert predictions.names == (file, "input[1]", "input[2]", "input[3]")
    assert len(np.unique(predictions.probabilities, axis=0)) == 1
    assert report.metrics["accuracy"].n == 6
    assert Path(tmp_path, report.paths["report"]).is_file()


def test_answers_as_tables(world: World) -> None:
    predictions = sortal.predict(world.run, str(world.home / "inbox"))
    frame = predictions.to_polars()
    assert frame.columns[:6] == ["image", "label", "probability", "margin", "abstained", "error"]
    assert frame["label"].null_count() == 2
    if find_spec("pandas") is None:
        with pytest.raises(MissingExtraError, match=r"sortal.pandas"):
            predictions.to_pandas()
    else:
        assert list(predictions.to_pandas(scores=False)["image"]) == list(predictions.names)


def _places(world: World, elsewhere: Path) -> list[Path]:
    shutil.copytree(world.run / "bundle", elsewhere / "copied")
    shutil.copytree(world.run / "bundle" / "artifacts" / "onnx", elsewhere / "artifact")
    shutil.copy(world.run / "bundle" / "artifacts" / "onnx" / "model.onnx", elsewhere / "bare.onnx")
    inside = world.run / "bundle" / "artifacts" / "onnx"
    return [world.run / "bundle", elsewhere / "copied", inside, elsewhere / "artifact", elsewhere / "bare.onnx"]


def test_a_model_opens_from_wherever_it_lies(world: World, tmp_path: Path) -> None:
    source = str(world.home / "other")
    expected = sortal.predict(world.run, source)
    for place in _places(world, tmp_path):
        found = sortal.predict(place, source)
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
        assert found.bundle_id == expected.bundle_id
        assert found.labels.names == tuple(COLORS)


def test_engines_agree(world: World) -> None:
    source = str(world.home / "other")
    one, other = (sortal.predict(world.run, source, engine=name) for name in ("onnxruntime", "openvino"))
    assert one.answers() == other.answers()
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)


@pytest.mark.parametrize("file", ["weights.safetensors", "labels.json", "preprocess.json", "artifacts/onnx/model.onnx"])
def test_an_altered_bundle_is_refused_everywhere(world: World, tmp_path: Path, file: str) -> None:
    shutil.copytree(world.run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluations"))
    path = tmp_path / "run" / "bundle" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    source = str(world.home / "other")
    for verb in (
        lambda: sortal.load_model(tmp_path / "run"),
        lambda: sortal.evaluate(tmp_path / "run", source),
        lambda: show(tmp_path / "run"),
    ):
        with pytest.raises(BundleError, match=r"altered"):
            verb()
    assert not (tmp_path / "run" / "evaluations").exists()


def test_the_verbs_stay_verbs_when_the_packages_of_their_names_are_imported() -> None:
    import sortal.evaluate.study
    import sortal.train.plan

    assert sortal.train.__module__ == sortal.evaluate.__module__ == "sortal.api"
