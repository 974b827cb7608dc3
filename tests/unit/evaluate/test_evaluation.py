from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk
from tests.unit.evaluate.conftest import Maker

from sortal.core.errors import DataError, MachineError
from sortal.core.report import Finding, Report, Table
from sortal.evaluate.evaluation import evaluate_predictions
from sortal.evaluate.files import write_evaluation
from sortal.evaluate.summary import evaluation_summary

NAMES = ("bolt", "nut", "washer", "gear", "pin", "clip")
PARENTS = ("fastener", "fastener", "fastener", "drive", "drive", "other")


def _column(table: Table, name: str) -> list[object]:
    return [row[table.columns.index(name)] for row in table.rows]


def _codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


def test_headline_agrees_with_scikit_learn(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES)
    report = evaluate_predictions(predictions, labels, subject="parts")
    answered = predictions.index
    values = {name: metric.value for name, metric in report.metrics.items()}
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(labels, answered))
    assert values["macro_f1"] == pytest.approx(sk.f1_score(labels, answered, average="macro"))
    assert values["weighted_precision"] == pytest.approx(sk.precision_score(labels, answered, average="weighted"))
    assert values["worst_class_recall"] == pytest.approx(sk.recall_score(labels, answered, average=None).min())
    assert values["top_5_error"] == pytest.approx(1 - sk.top_k_accuracy_score(labels, predictions.probabilities, k=5))
    for metric in report.metrics.values():
        assert metric.low <= metric.value <= metric.high


def test_report_survives_json(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES, parents=PARENTS)
    report = evaluate_predictions(
        predictions,
        labels,
        subject="parts",
        data_digest="d" * 64,
        train_counts=np.array([200, 60, 40, 10, 5, 0]),
        embeddings=predictions.probabilities,
        split="test",
        model={"parameters": 1234, "size_mb": 4.5},
    )
    assert Report.from_json(report.to_json()) == report
    assert report.tables["model"].rows == (("parameters", 1234), ("size_mb", 4.5))


def test_unreadable_and_unknown_images_are_listed_and_left_out(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES, errors={3: ("truncated", "the data ends early")})
    labels[[0, 7]] = -1
    report = evaluate_predictions(predictions, labels, subject="parts")
    assert report.metrics["accuracy"].n == 117
    assert report.metrics["coverage"].value == pytest.approx(117 / 118)
    found = {finding.code: finding for finding in report.findings}
    assert found["unreadable"].rows == ("images/00003.jpg",)
    assert "truncated" in found["unreadable"].message
    assert found["unknown_label"].rows == ("images/00000.jpg", "images/00007.jpg")
    assert report.body["counts"]["evaluated"] == 117


def test_abstained_images_count_in_accuracy_but_not_in_coverage(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES, threshold=0.7)
    report = evaluate_predictions(predictions, labels, subject="parts")
    kept = ~predictions.abstained
    assert 0 < kept.sum() < len(kept)
    assert report.metrics["accuracy"].n == 120
    assert report.metrics["coverage"].value == pytest.approx(kept.mean())
    assert report.metrics["answered_accuracy"].value == pytest.approx((predictions.index == labels)[kept].mean())


def test_coarse_accuracy_is_of_the_answers_parent(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES, parents=PARENTS, sharpness=1.0)
    parents = np.array([0, 0, 0, 1, 1, 2])
    report = evaluate_predictions(predictions, labels, subject="parts")
    mapped = (parents[predictions.index] == parents[labels]).mean()
    sums = np.stack([predictions.probabilities[:, parents == parent].sum(axis=1) for parent in range(3)], axis=1)
    assert report.metrics["coarse_accuracy"].value == pytest.approx(mapped)
    assert report.metrics["coarse_accuracy_summed"].value == pytest.approx((sums.argmax(1) == parents[labels]).mean())
    assert _column(report.tables["per_coarse_class"], "class") == ["fastener", "drive", "other"]


def test_training_sizes_make_buckets_and_rare_is_below_50(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES)
    counts = np.array([500, 101, 100, 50, 49, 19])
    report = evaluate_predictions(predictions, labels, subject="parts", train_counts=counts)
    table = report.tables["training_size"]
    assert dict(zip(_column(table, "bucket"), _column(table, "classes"), strict=True)) == {
        "head": 2,
        "mid": 3,
        "tail": 1,
        "rare": 2,
    }
    rare = labels >= 4
    assert report.metrics["rare_accuracy"].value == pytest.approx((predictions.index == labels)[rare].mean())
    assert _column(report.tables["per_class"], "training_images") == counts.tolist()


def test_few_missing_and_never_answered_classes_are_found(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES)
    labels[labels == 5] = 4
    predictions.index[predictions.index == 0] = 1
    report = evaluate_predictions(predictions, labels, subject="parts")
    found = {finding.code: finding.rows for finding in report.findings}
    assert found["class_without_images"] == ("clip",)
    assert found["never_answered"] == ("bolt",)
    assert set(found["few_images"]) == {"bolt", "nut", "washer", "gear"}
    rows = {row[0]: row for row in report.tables["per_class"].rows}
    recall = report.tables["per_class"].columns.index("recall")
    assert rows["clip"][recall] is None
    assert rows["bolt"][recall] == 0.0


def test_two_classes_get_a_threshold_curve_and_safe_top_k(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(("ok", "defect"), sharpness=1.5)
    report = evaluate_predictions(predictions, labels, subject="parts")
    assert report.metrics["top_5"].value == 1.0
    assert "trivial_top_k" in _codes(report)
    assert "top_5" not in report.body["headline"]
    assert report.body["positive"] == "defect"
    defect = labels == 1
    assert report.metrics["miss_rate"].value == pytest.approx((predictions.index[defect] == 0).mean())
    assert report.metrics["false_detection_rate"].value == pytest.approx((predictions.index[~defect] == 1).mean())
    curve = {row[0]: row for row in report.tables["threshold_curve"].rows}
    missed, false = curve[0.3][1:3]
    score = predictions.probabilities[:, 1]
    assert (missed, false) == ((score[defect] < 0.3).sum(), (score[~defect] >= 0.3).sum())
    assert curve[0.0][1:3] == (0, (~defect).sum())


def test_a_named_class_gets_the_curve_and_an_unknown_one_is_refused(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES)
    assert evaluate_predictions(predictions, labels, subject="s", positive="gear").body["positive"] == "gear"
    with pytest.raises(DataError, match="unknown class"):
        evaluate_predictions(predictions, labels, subject="s", positive="geer")


def test_nothing_to_evaluate_is_an_error(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES)
    with pytest.raises(DataError, match="no image to evaluate"):
        evaluate_predictions(predictions, np.full_like(labels, -1), subject="parts")
    with pytest.raises(DataError, match="do not fit"):
        evaluate_predictions(predictions, labels[:5], subject="parts")


def test_files_of_an_evaluation(make_predictions: Maker, tmp_path: Path) -> None:
    predictions, labels = make_predictions(NAMES, errors={5: ("corrupt", "broken")})
    labels[2] = -1
    true_names = [NAMES[label] if label >= 0 else "cog" for label in labels]
    report = evaluate_predictions(predictions, labels, subject="parts")
    written = write_evaluation(report, predictions, labels, predictions.names, tmp_path / "new", true_names=true_names)
    assert Report.from_json((tmp_path / "new/report.json").read_text()) == written
    assert all(Path(path).is_file() for path in written.paths.values())
    with Path(written.paths["predictions"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    assert [column for column in rows[0] if column.startswith("p_")] == [f"p_{name}" for name in NAMES]
    assert (rows[2]["label"], rows[2]["correct"]) == ("cog", "")
    assert (rows[5]["answer"], rows[5]["correct"], rows[5]["error"]) == ("", "", "corrupt: broken")
    assert {row["correct"] for row in rows} == {"true", "false", ""}
    with Path(written.paths["confusion_matrix_table"]).open(encoding="utf-8", newline="") as file:
        matrix = list(csv.reader(file))
    sizes = np.bincount(labels[(labels >= 0) & (predictions.index >= 0)], minlength=6)
    assert [sum(map(int, row[1:])) for row in matrix[1:]] == sizes.tolist()
    json.loads((tmp_path / "new/report.json").read_text())


def test_a_folder_that_cannot_be_made_is_a_machine_error(make_predictions: Maker, tmp_path: Path) -> None:
    predictions, labels = make_predictions(NAMES)
    (tmp_path / "file").write_text("in the way")
    report = evaluate_predictions(predictions, labels, subject="parts")
    with pytest.raises(MachineError):
        write_evaluation(report, predictions, labels, predictions.names, tmp_path / "file/out")


def test_many_classes_keep_the_matrix_out_of_the_report(make_predictions: Maker) -> None:
    predictions, labels = make_predictions([f"c{number}" for number in range(60)], n=600)
    report = evaluate_predictions(predictions, labels, subject="parts", embeddings=predictions.probabilities)
    assert "confusion" not in report.tables
    assert len(report.tables["per_class"].rows) == 60
    assert all(name is not None for name in _column(report.tables["per_class"], "nearest_class"))


def test_numbers_that_flatter_promise_nothing(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES)
    report = evaluate_predictions(predictions, labels, subject="photos")
    assert any("expect" in sentence for sentence in evaluation_summary(report))
    seen = Finding(code="seen_in_training", severity="error", message="4 of 4 images were used to fit this model.")
    flattered = report.model_copy(update={"findings": (*report.findings, seen)})
    sentences = evaluation_summary(flattered)
    assert sentences[0] == seen.message
    assert not any("expect" in sentence for sentence in sentences)
