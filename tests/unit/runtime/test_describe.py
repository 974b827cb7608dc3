"""What a run, a bundle or an artifact is said to be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sortal.core.errors import BundleError
from sortal.core.report import Metric, Report
from sortal.core.run import open_run
from sortal.runtime.describe import describe


def _properties(report: Report, name: str) -> dict[str, object]:
    return {str(row[0]): row[1] for row in report.tables[name].rows}


@pytest.fixture
def run(bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(bundle, tmp_path / "colors-1" / "bundle")
    return tmp_path / "colors-1"


def test_a_bundle(bundle: Path) -> None:
    report = describe(bundle)
    shown = _properties(report, "bundle")
    assert report.kind == "description"
    assert shown["architecture"] == "colors"
    assert shown["licence of the weights"] == "Apache-2.0"
    assert shown["input"] == "16x16 px, 3 channels, 8 bit, stretch, bicubic"
    assert shown["artifacts"] == "onnx"
    assert shown["weights from"] == "not recorded"
    assert [row[1] for row in report.tables["classes"].rows] == ["red", "green", "blue"]


def test_a_run_with_its_numbers_and_readings(run: Path) -> None:
    saved = Report(kind="evaluation", subject="colors", metrics={"accuracy": Metric(value=0.5, n=4)})
    open_run(run).report_path.write_text(saved.to_json())
    open_run(run).log_test_read("because")
    report = describe(run)
    assert report.metrics["accuracy"] == Metric(value=0.5, n=4)
    assert [row[1] for row in report.tables["readings of the test split"].rows] == ["because"]
    assert set(report.paths) == {"run", "page", "bundle"}


@pytest.mark.parametrize("content", [None, b"{", b'{"format": 9}'])
def test_a_run_without_a_sound_report_is_still_described(run: Path, content: bytes | None) -> None:
    if content is not None:
        open_run(run).report_path.write_bytes(content)
    report = describe(run)
    assert report.metrics == {}
    assert "readings of the test split" not in report.tables


def test_an_artifact_in_its_bundle_and_alone(bundle: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(bundle / "artifacts" / "onnx", tmp_path / "alone")
    for place in (bundle / "artifacts" / "onnx", alone, alone / "model.onnx"):
        shown = _properties(describe(place), "artifact")
        assert shown["classes"] == 3
        assert shown["opened with"] == "onnxruntime"


def test_a_run_that_did_not_finish(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 0\n")
    with pytest.raises(BundleError, match=r"did not finish(.|\n)*train\.log"):
        describe(tmp_path)


@pytest.mark.parametrize("file", ["labels.json", "artifacts/onnx/model.onnx"])
def test_what_was_altered_is_refused(run: Path, file: str) -> None:
    path = run / "bundle" / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match=r"altered|size"):
        describe(run)
