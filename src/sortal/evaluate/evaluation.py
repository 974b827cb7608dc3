"""From predictions and labels to an evaluation Report, and to the files a person opens.

Accuracy stands with macro F1, balanced accuracy and the weakest class beside it, so that frequent classes cannot hide
rare ones; which numbers lead, `headline` decides and says. Where images come in groups, intervals count groups.
Calibration, certificates and comparisons of two classifiers are told elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.contract import Contract
from sortal.core.errors import DataError
from sortal.core.predictions import Predictions
from sortal.core.report import Cell, Finding, Metric, Report, Table
from sortal.core.sections import EvaluateSection
from sortal.data.statistics import imbalance_ratio
from sortal.evaluate.evaluation_tables import evaluation_tables
from sortal.evaluate.findings import evaluation_findings
from sortal.evaluate.headline import headline
from sortal.evaluate.measure.backoff import back_off_metrics
from sortal.evaluate.measure.measures import (
    Evaluated,
    bucket_metrics,
    class_ends,
    class_metrics,
    coarse_metrics,
    coverage_metrics,
    detection_metrics,
    evaluated_images,
    top_k_metrics,
)
from sortal.evaluate.measure.mixed import contract_metrics, mix_of
from sortal.evaluate.measure.ordinal import as_grades, grade_error_metric, kappa_metric
from sortal.evaluate.measure.prevalence import Mix
from sortal.evaluate.measure.ranking import Ranked, one_vs_rest
from sortal.evaluate.measure.references import NAME as REFERENCES
from sortal.evaluate.measure.references import references_findings, references_table
from sortal.evaluate.summary import evaluation_summary
from sortal.evaluate.task import Task, task_of

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the images are measured by."""

    rules: EvaluateSection
    contract: Contract | None
    task: Task
    mix: Mix | None
    train_counts: Ints | None
    groups: Ints | None


def evaluate_predictions(
    predictions: Predictions,
    labels: Ints,
    *,
    subject: str,
    data_digest: str | None = None,
    rules: EvaluateSection | None = None,
    contract: Contract | None = None,
    groups: Ints | None = None,
    train_counts: Ints | None = None,
    embeddings: NDArray[np.float32] | None = None,
    split: str | None = None,
    model: Mapping[str, Cell] | None = None,
    positive: str | None = None,
) -> Report:
    """The evaluation of N answers against labels (N,), indices into `predictions.labels`, -1 for no known class.

    Metrics are computed over images that have a label and could be read, whether or not the classifier abstained;
    `coverage` is the share of labelled images that it read and answered, `answered_accuracy` the accuracy on those.
    Coarse accuracy is of the answered class's parent; `coarse_accuracy_summed` instead sums probabilities to parents.

    `groups` (N,) are group numbers, negative for an image of its own: where there are fewer groups than images,
    intervals count groups. The contract gives costs and the prevalence that shares are re-weighted to.
    `train_counts` (C,) are training images a class, `embeddings` (N, D) go row by row with the predictions, `model`
    holds facts such as parameters and size_mb. `positive` names the class whose threshold curve is drawn; with two
    classes it is the one that is not good, else the second. Raises DataError when no image can be evaluated or a length
    does not fit, RecipeError for classes in `rules` that are not there.
    """
    _check(predictions, labels, train_counts, embeddings, groups)
    rules = rules or EvaluateSection()
    data = evaluated_images(predictions, labels, rules.confidence, groups)
    asked = _Asked(
        rules=rules,
        contract=contract,
        task=task_of(predictions.labels, rules, positive),
        mix=mix_of(contract, predictions.labels, data.labels),
        train_counts=train_counts,
        groups=groups,
    )
    precision = one_vs_rest(data.sample, data.probabilities, data.labels, measure="average_precision")
    area = one_vs_rest(data.sample, data.probabilities, data.labels, measure="roc_auc")
    metrics = _metrics(predictions, labels, data, asked, precision, area)
    tables = evaluation_tables(
        data,
        rules=rules,
        task=asked.task,
        mix=asked.mix,
        train_counts=train_counts,
        embeddings=None if embeddings is None else embeddings[data.rows],
        precision=precision,
        area=area,
    )
    report = Report(
        kind="evaluation",
        subject=subject,
        data_digest=data_digest,
        metrics=metrics,
        tables=tables | _given_tables(metrics, rules, model),
        findings=_findings(predictions, labels, data, asked, metrics),
        provenance={"bundle": predictions.bundle_id, "labels": predictions.labels.digest, "split": split},
        body=_body(predictions, labels, data, asked, metrics, split),
    )
    return report.model_copy(update={"body": {**report.body, "summary": evaluation_summary(report)}})


def _given_tables(
    metrics: Mapping[str, Metric], rules: EvaluateSection, model: Mapping[str, Cell] | None
) -> dict[str, Table]:
    """Figures of others and facts about the model, where there are any."""
    found = {REFERENCES: references_table(metrics, rules.reference)} if rules.reference else {}
    return found | ({"model": Table(columns=("property", "value"), rows=tuple(model.items()))} if model else {})


def _metrics(
    predictions: Predictions, labels: Ints, data: Evaluated, asked: _Asked, precision: Ranked, area: Ranked
) -> dict[str, Metric]:
    found = {
        **class_metrics(data),
        **top_k_metrics(data, asked.rules.top_k),
        **coarse_metrics(data),
        **bucket_metrics(data, asked.train_counts),
        **coverage_metrics(predictions, labels, asked.rules.confidence, asked.groups),
        "mean_average_precision": _ranked(precision, len(data.rows)),
        "roc_auc": _ranked(area, len(data.rows)),
        **_agreement(data, asked.task),
    }
    if asked.task.detects:
        own, reported = asked.task.defective(data.labels), asked.task.defective(data.index)
        found |= detection_metrics(data, own, reported)
    if data.parents is not None:
        found |= back_off_metrics(data.sample, data.probabilities, data.labels, data.parents, asked.rules.back_off)
    return found | contract_metrics(data, predictions.labels, asked.contract, asked.mix, asked.task, asked.rules.top_k)


def _ranked(found: Ranked, n: int) -> Metric:
    if found.mean is None:
        return Metric(value=None, n=n)
    return Metric(value=found.mean, low=found.interval[0], high=found.interval[1], n=n)


def _agreement(data: Evaluated, task: Task) -> dict[str, Metric]:
    found = {"kappa": kappa_metric(data.sample, data.labels, data.index, len(data.names), quadratic=False)}
    if task.grades is None:
        return found
    true, answered, graded = as_grades(data.labels, data.index, task.grades)
    if graded.any():
        sample = data.sample.part(graded)
        found["quadratic_kappa"] = kappa_metric(
            sample, true[graded], answered[graded], len(task.grades), quadratic=True
        )
        found["grade_mae"] = grade_error_metric(sample, true[graded], answered[graded], len(task.grades))
    return found


def _findings(
    predictions: Predictions, labels: Ints, data: Evaluated, asked: _Asked, metrics: Mapping[str, Metric]
) -> tuple[Finding, ...]:
    rules, counts = asked.rules, asked.train_counts
    found = evaluation_findings(
        predictions,
        labels,
        data.matrix,
        top_k=rules.top_k,
        sample=data.sample,
        recall=class_ends(data.sample, data.labels, data.index, len(data.names))["recall"],
        imbalance=1.0 if counts is None else imbalance_ratio(counts),
        absent_from_mix=() if asked.mix is None else asked.mix.missing,
    )
    return (*found, *references_findings(metrics, rules.reference, ok=asked.task.ok is not None))


def _body(
    predictions: Predictions,
    labels: Ints,
    data: Evaluated,
    asked: _Asked,
    metrics: Mapping[str, Metric],
    split: str | None,
) -> dict[str, object]:
    names, counts, task = predictions.labels.names, asked.train_counts, asked.task
    sizes = data.matrix.sum(axis=1)
    ratio = 1.0 if counts is None else imbalance_ratio(counts)
    led, reason = headline(
        metrics,
        len(names),
        train_ratio=ratio,
        ratio=imbalance_ratio(sizes[sizes > 0]),
        inspection=task.ok is not None,
    )
    return {
        "confidence": asked.rules.confidence,
        "split": split,
        "positive": None if task.positive is None else names[task.positive],
        "ok": None if task.ok is None else names[task.ok],
        "grades": None if task.grades is None else [names[place] for place in task.grades],
        "headline": led,
        "headline_reason": reason,
        "intervals_count": {
            "what": "images" if data.sample.groups is None else "groups",
            "number": data.sample.independent,
        },
        "prevalence": "as in these images" if asked.mix is None else "as stated in the contract",
        "imbalance_ratio": None if counts is None else ratio,
        "counts": _counts(predictions, labels, data),
    }


def _counts(predictions: Predictions, labels: Ints, data: Evaluated) -> dict[str, int]:
    return {
        "images": len(labels),
        "evaluated": len(data.rows),
        "right": int(np.trace(data.matrix)),
        "without_known_label": int((labels < 0).sum()),
        "unreadable": int((predictions.index < 0).sum()),
        "abstained": int(predictions.abstained.sum()),
        "classes": len(data.names),
        "classes_with_images": int((data.matrix.sum(axis=1) > 0).sum()),
    }


def _check(
    predictions: Predictions,
    labels: Ints,
    train_counts: Ints | None,
    embeddings: NDArray[np.float32] | None,
    groups: Ints | None,
) -> None:
    n, classes = len(predictions), len(predictions.labels)
    if len(labels) != n or (len(labels) and labels.max() >= classes):
        raise DataError(f"labels do not fit {n} predictions of {classes} classes", received=f"{len(labels)} labels")
    if train_counts is not None and len(train_counts) != classes:
        raise DataError(f"training counts do not fit {classes} classes", received=str(len(train_counts)))
    if embeddings is not None and len(embeddings) != n:
        raise DataError(f"embeddings do not fit {n} predictions", received=str(len(embeddings)))
    if groups is not None and len(groups) != n:
        raise DataError(f"groups do not fit {n} predictions", received=str(len(groups)))
