"""Comparing, explaining and the doctor from the command line and from Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import sortal as package
from worlds import TINY, World, class_folders, copied, refused, sortal


@pytest.fixture(scope="module")
def world(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Its own: what is written here is not found by others."""
    return copied(world, tmp_path_factory.mktemp("own") / "world")


@pytest.fixture(scope="module")
def weak(world: World) -> Path:
    """A run of one epoch at a tiny rate on the same photographs."""
    done = sortal(
        world.home, "train", "photos", *TINY, "train.epochs=1", "optim.lr=1e-6", "seed=7", "--out", "weak", "--json"
    )
    assert done.code == 0, done.err
    return world.home / "weak" / "photos-1"


def test_a_better_model_is_told_from_a_weak_one(world: World, weak: Path) -> None:
    done = sortal(world.home, "compare", weak, world.run, "other", "--out", "compared", "--no-latency", "--json")
    assert done.code == 0, done.err
    report = done.report
    assert report["kind"] == "comparison"
    columns = report["tables"]["models"]["columns"]
    rows = [dict(zip(columns, row, strict=True)) for row in report["tables"]["models"]["rows"]]
    assert [row["model"] for row in rows] == ["weak/photos-1", "runs/photos-1"]
    assert rows[0]["macs"] == rows[1]["macs"] > 10_000
    assert rows[0]["parameters"] == rows[1]["parameters"] > 0
    assert rows[1]["accuracy"] >= rows[0]["accuracy"]
    folder = world.home / "compared"
    assert (folder / "report.html").is_file()
    assert (folder / "changes.csv").read_text(encoding="utf-8").startswith("change,image")


def test_any_form_of_a_model_and_its_latency(world: World, weak: Path, tmp_path: Path) -> None:
    lone = tmp_path / "alone.onnx"
    shutil.copy(world.run / "bundle" / "artifacts" / "onnx" / "model.onnx", lone)
    models = [world.run, weak / "bundle", weak / "bundle" / "artifacts" / "onnx", lone]
    report = package.compare(models, world.home / "other", out=tmp_path / "out")
    assert len(report.tables["models"].rows) == 4
    assert len(report.tables["against_the_first"].rows) == 3
    assert report.tables["models"].columns[-1] == "images_per_s"
    assert (tmp_path / "out" / "accuracy_latency.png").is_file()


def test_images_seen_in_training_are_an_error(world: World, weak: Path, tmp_path: Path) -> None:
    report = package.compare([weak, world.run], world.home / "photos", out=tmp_path / "out", latency=False)
    seen = [finding for finding in report.findings if finding.code == "seen_in_training"]
    assert len(seen) == 2
    assert seen[0].severity == "error"
    assert report.body["summary"][0].startswith("Careful:")


def test_what_a_comparison_refuses(world: World) -> None:
    refused(sortal(world.home, "compare", "runs/photos-1", "other"), "two models")
    refused(
        sortal(world.home, "compare", "runs/photos-1", "runs/photos-1", "other", "--by", "camera"), "no such column"
    )
    refused(
        sortal(world.home, "compare", "runs/photos-1", "runs/photos-1", "other", "--out", "runs/photos-1"),
        "never overwritten",
    )


def test_an_explanation_names_answer_maps_and_checks(world: World) -> None:
    image = "other/red/000.png"
    done = sortal(world.home, "explain", "runs/photos-1", image, "--class", "blue", "--out", "why", "--json")
    assert done.code == 0, done.err
    report = done.report
    answer = dict(zip(report["tables"]["answers"]["columns"], report["tables"]["answers"]["rows"][0], strict=True))
    assert answer["image"] == image
    assert answer["explained"] == "blue"
    kinds = [row[1] for row in report["tables"]["maps"]["rows"]]
    assert {"occlusion", "grad_cam", "layer_cam"} <= set(kinds)
    for row in report["tables"]["maps"]["rows"]:
        told = dict(zip(report["tables"]["maps"]["columns"], row, strict=True))
        assert -1 <= told["random_weights"] <= 1  # the sanity check of MED-10 is reported with every map
    assert (world.home / "why" / "001-000.png").is_file()
    refused(sortal(world.home, "explain", "runs/photos-1", image, "--class", "blau"), "unknown class")
    refused(sortal(world.home, "explain", "runs/photos-1", "nowhere.png"), "nowhere.png")


def test_the_doctor_reads_a_run(world: World, weak: Path, tmp_path: Path) -> None:
    done = sortal(world.home, "doctor", weak, "--json")
    assert done.code == 0, done.err
    assert {"underfitting", "too_short"} & set(done.codes)
    told = sortal(world.home, "doctor", weak)
    assert "Next:    sortal train" in told.out
    assert "train.epochs=2" in told.out
    refused(sortal(world.home, "doctor", tmp_path), "recipe.yaml")


def test_the_doctor_reads_a_run_that_diverged(world: World) -> None:
    class_folders(world.home / "few", {"red": 8, "blue": 8}, seed=9)
    settings = ["optim.lr=1e6", "optim.clip=0", "train.epochs=4"]
    failed = sortal(world.home, "train", "few", *TINY, *settings, "--out", "diverged")
    runs = list((world.home / "diverged").glob("*/metrics.jsonl"))
    if failed.code == 0 or runs:
        done = sortal(world.home, "doctor", runs[0].parent, "--json")
        assert done.code == 1
        assert "diverged" in done.codes
        assert any("optim.lr=auto" in json.dumps(finding) for finding in done.report["findings"])
    else:
        refused(sortal(world.home, "doctor", next((world.home / "diverged").iterdir())), "no epoch")
