"""From photographs to answers through the command line: train, evaluate, predict, show, import."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from worlds import COLORS, TINY, World, class_folders, refused, sortal

REPORT_KEYS = {"kind", "subject", "data_digest", "metrics", "tables", "findings", "paths", "provenance"}
RUN_FILES = {
    "recipe.yaml",
    "plan.json",
    "state.json",
    "metrics.jsonl",
    "results.png",
    "confusion_matrix.png",
    "highest_loss.png",
    "confusion_matrix.csv",
    "train_batch.jpg",
    "val_predictions.jpg",
    "predictions.csv",
    "report.html",
    "report.json",
    "bundle",
    "train.log",
    "split.csv",
    "test_reads.jsonl",
    "run.lock",
}


def _images(report: dict) -> int:
    return int(report["metrics"]["images"]["value"])


def test_training_prints_one_report_of_the_test_split(world: World) -> None:
    assert world.train.code == 0, world.train.err
    report = world.train.report
    assert set(report) >= REPORT_KEYS
    assert report["kind"] == "evaluation"
    assert report["subject"] == "photos"
    assert report["provenance"]["split"] == "test"
    assert report["provenance"]["stopped"] == "done"
    assert "no_test_split" not in world.train.codes
    for name in ("accuracy", "macro_f1"):
        assert set(report["metrics"][name]) == {"value", "low", "high", "n"}
    accuracy = report["metrics"]["accuracy"]
    assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    assert accuracy["n"] == 6
    assert accuracy["value"] >= 0.8
    assert {"code", "severity", "message", "rows", "hint"} == set(report["findings"][0])
    assert report == json.loads((world.run / "report.json").read_text())


def test_what_training_says_goes_to_stderr(world: World) -> None:
    assert "42 images of 3 classes (30 train, 6 val, 6 test)" in world.train.err
    assert re.search(r"epoch 6/6 .*accuracy .* left", world.train.err)
    assert "0 of 6 decisions differ" in world.train.err


def test_a_run_holds_what_people_of_this_field_expect(world: World) -> None:
    assert {path.name for path in world.run.iterdir()} - {"evaluations"} == RUN_FILES
    log = (world.run / "train.log").read_text()
    assert "42 images of 3 classes" in log
    assert "finished after" in log
    assert log.count("epoch 6/6") == 1
    rows = [json.loads(line) for line in (world.run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert (world.run / "report.html").read_text().startswith("<!doctype html>")
    table = pl.read_csv(world.run / "predictions.csv")
    assert len(table) == 6
    assert [name for name in table.columns if name.startswith("p_")] == [f"p_{name}" for name in COLORS]


def test_settings_reach_the_recipe_and_a_plain_value_names_a_section(world: World) -> None:
    recipe = yaml.safe_load((world.run / "recipe.yaml").read_text())
    assert recipe["seed"] == 7
    assert recipe["model"]["name"] == "sortal_tiny"
    assert recipe["model"]["arguments"] == {"width": 0.15, "depth": 0.5}
    assert recipe["input"]["size"] == 32
    plan = json.loads((world.run / "plan.json").read_text())
    assert plan["size"] == [32, 32]
    assert plan["epochs"] == 6
    assert "auto" not in plan.values()


def test_the_same_seed_gives_the_same_classifier_under_the_next_number(world: World) -> None:
    again = sortal(world.home, "train", "photos", *TINY, "seed=7")
    assert again.code == 0, again.err
    second = world.home / "runs" / "photos-2"
    files = [json.loads((run / "bundle" / "manifest.json").read_text())["files"] for run in (world.run, second)]
    assert files[0]["weights.safetensors"]["sha256"] == files[1]["weights.safetensors"]["sha256"]
    assert (world.run / "predictions.csv").read_bytes() == (second / "predictions.csv").read_bytes()
    assert (world.run / "split.csv").read_bytes() == (second / "split.csv").read_bytes()
    assert "Results: runs/photos-2" in again.out
    assert "Next:    sortal predict runs/photos-2 " in again.out


def test_every_reading_of_the_test_split_is_logged(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run, tmp_path / "run")
    class_folders(tmp_path / "set" / "test", dict.fromkeys(COLORS, 2), seed=9)
    class_folders(tmp_path / "set" / "train", dict.fromkeys(COLORS, 2), seed=10)
    assert sortal(tmp_path, "evaluate", "run", "set").code == 0
    assert sortal(tmp_path, "evaluate", "run", "set", "--split", "train").code == 0
    lines = (tmp_path / "run" / "test_reads.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == [
        "final evaluation of sortal train",
        "sortal evaluate on set",
    ]
    shown = sortal(tmp_path, "show", "run", "--json").report
    assert len(shown["tables"]["readings of the test split"]["rows"]) == 2


def test_evaluating_on_other_images(world: World) -> None:
    done = sortal(world.home, "evaluate", "runs/photos-1", "other")
    assert done.code == 0, done.err
    folder = world.run / "evaluations" / "other-1"
    assert {path.name for path in folder.iterdir()} - {"run.lock"} == {
        "report.html",
        "report.json",
        "confusion_matrix.png",
        "highest_loss.png",
        "confusion_matrix.csv",
        "predictions.csv",
    }
    assert "of 9 images were classified right" in done.out
    assert "Results: runs/photos-1/evaluations/other-1/report.html" in done.out
    assert "Next:    sortal predict runs/photos-1 path/to/images" in done.out
    assert sortal(world.home, "evaluate", "runs/photos-1/bundle", "other").code == 0
    assert (world.run / "evaluations" / "other-2").is_dir()


def test_evaluating_on_images_of_the_training_is_an_error_of_the_data(world: World) -> None:
    copied = world.home / "copied"
    shutil.copytree(world.run / "bundle", copied)
    onnx = "runs/photos-1/bundle/artifacts/onnx"
    for number, model in enumerate(["runs/photos-1", "runs/photos-1/bundle", onnx, f"{onnx}/model.onnx", copied]):
        report = sortal(world.home, "evaluate", model, "photos", "--json", "--out", f"seen-{number}").report
        found = {finding["code"]: finding for finding in report["findings"]}
        assert found["seen_in_training"]["severity"] == "error"
        assert len(found["seen_in_training"]["rows"]) == 36


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_answers_in_every_kind_of_file(world: World, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"answers.{suffix}"
    done = sortal(world.home, "predict", "runs/photos-1", "inbox", "--out", target)
    assert done.code == 0, done.err
    readers = {"csv": pl.read_csv, "jsonl": pl.read_ndjson, "parquet": pl.read_parquet}
    table = pl.read_csv(target, separator="\t") if suffix == "tsv" else readers[suffix](target)
    assert table["image"].to_list() == [
        "blue/000.png",
        "red/000.png",
        "red/001.png",
        "red/nothing.png",
        "red/short.png",
    ]
    assert table["label"].to_list() == ["blue", "red", "red", None, None]
    assert table["error"].to_list()[3].startswith("not_an_image: ")
    chances = table.filter(pl.col("error").is_null()).select(f"p_{name}" for name in COLORS)
    np.testing.assert_allclose(chances.to_numpy().sum(axis=1), 1.0, atol=1e-5)
    assert "red/nothing.png" in done.out
    assert f"Results: {target}" in done.out


def test_unreadable_images_are_listed_and_only_strict_makes_them_a_failure(world: World, tmp_path: Path) -> None:
    done = sortal(world.home, "predict", "runs/photos-1", "inbox", "--out", tmp_path / "a.csv", "--json")
    assert done.code == 0
    unreadable = [finding for finding in done.report["findings"] if finding["code"] == "unreadable"]
    assert sorted(row for finding in unreadable for row in finding["rows"]) == ["red/nothing.png", "red/short.png"]
    strict = sortal(world.home, "predict", "runs/photos-1", "inbox", "--out", tmp_path / "b.csv", "--strict", "--json")
    assert strict.code == 2
    assert strict.report["findings"] == done.report["findings"]
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("more", [(), ("--link",)])
def test_images_sorted_by_answer(world: World, tmp_path: Path, more: tuple[str, ...]) -> None:
    done = sortal(
        world.home,
        "predict",
        "runs/photos-1",
        "inbox",
        "--out",
        tmp_path / "a.csv",
        "--sort-into",
        tmp_path / "s",
        *more,
    )
    assert done.code == 0, done.err
    found = {path.relative_to(tmp_path / "s").as_posix(): path for path in (tmp_path / "s").rglob("*.png")}
    assert set(found) == {
        "blue/000.png",
        "red/000.png",
        "red/001.png",
        "_unreadable/nothing.png",
        "_unreadable/short.png",
    }
    assert all(path.is_symlink() == bool(more) for path in found.values())
    assert found["red/001.png"].read_bytes() == (world.home / "inbox" / "red" / "001.png").read_bytes()


def test_show_says_what_a_run_is(world: World) -> None:
    done = sortal(world.home, "show", "runs/photos-1")
    assert done.code == 0
    for words in ("sortal_tiny", "32x32 px", "accuracy", "final evaluation of sortal train", "Results: runs/photos-1"):
        assert words in done.out
    report = sortal(world.home, "show", "runs/photos-1", "--json").report
    assert report["metrics"]["accuracy"] == world.train.report["metrics"]["accuracy"]
    assert report["metrics"].items() <= world.train.report["metrics"].items()


def test_a_classifier_from_elsewhere_becomes_a_bundle_with_the_same_answers(world: World, tmp_path: Path) -> None:
    shutil.copy(world.run / "bundle" / "artifacts" / "onnx" / "model.onnx", tmp_path / "theirs.onnx")
    spec = json.loads((world.run / "bundle" / "preprocess.json").read_text())
    chosen = {name: spec[name] for name in ("size", "resize", "crop", "interpolation", "mean", "std")}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(chosen))
    (tmp_path / "names.txt").write_text("\n".join(COLORS) + "\n")
    done = sortal(tmp_path, "import", "theirs.onnx", "--labels", "names.txt", "--preprocess", "p.yaml")
    assert done.code == 0, done.err
    assert "Results: runs/theirs-1/bundle" in done.out
    assert "Next:    sortal evaluate runs/theirs-1/bundle" in done.out
    other = world.home / "other"
    for model, out in ((world.run, "ours.csv"), ("runs/theirs-1/bundle", "theirs.csv")):
        assert sortal(tmp_path, "predict", model, other, "--out", out).code == 0
    ours, theirs = (pl.read_csv(tmp_path / out)["image", "label"] for out in ("ours.csv", "theirs.csv"))
    assert ours.equals(theirs)  # probabilities differ: an import is not calibrated


def test_a_failed_import_leaves_no_run(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\n")
    refused(sortal(tmp_path, "import", "nowhere.onnx", "--labels", "names.txt"), "nowhere.onnx")
    assert list((tmp_path / "runs").iterdir()) == []


def test_the_recipe_on_the_shelf_is_found_by_its_name() -> None:
    from sortal.core.recipe import load_recipe
    from sortal.core.shelf import find_recipe

    recipe = load_recipe(find_recipe("small-data"), {"train.time": "10m"})
    assert recipe.train.freeze == "backbone"
    assert recipe.train.time == 600


def test_a_real_process_prints_one_report_and_nothing_else(world: World, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sortal", "predict", "runs/photos-1", "inbox", "--json", "--strict"]
    done = subprocess.run([*command, "--out", tmp_path / "a.csv"], cwd=world.home, capture_output=True, text=True)
    assert done.returncode == 2
    assert json.loads(done.stdout)["kind"] == "prediction"
    shown = subprocess.run([sys.executable, "-m", "sortal", "--help"], capture_output=True, text=True, check=True)
    assert "sortal train photos/" in shown.stdout


@pytest.mark.slow
def test_training_in_a_real_process_prints_one_report_and_nothing_else(world: World, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sortal", "train", str(world.home / "photos"), *TINY, "seed=7", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["metrics"] == world.train.report["metrics"]


def test_a_bundle_without_the_onnx_artifact_opens_what_it_has(world: World, tmp_path: Path) -> None:
    done = sortal(tmp_path, "train", world.home / "photos", *TINY, "train.epochs=1", "export.artifacts=[openvino]")
    assert done.code == 0, done.err
    assert [path.name for path in (tmp_path / "runs" / "photos-1" / "bundle" / "artifacts").iterdir()] == ["openvino"]
    shown = sortal(tmp_path, "predict", "runs/photos-1", world.home / "other", "--json")
    assert json.loads(shown.out)["metrics"]["unreadable"]["value"] == 0
