"""A contract in training, and a decision fitted anew by `sortal calibrate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sortal.core.bundle import open_bundle
from worlds import COLORS, TINY, Done, World, class_folders, copied, refused, sortal


@pytest.fixture(scope="module")
def world(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Its own: what is written here is not found by others."""
    return copied(world, tmp_path_factory.mktemp("own") / "world")


@pytest.fixture(scope="module")
def promised(world: World) -> Done:
    """A run with a contract that few images cannot promise, but that looks right on them."""
    (world.home / "contract.yaml").write_text("max_error: 0.3\nmin_coverage: 0.1\nrecall: {red: 0.5}\n")
    return sortal(world.home, "train", "photos", *TINY, "seed=7", "contract=contract.yaml", "--json")


def test_a_run_calibrates_on_its_validation_images(world: World) -> None:
    bundle = open_bundle(world.run / "bundle")
    assert bundle.decision.temperature != 1.0
    assert bundle.decision.threshold == 0.0
    stamped = json.loads((world.run / "bundle" / "decision.json").read_text())
    assert stamped["temperature"] == bundle.decision.temperature
    assert "few_calibration_images" in {one["code"] for one in world.train.report["findings"]}
    shown = sortal(world.home, "show", "runs/photos-1")
    assert f"temperature {bundle.decision.temperature:.4g}" in shown.out
    assert "everything is answered" in shown.out


def test_a_contract_is_in_the_report_and_keeps_the_network_that_was_calibrated(world: World, promised: Done) -> None:
    report = promised.report
    clauses = {row[0]: row for row in report["tables"]["contract"]["rows"]}
    assert set(clauses) == {"max_error", "min_coverage", "recall of red"}
    run = Path(report["paths"]["json"]).parent
    plan = json.loads((world.home / run / "plan.json").read_text())
    assert plan["refit"] is False
    codes = {one["code"] for one in report["findings"]}
    assert ("contract_unmet" in codes) == (promised.code == 1)
    assert "calibrated_on_validation" in codes


def test_a_contract_that_cannot_be_met_ends_with_1_and_keeps_the_run(world: World) -> None:
    """Labels of one class are noise: nothing near a perfect answer can be had."""
    class_folders(world.home / "noise" / "all", {"red": 60}, seed=11)
    for name in ("one", "two"):
        (world.home / "noise" / name).mkdir(exist_ok=True)
    for number, path in enumerate(sorted((world.home / "noise" / "all" / "red").iterdir())):
        path.rename(world.home / "noise" / ("one", "two")[number % 2] / path.name)
    (world.home / "noise" / "all" / "red").rmdir()
    (world.home / "noise" / "all").rmdir()
    (world.home / "strict.yaml").write_text("max_error: 0.2\nmin_coverage: 0.9\nconfidence: 0.6\n")
    done = sortal(world.home, "train", "noise", *TINY, "seed=1", "train.epochs=2", "contract=strict.yaml")
    assert done.code == 1, done.err
    assert "Contract, m" in done.out
    assert "Within reach here" in done.out
    assert (world.home / "runs" / "noise-1" / "bundle" / "decision.json").is_file()
    assert (world.home / "runs" / "noise-1" / "report.html").is_file()


def test_calibrate_makes_a_child_and_leaves_the_parent(world: World, tmp_path: Path) -> None:
    images = class_folders(tmp_path / "mine", dict.fromkeys(COLORS, 12), seed=21)
    before = {path: path.read_bytes() for path in (world.run / "bundle").rglob("*") if path.is_file()}
    (tmp_path / "c.yaml").write_text("max_error: 0.4\n")
    done = sortal(world.home, "calibrate", "runs/photos-1", images, "--contract", tmp_path / "c.yaml", "--json")
    assert done.code in (0, 1), done.err
    child = open_bundle(Path(world.home / done.report["paths"]["bundle"]))
    parent = open_bundle(world.run / "bundle")
    assert child.manifest.parent == parent.id != child.id
    assert child.contract is not None
    assert child.contract.max_error == 0.4
    assert child.artifacts() == parent.artifacts()
    assert {path: path.read_bytes() for path in before} == before
    assert done.report["kind"] == "calibration"
    assert done.report["metrics"]["temperature"]["value"] == pytest.approx(child.decision.temperature)
    for name in ("report.html", "report.json", "reliability.png", "risk_coverage.png", "split.csv"):
        assert (child.path.parent / name).is_file(), name
    graph = child.artifact("onnx") / "model.onnx"
    lone = tmp_path / "model.onnx"
    lone.write_bytes(graph.read_bytes())
    shown = sortal(tmp_path, "show", lone)
    assert f"temperature {child.decision.temperature:.4g}" in shown.out, "the graph alone carries the new decision"
    answered = sortal(world.home, "predict", child.path.parent, "other", "--out", tmp_path / "answers.csv")
    assert answered.code == 0, answered.err


def test_images_that_were_seen_are_refused_by_name(world: World, tmp_path: Path) -> None:
    refused(
        sortal(world.home, "calibrate", "runs/photos-1", "photos", "--out", tmp_path),
        "used to train, choose or calibrate",
        "blue/0",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_child_has_seen_its_calibration_images(world: World, tmp_path: Path) -> None:
    images = class_folders(tmp_path / "more", dict.fromkeys(COLORS, 4), seed=31)
    done = sortal(world.home, "calibrate", "runs/photos-1", images, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    run = Path(done.report["paths"]["bundle"]).parent
    refused(sortal(world.home, "calibrate", world.home / run, images), "used to train, choose or calibrate")


def test_what_is_left_to_a_person_is_counted_and_named(world: World, promised: Done, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("recall: {red: 0.9999, green: 0.9999, blue: 0.9999}\n")
    images = class_folders(tmp_path / "few", dict.fromkeys(COLORS, 8), seed=41)
    done = sortal(world.home, "calibrate", "runs/photos-1", images, "--contract", tmp_path / "c.yaml", "--json")
    run = world.home / Path(done.report["paths"]["bundle"]).parent
    answered = sortal(world.home, "predict", run, "other", "--out", tmp_path / "a.csv", "--sort-into", tmp_path / "s")
    count = (tmp_path / "a.csv").read_text().count(",true,")
    assert (f"{count} of 9 images are left to a person" in answered.out) == (count > 0)
