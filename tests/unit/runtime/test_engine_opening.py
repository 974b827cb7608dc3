"""Which engine opens which file: by the manifest, by the ending, by name with a variant."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import pytest

from sortal.core.bundle import attach
from sortal.core.errors import BundleError, InputError
from sortal.runtime.classifier import open_classifier
from sortal.runtime.engines import ENGINES, opening
from sortal.runtime.engines.opening import OPENED_BY, default_engine, open_engine, parse_engine
from sortal.runtime.locate import MODEL_FILES, locate


@pytest.fixture
def own(bundle, tmp_path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def attached(bundle: Path, name: str, **details) -> Path:
    """The bundle's ONNX file once more, as another artifact."""
    data = (bundle / "artifacts" / "onnx" / "model.onnx").read_bytes()
    return attach(bundle, f"artifacts/{name}", lambda to: (to / "model.onnx").write_bytes(data), details=details)


@pytest.fixture
def missing(monkeypatch):
    """Makes the packages of engines look as if they were not installed."""

    def leave_out(*engines: str) -> None:
        monkeypatch.setattr(opening, "is_installed", lambda name: name not in engines)

    return leave_out


def test_the_manifest_says_who_opens_an_artifact(own, halves):
    folder = attached(own, "openvino-int8", engine="openvino", precision="int8")
    with open_classifier(folder, threads=1) as model:
        assert model.engine == "openvino"
        assert model.predict([halves]).answers() == ["red"]
    with open_classifier(own, threads=1) as model:
        assert model.engine == "onnxruntime"


def test_a_manifest_is_heard_where_the_artifact_was_copied_out_of_its_bundle(own, tmp_path):
    copied = shutil.copytree(attached(own, "openvino-int8", engine="openvino", precision="int8"), tmp_path / "copied")
    with open_classifier(copied, threads=1) as model:
        assert model.engine == "openvino"


def test_float32_goes_to_another_engine_where_its_own_is_not_installed(missing, tmp_path):
    missing("onnxruntime")
    assert default_engine(tmp_path / "model.onnx", stated="onnxruntime") == "openvino"


def test_int8_stays_with_the_engine_it_was_judged_on(missing, tmp_path):
    missing("openvino")
    assert default_engine(tmp_path / "model.onnx", stated="openvino", exchangeable=False) == "openvino"


@pytest.mark.parametrize(("ending", "engines"), OPENED_BY.items())
def test_the_ending_decides_where_nothing_is_said(ending, engines, missing, tmp_path):
    missing()
    assert default_engine(tmp_path / f"model{ending}") == engines[0]
    missing(*engines)  # then opening says what is missing
    assert default_engine(tmp_path / f"model{ending}") == engines[0]


def test_every_engine_of_the_table_is_one_that_can_be_opened_by_name():
    assert {engine for engines in OPENED_BY.values() for engine in engines} >= {"onnxruntime", "openvino"}
    assert all(name.startswith("model.") for name in MODEL_FILES)


def test_an_artifact_for_another_system_says_for_whom(own):
    def write(folder: Path) -> None:
        (folder / "model.mlpackage").mkdir()
        (folder / "model.mlpackage" / "Manifest.json").write_text("{}")

    folder = attach(own, "artifacts/coreml", write)
    with pytest.raises(BundleError, match="Apple") as caught:
        locate(folder)
    assert "artifacts/onnx" in str(caught.value)


def test_a_bundle_without_onnx_opens_the_first_artifact_that_can_be_opened(own, tmp_path):
    kept = attached(own, "onnx-int8", engine="onnxruntime", precision="int8")
    attach(own, "artifacts/coreml", lambda to: (to / "model.txt").write_text("x"))
    shutil.rmtree(own / "artifacts" / "onnx")
    located = locate(own)
    assert located.model.parent == kept
    assert (located.engine, located.precision, located.is_float32) == ("onnxruntime", "int8", False)


@pytest.mark.parametrize("text", ["", ":gpu", "onnxruntime:"])
def test_half_a_name_is_refused(text):
    with pytest.raises(InputError, match="names no inference engine"):
        parse_engine(text)


def test_a_name_and_its_variant_come_apart():
    named = parse_engine("onnxruntime:XnnpackExecutionProvider")
    assert (named.name, named.variant, str(named)) == (
        "onnxruntime",
        "XnnpackExecutionProvider",
        "onnxruntime:XnnpackExecutionProvider",
    )
    with pytest.raises(InputError, match="did you mean onnxruntime"):
        parse_engine("onnxruntme:cpu")


def test_a_variant_reaches_engines_that_know_one_and_is_refused_by_others(monkeypatch, tmp_path):
    seen = []
    knows, knows_not = types.ModuleType("knows"), types.ModuleType("knows_not")
    knows.open = lambda path, *, threads, variant=None: seen.append((path, threads, variant))  # type: ignore[attr-defined]
    knows_not.open = lambda path, *, threads: seen.append((path, threads))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "knows", knows)
    monkeypatch.setitem(sys.modules, "knows_not", knows_not)
    monkeypatch.setattr(opening, "ENGINES", type(ENGINES)(kind="k", group="g", table={"a": "knows", "b": "knows_not"}))
    open_engine(tmp_path, "a:gpu", threads=2)
    open_engine(tmp_path, "b", threads=3)
    assert seen == [(tmp_path, 2, "gpu"), (tmp_path, 3)]
    with pytest.raises(InputError, match="no variants"):
        open_engine(tmp_path, "b:gpu", threads=1)
