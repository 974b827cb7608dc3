"""Sweeps: which combinations are run, which setting is the knee, what the table says about gap and spread."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sortal.core.errors import RecipeError
from sortal.core.report import Report
from sortal.data.open import images
from sortal.evaluate.drawing.sweep_plot import draw_sweep
from sortal.sweep import combinations
from sortal.sweep_report import Entry, knee_of, report_of

ENTRY = Entry(
    setting="a",
    seed=0,
    run="runs/run-1",
    accuracy=0.9,
    macro_f1=0.85,
    tail_recall=None,
    train_accuracy=0.95,
    train_s=10.0,
    latency_1_ms=5.0,
    latency_32_ms=64.0,
    parameters=1000,
    macs=2000,
    size_mb=0.1,
)


def test_combinations() -> None:
    assert combinations(["a=1,2", "b=x"]) == [{"a": "1", "b": "x"}, {"a": "2", "b": "x"}]
    assert combinations(["input.size=[64, 96],128"]) == [{"input.size": "[64, 96]"}, {"input.size": "128"}]
    assert combinations(["model.arguments={width: 0.5, depth: 1}"]) == [{"model.arguments": "{width: 0.5, depth: 1}"}]


@pytest.mark.parametrize("varied", [[], ["augment"], ["=1,2"], ["a=1,,2"], ["a="]])
def test_what_is_no_combination(varied: list[str]) -> None:
    with pytest.raises(RecipeError):
        combinations(varied)


def test_the_knee_is_the_quickest_that_is_as_good() -> None:
    def one(setting: str, accuracy: float, latency_ms: float) -> list[Entry]:
        return [replace(ENTRY, setting=setting, accuracy=accuracy, latency_1_ms=latency_ms)]

    grouped = {"224": one("224", 0.95, 30), "160": one("160", 0.946, 15), "128": one("128", 0.93, 9)}
    assert knee_of(grouped, "accuracy") == "160", "within half a point of the best"
    assert knee_of(grouped | {"96": one("96", 0.9451, 5)}, "accuracy") == "96"
    assert knee_of({"x": one("x", 0.9, 5), "y": one("y", 0.902, 5.3)}, "accuracy") == "y", "as quick: the better"


def test_seeds_that_differ_widen_what_counts_as_good() -> None:
    best = [replace(ENTRY, setting="slow", accuracy=a, latency_1_ms=30.0, seed=s) for s, a in enumerate((0.90, 0.96))]
    other = [replace(ENTRY, setting="quick", accuracy=0.91, latency_1_ms=10.0)]
    assert knee_of({"slow": best, "quick": other}, "accuracy") == "quick", "one standard error is 3 points here"


def entries() -> list[Entry]:
    return [
        replace(ENTRY, setting="augment=none", seed=0, accuracy=0.90, train_accuracy=1.0, latency_1_ms=4.0),
        replace(ENTRY, setting="augment=none", seed=1, accuracy=0.92, train_accuracy=1.0, latency_1_ms=4.0),
        replace(ENTRY, setting="augment=basic", seed=0, accuracy=0.95, train_accuracy=0.97, tail_recall=0.5),
        replace(ENTRY, setting="augment=basic", seed=1, accuracy=0.95, train_accuracy=0.97, tail_recall=0.7),
    ]


@pytest.fixture
def report(tmp_path: Path) -> Report:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    (tmp_path / "list.csv").write_text("path,label\na.png,x\nb.png,y\n")
    return report_of(images(tmp_path / "list.csv"), entries(), "accuracy", tmp_path)


def test_the_table_is_ranked_and_shows_gap_and_spread(report: Report) -> None:
    table = report.tables["settings"]
    first, second = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (first["setting"], second["setting"]) == ("augment=basic", "augment=none")
    assert (second["accuracy"], second["spread"], second["train - validation gap"]) == (0.91, 0.02, 0.09)
    assert (first["train - validation gap"], first["tail recall"], second["tail recall"]) == (0.02, 0.6, None)
    assert first["images/s b32"] == 500.0
    assert report.provenance["knee"] == "augment=basic"
    assert len(report.tables["runs"].rows) == 4


def test_the_picture_is_drawn(report: Report, tmp_path: Path) -> None:
    assert draw_sweep(report, tmp_path / "sweep.png").read_bytes()[:4] == b"\x89PNG"
