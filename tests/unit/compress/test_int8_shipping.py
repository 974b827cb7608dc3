"""From a bundle to an int8 artifact: the search, what is shipped where, and what is left alone when it fails."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from smallgraph import small_images
from sortal.compress.images import Material
from sortal.compress.judge import answer
from sortal.compress.picture import draw_candidates
from sortal.compress.pricing import Budget, Candidate, Pricing
from sortal.compress.report import Outcome, compression_report
from sortal.compress.search import Found, Search
from sortal.compress.ship import ship
from sortal.compress.verdict import Judged
from sortal.core.bundle import Bundle, BundleContents, open_attachment, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError, MachineError
from sortal.core.progress import Silent
from sortal.core.report import Metric
from sortal.evaluate.pages.page import render_page
from sortal.export.publish import restamp_artifact, stamp
from sortal.runtime.classifier import open_classifier
from sortal.runtime.engines import ENGINES
from sortal.runtime.metadata import from_metadata


def _search(bundle: Bundle, folder: Path, max_drop: float) -> tuple[Outcome, Found]:
    material = Material(
        calibration=small_images(24), judged=small_images(40, seed=1), source="memory", digest="0" * 64, findings=()
    )
    original = bundle.artifact("onnx") / "model.onnx"
    answers = answer(ENGINES.get("onnxruntime").open(original, threads=1), bundle, material.judged)
    budget = Budget(max_drop=max_drop)
    size = original.stat().st_size
    pricing = Pricing(bundle=bundle, material=material, original=answers, size_bytes=size, budget=budget)
    found = Search(original, pricing, folder=folder, listener=Silent()).run()
    judged = tuple(_judged(one, found) for one in found.candidates)
    outcome = Outcome(
        bundle=bundle,
        material=material,
        original=answers,
        original_bytes=original.stat().st_size,
        original_ms={"onnxruntime": 1.0},
        found=found,
        judged=judged,
        budget=budget,
    )
    return outcome, found


def _judged(one: Candidate, found: Found) -> Judged:
    verdict = "shipped" if one is found.chosen else "fits" if found.chosen else "loses too much"
    ratio = Metric(value=0.5, low=0.4, high=0.6, n=30)
    return Judged(candidate=one, ms=0.5, ratio=ratio, verdict=verdict)


def test_an_int8_that_fits_is_attached_and_answers(bundle_path: Path, tmp_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    outcome, found = _search(bundle, tmp_path, max_drop=0.5)
    assert found.chosen is not None
    assert found.sensitivity == ()
    assert [one.name for one in found.candidates[:3]] == [
        f"{method}, 8-bit weights" for method in ("min-max", "percentile", "entropy")
    ]
    report = compression_report(outcome, "photos-1")
    made = ship(outcome, report, None)
    assert made == {"onnx-int8": bundle_path / "artifacts" / "onnx-int8"}
    details = open_attachment(made["onnx-int8"]).manifest.details
    assert details["precision"] == "int8"
    assert details["outputs"] == ["logits", "embedding", "feature_map"]
    assert open_bundle(bundle_path).artifacts() == ["onnx", "onnx-int8"]
    images = small_images(20, seed=5)
    with open_classifier(made["onnx-int8"]) as small, open_classifier(bundle_path) as large:
        answers = small.predict(list(images.pixels))
        assert answers.bundle_id == bundle.id
        assert answers.index.tolist() == images.labels.tolist() == large.predict(list(images.pixels)).index.tolist()
    ship(outcome, report, None)  # an older int8 is replaced
    assert open_bundle(bundle_path).artifacts() == ["onnx", "onnx-int8"]


def test_the_calibration_images_are_stored_and_give_the_same_scales_again(bundle_path: Path, tmp_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    made = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome, _ = _search(bundle, folder, max_drop=0.5)
        shipped = ship(outcome, compression_report(outcome, "photos-1"), None)["onnx-int8"]
        made.append(((shipped / "model.onnx").read_bytes(), json.loads((shipped / "calibration.json").read_text())))
    assert made[0] == made[1]
    told = made[0][1]
    assert [one["name"] for one in told["images"]] == list(outcome.material.calibration.names)
    assert told["images"][0]["digest"] == outcome.material.calibration.digests[0]
    assert told["method"] == "PTQ"


def test_an_int8_goes_into_a_bundle_with_another_decision(bundle_path: Path, tmp_path: Path) -> None:
    """What `sortal calibrate` does: the integers stay, the decision in the file is the new one."""
    bundle = open_bundle(bundle_path)
    outcome, _ = _search(bundle, tmp_path, max_drop=0.5)
    made = ship(outcome, compression_report(outcome, "photos-1"), None)["onnx-int8"]
    contents = BundleContents(
        labels=bundle.labels,
        preprocess=bundle.preprocess,
        decision=DecisionSpec(temperature=3.0, threshold=0.4),
        model=bundle.manifest.model,
        weights_licence=bundle.manifest.weights_licence,
        parent=bundle.id,
    )
    child = open_bundle(write_bundle(tmp_path / "child", contents))
    graph = tmp_path / "graph.onnx"
    graph.write_bytes((bundle_path / "artifacts" / "onnx" / "model.onnx").read_bytes())
    stamp(graph, child)
    carried = restamp_artifact(child.path, "onnx-int8", made, graph)
    assert open_attachment(carried).manifest.details["measured"] == open_attachment(made).manifest.details["measured"]
    images = list(small_images(4).pixels)
    with open_classifier(carried) as new, open_classifier(made) as old:
        assert new.bundle_id == child.id
        assert new.predict(images).probabilities.max() < old.predict(images).probabilities.max()
    said = engine_metadata(carried / "model.onnx")
    assert from_metadata(said, where="test").decision == child.decision


def engine_metadata(path: Path) -> dict[str, str]:
    opened = ENGINES.get("onnxruntime").open(path, threads=1)
    return dict(opened.metadata)


def test_a_new_bundle_names_its_parent(bundle_path: Path, tmp_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    outcome, _ = _search(bundle, tmp_path, max_drop=0.5)
    made = ship(outcome, compression_report(outcome, "photos-1"), tmp_path / "small")
    child = open_bundle(tmp_path / "small")
    assert child.manifest.parent == bundle.id != child.id
    assert child.artifacts() == list(made) == ["onnx-int8"]
    assert open_bundle(bundle_path).artifacts() == ["onnx"]
    with open_classifier(tmp_path / "small") as model:
        assert model.bundle_id == child.id
        assert model.predict(list(small_images(2).pixels)).answers() == ["blue", "red"]


def test_a_budget_that_nothing_holds_leaves_layer_after_layer_in_float(bundle_path: Path, tmp_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    outcome, found = _search(bundle, tmp_path, max_drop=-1.0)  # nothing gains a point over a perfect original
    assert found.chosen is None
    assert {name for name, _ in found.sensitivity} == {"stem", "body", "head"}
    moved = [value for _, value in found.sensitivity]
    assert moved == sorted(moved, reverse=True)
    floating = [one.floating for one in found.candidates if one.floating]
    assert floating[0] == ("stem", "head")
    assert all(set(one) >= {"stem", "head"} for one in floating)
    report = compression_report(outcome, "photos-1")
    assert ship(outcome, report, None) == {}
    assert open_bundle(bundle_path).artifacts() == ["onnx"]
    assert report.body["verdict"] == "refused"
    assert "not_shipped" in {finding.code for finding in report.findings}
    assert len(report.tables["sensitive_layers"].rows) == 3


def test_the_report_tells_size_accuracy_time_and_price(bundle_path: Path, tmp_path: Path) -> None:
    outcome, found = _search(open_bundle(bundle_path), tmp_path, max_drop=0.5)
    report = compression_report(outcome, "photos-1")
    rows = [
        dict(zip(report.tables["candidates"].columns, row, strict=True)) for row in report.tables["candidates"].rows
    ]
    assert [row["verdict"] for row in rows].count("shipped") == 1
    assert rows[0]["candidate"] == "float32"
    assert found.chosen is not None
    assert report.metrics["size_ratio"].value == pytest.approx(found.chosen.size_bytes / outcome.original_bytes)
    assert {row[0] for row in report.tables["classes"].rows} == {"blue", "red"}
    picture = draw_candidates(report, tmp_path / "candidates.png")
    page = render_page(report, {"candidates": picture})
    assert all(str(row["candidate"]) in page for row in rows)
    assert np.isclose(report.metrics["time_ratio"].value or 0, 0.5)


def test_a_full_disk_leaves_the_artifact_that_was_there(bundle_path: Path, tmp_path: Path) -> None:
    outcome, _ = _search(open_bundle(bundle_path), tmp_path, max_drop=0.5)
    report = compression_report(outcome, "photos-1")
    before = (ship(outcome, report, None)["onnx-int8"] / "model.onnx").read_bytes()
    with _largest_file(500), pytest.raises(MachineError):
        ship(outcome, report, None)
    assert (open_bundle(bundle_path).artifact("onnx-int8") / "model.onnx").read_bytes() == before
    assert [path.name for path in (bundle_path / "artifacts").iterdir()] != []
    with _largest_file(500), pytest.raises(MachineError):
        ship(outcome, report, tmp_path / "child")
    assert not (tmp_path / "child").exists()


def test_an_altered_bundle_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    file = bundle_path / "artifacts" / "onnx" / "model.onnx"
    file.write_bytes(file.read_bytes() + b"\x00")
    with pytest.raises(BundleError):
        _search(open_bundle(bundle_path), tmp_path, max_drop=0.5)


@contextmanager
def _largest_file(size_bytes: int) -> Iterator[None]:
    """As a disk that is full: no file of this process may grow beyond this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
