"""The archive for TorchServe: what is in it, and what its handler answers when it is called as TorchServe calls it."""

from __future__ import annotations

import importlib.util
import io
import json
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from colors import color_bundle
from sortal.core.errors import BundleError
from sortal.export.artifacts import torchserve
from sortal.runtime.classifier import open_classifier


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    color_bundle(folder / "colors", threshold=0.8)
    torchserve.convert(folder / "colors" / "artifacts" / "onnx" / "model.onnx", folder)
    return folder / torchserve.ARCHIVE


@pytest.fixture(scope="module")
def unpacked(archive: Path) -> Path:
    """As TorchServe unpacks it."""
    folder = archive.parent / "unpacked"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    return folder


def handler(folder: Path) -> ModuleType:
    """The handler that the manifest names, loaded from the archive and not from Sortal."""
    name = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text())["model"]["handler"]
    spec = importlib.util.spec_from_file_location("handler_of_an_archive", folder / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def picture(*color: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), color, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_the_archive_holds_what_its_manifest_names(unpacked: Path) -> None:
    manifest = json.loads((unpacked / "MAR-INF" / "MANIFEST.json").read_text())
    assert manifest["runtime"] == "python"
    for key in ("handler", "serializedFile"):
        assert (unpacked / manifest["model"][key]).is_file()
    assert sorted(path.name for path in unpacked.iterdir()) == ["MAR-INF", "handler.py", "model.onnx"]


def test_it_is_the_same_to_the_byte_whenever_it_is_made(archive: Path, tmp_path: Path) -> None:
    torchserve.convert(archive.parent / "model.onnx", tmp_path)
    assert (tmp_path / torchserve.ARCHIVE).read_bytes() == archive.read_bytes()


def test_its_handler_answers_each_request_of_a_batch(unpacked: Path) -> None:
    one = handler(unpacked).Handler()
    with pytest.raises(RuntimeError, match="not initialized"):
        one.handle([], None)
    context = SimpleNamespace(system_properties={"model_dir": str(unpacked)}, manifest={})
    one.initialize(context)
    assert one.initialized
    red, grey = picture(250, 0, 0), picture(99, 100, 101)
    batch = [{"body": bytearray(red)}, {"data": b"nothing"}, {"data": grey}, {"body": None}]
    answers = one.handle(batch, context)
    assert json.loads(json.dumps(answers)) == answers
    assert answers[0]["label"] == "red"
    assert answers[0]["top"][0]["label"] == "red"
    assert [answer.get("abstained") for answer in answers] == [False, None, True, None]
    assert {"code", "error"} == set(answers[1]) == set(answers[3])
    with open_classifier(unpacked / "model.onnx", threads=1) as model:
        predicted = model.predict([red])
    assert answers[0]["probability"] == pytest.approx(float(predicted.probability[0]), abs=1e-6)


def test_a_damaged_file_becomes_no_archive(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError):
        torchserve.convert(tmp_path / "model.onnx", tmp_path)
    assert not (tmp_path / torchserve.ARCHIVE).exists()
