"""What the classes are to each other, which numbers lead and why, and figures of others beside the measured ones."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from tests.unit.evaluate.conftest import Maker

from sortal.core.contract import Contract
from sortal.core.errors import DataError, RecipeError
from sortal.core.labels import LabelSet
from sortal.core.report import Metric, Report
from sortal.core.sections import EvaluateSection
from sortal.evaluate.evaluation import evaluate_predictions
from sortal.evaluate.measure.references import references_table, verdict
from sortal.evaluate.task import task_of

GRADES = ("ok", "light", "medium", "severe")


def _codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


def test_good_parts_are_known_by_name_or_named() -> None:
    task = task_of(LabelSet(names=("dent", "OK", "scratch")), EvaluateSection())
    assert (task.ok, task.positive) == (1, None)
    assert task.defective(np.array([0, 1, 2])).tolist() == [True, False, True]
    assert task.score(np.array([[0.2, 0.5, 0.3]], np.float32)) == pytest.approx([0.5])
    assert task_of(LabelSet(names=("合格", "划痕", "凹坑")), EvaluateSection()).ok == 0
    assert task_of(LabelSet(names=("a", "ok")), EvaluateSection()).positive == 0, (
        "not the good one, though it is second"
    )
    assert task_of(LabelSet(names=("a", "ok")), EvaluateSection(ok=None)).positive == 1
    assert task_of(LabelSet(names=("ok", "good", "bad")), EvaluateSection()).ok is None, "two may be meant"
    assert task_of(LabelSet(names=("fine", "bad", "odd")), EvaluateSection(ok="fine")).ok == 0
    with pytest.raises(RecipeError, match=r"evaluate\.ok"):
        task_of(LabelSet(names=("a", "b")), EvaluateSection(ok="oak"))


def test_without_good_parts_there_is_no_false_detection_rate(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(GRADES[1:])
    rules = EvaluateSection(reference={"false_detection_rate": 0.012})
    report = evaluate_predictions(predictions, labels, subject="scratches", rules=rules)
    assert "false_detection_rate" not in report.metrics
    assert report.tables["references"].rows[0][-1] == "not measured"
    [found] = [finding for finding in report.findings if finding.code == "reference_without_metric"]
    assert "evaluate.ok" in str(found.hint)


def test_false_detections_are_good_parts_reported_as_defective(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(GRADES, n=200, sharpness=1.0)
    report = evaluate_predictions(predictions, labels, subject="scratches")
    good, called = labels == 0, predictions.index == 0
    assert report.metrics["false_detection_rate"].value == pytest.approx((~called)[good].mean())
    assert report.metrics["miss_rate"].value == pytest.approx(called[~good].mean())
    assert report.body["headline"][:2] == ["miss_rate", "false_detection_rate"]
    assert "class of good parts" in report.body["headline_reason"]
    curve = {row[0]: row for row in report.tables["threshold_curve"].rows}
    defect = 1 - predictions.probabilities[:, 0]
    assert curve[0.5][2] == (defect[good] >= 0.5).sum()
    columns = report.tables["per_class"].columns
    assert {"miss_rate", "miss_rate_low", "false_detection_rate", "false_detection_rate_high"} <= set(columns)


def test_grades_have_quadratic_kappa(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(GRADES, sharpness=1.0)
    report = evaluate_predictions(predictions, labels, subject="s", rules=EvaluateSection(ordered=True, ok=None))
    expected = cohen_kappa_score(labels, predictions.index, weights="quadratic")
    assert report.metrics["quadratic_kappa"].value == pytest.approx(expected)
    assert report.metrics["grade_mae"].value == pytest.approx(np.abs(labels - predictions.index).mean())
    assert report.body["headline"][:2] == ["quadratic_kappa", "grade_mae"]
    part = EvaluateSection(ordered=("light", "medium", "severe"))
    report = evaluate_predictions(predictions, labels, subject="s", rules=part)
    graded = (labels > 0) & (predictions.index > 0)
    assert report.metrics["quadratic_kappa"].n == graded.sum()
    for wrong in (("light", "heavy"), ("light", "light")):
        with pytest.raises(RecipeError, match=r"evaluate\.ordered"):
            evaluate_predictions(predictions, labels, subject="s", rules=EvaluateSection(ordered=wrong))


def test_ranking_never_leads(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(("a", "b", "c"))
    report = evaluate_predictions(predictions, labels, subject="s")
    assert {"mean_average_precision", "roc_auc"} <= set(report.metrics)
    assert not {"mean_average_precision", "roc_auc"} & set(report.body["headline"])
    averages = report.tables["averages"]
    macro = dict(zip(averages.columns, averages.rows[1], strict=True))
    assert macro["average_precision"] == report.metrics["mean_average_precision"].value
    assert report.body["headline_reason"] == (
        "The numbers that lead: accuracy, since the classes have similar numbers of images."
    )


def test_uneven_test_images_put_averages_over_classes_first(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(("a", "b"), n=400)
    keep = (labels == 0) | (np.arange(400) < 20)
    labels[~keep] = -1
    report = evaluate_predictions(predictions, labels, subject="s", rules=EvaluateSection(ok=None))
    assert report.body["headline"][0] == "macro_f1"
    assert "20 times" in report.body["headline_reason"]


def test_groups_widen_and_are_said(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(("a", "b", "c"), n=240, sharpness=1.0)
    alone = evaluate_predictions(predictions, labels, subject="s")
    numbers = np.arange(240) // 20
    groups = evaluate_predictions(predictions, labels, subject="s", groups=numbers)
    assert groups.body["intervals_count"] == {"what": "groups", "number": 12}
    assert alone.body["intervals_count"] == {"what": "images", "number": 240}
    assert "intervals_by_group" in _codes(groups) - _codes(alone)
    assert any("counting 12 groups" in sentence for sentence in groups.body["summary"])
    for name, metric in alone.metrics.items():
        assert groups.metrics[name].value == metric.value
    each = evaluate_predictions(predictions, labels, subject="s", groups=np.arange(240))
    assert each.metrics == alone.metrics
    with pytest.raises(DataError, match="groups do not fit"):
        evaluate_predictions(predictions, labels, subject="s", groups=numbers[:5])


def test_a_contract_brings_costs_and_a_prevalence(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(("crack", "ok"), sharpness=1.0)
    contract = Contract(costs={"crack": {"ok": 50}, "ok": {"crack": 1}}, prevalence={"crack": 0.01})
    report = evaluate_predictions(predictions, labels, subject="s", contract=contract)
    missed = (labels == 0) & (predictions.index == 1)
    false = (labels == 1) & (predictions.index == 0)
    assert report.metrics["mean_cost"].value == pytest.approx((50 * missed + false).mean())
    rates = [(predictions.index == labels)[labels == name].mean() for name in (0, 1)]
    assert report.metrics["accuracy_at_prevalence"].value == pytest.approx(0.01 * rates[0] + 0.99 * rates[1])
    assert report.body["headline"][:3] == ["mean_cost_at_prevalence", "mean_cost", "accuracy_at_prevalence"]
    assert report.body["prevalence"] == "as stated in the contract"
    assert any("At the stated prevalence" in sentence for sentence in report.body["summary"])
    assert evaluate_predictions(predictions, labels, subject="s").body["prevalence"] == "as in these images"


def test_figures_of_others_stand_beside_the_measured_ones() -> None:
    metrics = {
        "accuracy": Metric(value=0.9, low=0.85, high=0.94, n=200),
        "false_detection_rate": Metric(value=0.05, low=0.02, high=0.09, n=100),
    }
    stated = {"accuracy": {"human": 0.78, "paper": 0.92}, "false_detection_rate": 0.012, "top_9": 0.5}
    rows = [(row[1], row[2], row[-1]) for row in references_table(metrics, stated).rows]
    assert rows == [
        ("human", 0.78, "above, better"),
        ("paper", 0.92, "not distinguishable"),
        ("reference", 0.012, "above, worse"),
        ("reference", 0.5, "not measured"),
    ]
    assert verdict("macro_f1", Metric(value=0.5, low=0.4, high=0.6), 0.9) == "below, worse"
    assert verdict("mean_cost", Metric(value=0.5, low=0.4, high=0.6), 0.9) == "below, better"


def test_the_accuracy_beside_a_figure_is_in_the_summary(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(("a", "b", "c"))
    rules = EvaluateSection(reference={"accuracy": {"human": 0.5}})
    report = evaluate_predictions(predictions, labels, subject="s", rules=rules)
    assert "Accuracy beside what others state: human 50.0% (measured: above, better)." in report.body["summary"]


def test_families_say_how_often_the_very_class_is_right(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(("a", "b", "c"), parents=("f", "f", "g"), sharpness=1.0)
    report = evaluate_predictions(predictions, labels, subject="s")
    table = report.tables["per_coarse_class"]
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["class"] == "f"
    assert row["classes"] == 2
    assert row["fine_accuracy"] == pytest.approx((predictions.index == labels)[labels < 2].mean())
    assert row["fine_accuracy_low"] < row["fine_accuracy"] < row["fine_accuracy_high"]
    assert {"back_off_fine", "back_off_coarse", "back_off_person", "back_off_error"} <= set(report.metrics)
    assert "back_off" in report.tables


def test_every_confused_pair_has_something_to_do(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(("a", "b", "c"), parents=("f", "f", "g"), n=300, sharpness=0.3)
    report = evaluate_predictions(predictions, labels, subject="s", train_counts=np.array([500, 500, 20]))
    suggestions = {(row[0], row[1]): str(row[-1]) for row in report.tables["confused_pairs"].rows}
    assert "family" in suggestions["a", "b"]
    assert "add images of “c”: it had 20 in training" in suggestions.values()
    assert all(suggestions.values())
