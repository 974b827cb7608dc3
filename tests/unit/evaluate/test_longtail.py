"""What a report says and draws where training classes were unequal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.core.predictions import Predictions
from sortal.data.statistics import imbalance_ratio
from sortal.evaluate.drawing.longtail import class_results, draw_long_tail
from sortal.evaluate.evaluation import evaluate_predictions
from sortal.evaluate.files import write_evaluation

Maker = Callable[..., tuple[Predictions, np.ndarray]]
NAMES = ("划痕", "夹杂", "氧化铁皮", "red iron sheet", "边裂", "气泡")
UNEVEN = np.array([600, 200, 90, 40, 15, 12])


def test_very_unequal_classes_put_the_averages_over_classes_first(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES, 120, sharpness=1.5)
    report = evaluate_predictions(predictions, labels, subject="steel", train_counts=UNEVEN)
    assert report.body["headline"][:4] == ["macro_f1", "balanced_accuracy", "accuracy", "worst_class_recall"]
    assert {"head_accuracy", "mid_accuracy", "tail_accuracy"} <= set(report.body["headline"])
    assert report.body["imbalance_ratio"] == 50.0
    assert "50 times the training images" in report.body["summary"][0]
    assert "macro F1" in report.body["summary"][0]
    finding = next(found for found in report.findings if found.code == "imbalance")
    assert "loss.imbalance=auto" in str(finding.hint)
    for name in ("head", "mid", "tail"):
        metric = report.metrics[f"{name}_accuracy"]
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low <= (metric.value or 0.0) <= metric.high


def test_equal_or_unknown_classes_lead_with_accuracy(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES, 120)
    for counts in (None, np.full(6, 50), np.array([90, 80, 50, 40, 30, 10])):
        report = evaluate_predictions(predictions, labels, subject="steel", train_counts=counts)
        assert report.body["headline"][:4] == ["accuracy", "macro_f1", "balanced_accuracy", "worst_class_recall"]
        assert "imbalance" not in {found.code for found in report.findings}


def test_the_page_has_the_curve_only_where_classes_are_unequal(make_predictions: Maker, tmp_path: Path) -> None:
    predictions, labels = make_predictions(NAMES, 60)
    for folder, counts in (("uneven", UNEVEN), ("even", np.full(6, 50))):
        report = evaluate_predictions(predictions, labels, subject="steel", train_counts=counts)
        report = write_evaluation(report, predictions, labels, [str(row) for row in range(60)], tmp_path / folder)
        drawn = folder == "uneven"
        assert (tmp_path / folder / "class_counts.png").is_file() == drawn
        assert ("class_counts" in report.paths) == drawn
        page = (tmp_path / folder / "report.html").read_text(encoding="utf-8")
        assert ("Training images and recall by class" in page) == drawn


@pytest.mark.parametrize("classes", [2, 6, 80])
def test_bars_of_head_mid_and_tail_are_drawn_for_any_number_of_classes(
    make_predictions: Maker, tmp_path: Path, classes: int
) -> None:
    predictions, labels = make_predictions([f"类{number}" for number in range(classes)], 4 * classes)
    counts = np.maximum(2, (300 * 0.02 ** (np.arange(classes) / (classes - 1))).astype(np.int64))
    labels[labels == classes - 1] = -1
    report = evaluate_predictions(predictions, labels, subject="tail", train_counts=counts)
    results = class_results(report.tables["per_class"])
    assert results is not None
    assert np.isnan(results.recall[-1])
    assert (results.train_counts == counts).all()
    drawn = draw_long_tail(results, tmp_path / "tail.png")
    pixels = np.asarray(Image.open(drawn.path).convert("RGB"), np.int64)
    for color in ((11, 93, 173), (188, 76, 0)):
        close = np.abs(pixels - color).max(axis=2) < 3
        assert close.sum() > 500, "head and tail have their bars"


def test_the_ratio_counts_classes_that_have_images() -> None:
    assert imbalance_ratio(np.array([0, 5, 20])) == 4.0
    assert imbalance_ratio(np.array([0, 0])) == 1.0
