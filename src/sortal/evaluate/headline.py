"""Which numbers lead the report, and why: by how even the classes are and by what the classes are to each other."""

from __future__ import annotations

from collections.abc import Mapping

from sortal.core.report import Metric
from sortal.data.statistics import UNEVEN_RATIO

_ALWAYS = (
    "accuracy",
    "macro_f1",
    "balanced_accuracy",
    "worst_class_recall",
    "coarse_accuracy",
    "top_3",
    "top_5",
    "miss_rate",
    "false_detection_rate",
    "rare_accuracy",
    "answered_accuracy",
    "coverage",
)
_UNEVEN = (
    "macro_f1",
    "balanced_accuracy",
    "accuracy",
    "worst_class_recall",
    "head_accuracy",
    "mid_accuracy",
    "tail_accuracy",
)
_COSTS = ("mean_cost_at_prevalence", "mean_cost")
_MIX = ("accuracy_at_prevalence",)
_DETECTION = ("miss_rate", "false_detection_rate")
_GRADES = ("quadratic_kappa", "grade_mae")


def headline(
    metrics: Mapping[str, Metric], classes: int, *, train_ratio: float, ratio: float, inspection: bool
) -> tuple[list[str], str]:
    """Names of the numbers to show first, and a sentence on why these.

    `train_ratio` and `ratio` are how many times the images of the smallest class the largest has in training and here;
    `inspection` says that there is a class of good parts. Costs lead, then a stated prevalence, then misses and false
    detections, then grades, then the averages over classes where these are uneven. Never mean average precision: with
    one label an image it is not what a user gets.
    """
    chosen, reasons = _chosen(metrics, train_ratio, ratio, inspection=inspection)
    dull = {f"top_{k}" for k in range(classes, 6)} | ({"coverage"} if metrics["coverage"].value == 1.0 else set())
    names = [name for name in dict.fromkeys((*chosen, *_ALWAYS)) if name in metrics and name not in dull]
    return names, f"The numbers that lead: {'; '.join(reasons)}."


def _chosen(
    metrics: Mapping[str, Metric], train_ratio: float, ratio: float, *, inspection: bool
) -> tuple[list[str], list[str]]:
    first: list[str] = []
    reasons: list[str] = []
    if "mean_cost" in metrics:
        first += _COSTS
        reasons.append("the mean cost, since the contract says what mistakes cost")
    if "accuracy_at_prevalence" in metrics:
        first += _MIX
        reasons.append("accuracy at the stated prevalence, since production mixes classes differently")
    if inspection:
        first += _DETECTION
        reasons.append("miss rate and false-detection rate, since there is a class of good parts")
    if "quadratic_kappa" in metrics:
        first += _GRADES
        reasons.append("quadratic-weighted kappa and the mean grade error, since the classes are grades")
    if max(train_ratio, ratio) >= UNEVEN_RATIO:
        first += _UNEVEN
        where = "in training" if train_ratio >= UNEVEN_RATIO else "here"
        most = train_ratio if train_ratio >= UNEVEN_RATIO else ratio
        times = f"{most:,.0f} times the images of the smallest {where}"
        reasons.append(f"macro F1 and balanced accuracy before accuracy, since the largest class has {times}")
    if not reasons:
        reasons.append("accuracy, since the classes have similar numbers of images" + _also(metrics))
    return first, reasons


def _also(metrics: Mapping[str, Metric]) -> str:
    return "; one level up beside it, since the classes have families" if "coarse_accuracy" in metrics else ""
