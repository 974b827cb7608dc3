"""`sortal targets` and `sortal export --to auto`, `--for`."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from worlds import World, refused, sortal


def test_targets_are_listed(tmp_path: Path) -> None:
    done = sortal(tmp_path, "targets")
    assert done.code == 0, done.err
    assert "tensorrt-engine" in done.out
    assert "sortal export runs/photos-1 --to auto" in done.out
    report = sortal(tmp_path, "targets", "--json").report
    assert [row[0] for row in report["tables"]["scenarios"]["rows"]][:2] == ["auto", "any"]


def test_export_for_a_kind_of_machine(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run, tmp_path / "photos-1")
    done = sortal(tmp_path, "export", "photos-1", "--for", "browser", "--count", "6")
    assert done.code == 0, done.err
    assert "browser: onnx-uint8, because" in done.err
    assert (tmp_path / "photos-1" / "bundle" / "artifacts" / "onnx-uint8" / "model.onnx").is_file()
    again = sortal(tmp_path, "export", "photos-1", "--for", "any,browser")
    assert again.code == 0, again.err
    assert "any: onnx, because" in again.err
    assert again.err.count("it is there already") == 2
    refused(sortal(tmp_path, "export", "photos-1", "--for", "browsr"), "did you mean browser")
    refused(sortal(tmp_path, "export", "photos-1"), "no artifact is named")


def test_recorded_graphs_are_an_engine_that_can_be_named(world: World, tmp_path: Path) -> None:
    """Without CUDA its calls are eager, and answers are the run's."""
    shutil.copytree(world.run, tmp_path / "photos-1")
    answers = []
    for number, engine in enumerate(("onnxruntime", "cuda-graph")):
        done = sortal(
            tmp_path, "predict", "photos-1", world.home / "other", "--engine", engine, "--out", f"{number}.csv"
        )
        assert done.code == 0, done.err
        with (tmp_path / f"{number}.csv").open(newline="") as file:
            answers.append([row["label"] for row in csv.DictReader(file)])
    assert answers[0] == answers[1]
    assert len(answers[0]) > 3
