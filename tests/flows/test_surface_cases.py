"""Scratches on sheet metal from drawn images to the report, and what attention is worth on a pair easily confused."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from worlds import NO_TRACEBACK, sortal

TINY = (
    "model=test_resnet.r160_in1k",
    "model.weights=null",
    "input.size=48",
    "train.epochs=1",
    "train.batch=16",
    "train.workers=0",
    "train.precision=fp32",
    "train.layout=contiguous",
    "train.compile=false",
)
"""A residual network of half a million parameters, one epoch."""

pytestmark = pytest.mark.slow


def test_scratch_grades_go_from_drawn_images_to_a_report(tmp_path: Path) -> None:
    drawn = sortal(
        tmp_path, "synth", "scratches", "--task", "scratches", "--images", 64, "--size", 48, "--classes", 3, "--json"
    )
    assert drawn.code == 0, drawn.err
    assert drawn.report["metrics"]["classes"]["value"] == 4
    done = sortal(tmp_path, "train", "scratches", "--recipe", "scratch-grades", *TINY, "--json")
    assert done.code == 0, done.err
    assert NO_TRACEBACK not in done.err
    grades = [row[0] for row in done.report["tables"]["per_class"]["rows"]]
    assert sorted(grades) == ["light", "medium", "ok", "severe"]
    run = tmp_path / "runs" / "scratches-1"
    assert (run / "report.html").is_file()
    with (run / "confusion_matrix.csv").open(encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 5
    recipe = (run / "recipe.yaml").read_text(encoding="utf-8")
    assert "cutmix: 1.0" in recipe
    assert "name: focal" in recipe


def test_a_sweep_reports_with_and_without_attention(tmp_path: Path) -> None:
    sizes = ("--images", 48, "--size", 48, "--classes", 2)
    assert sortal(tmp_path, "synth", "pair", "--task", "scratch-dent", *sizes).code == 0
    vary = ("--vary", "model.attention=null,cbam")
    done = sortal(tmp_path, "sweep", "pair", "--recipe", "confusable-cbam", *vary, *TINY, "--json")
    assert done.code == 0, done.err
    columns, rows = (done.report["tables"]["settings"][part] for part in ("columns", "rows"))
    parameters = {row[0]: row[columns.index("parameters")] for row in rows}
    assert set(parameters) == {"model.attention=null", "model.attention=cbam"}
    assert parameters["model.attention=cbam"] > parameters["model.attention=null"]
    assert (tmp_path / "runs" / "pair-sweep" / "sweep.png").is_file()
