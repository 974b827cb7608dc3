"""What to know before believing an evaluation: too few images, unread or unlabelled ones, classes never answered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sortal.core.predictions import Predictions
from sortal.core.report import Finding
from sortal.data.statistics import UNEVEN_RATIO
from sortal.evaluate.measure.grouped import Floats, Sample
from sortal.evaluate.measure.metrics import class_counts

Ints = NDArray[np.int64]

FEW_IMAGES = 30
_ROWS_KEPT = 1000


def evaluation_findings(
    predictions: Predictions,
    labels: Ints,
    matrix: Ints,
    *,
    top_k: Sequence[int],
    sample: Sample,
    recall: tuple[Floats, Floats],
    imbalance: float = 1.0,
    absent_from_mix: Sequence[str] = (),
) -> tuple[Finding, ...]:
    """All findings of one evaluation, most severe first. In findings about classes, `rows` holds class names.

    `recall` are the low and high ends (C,) of each class's recall, `imbalance` is how many times the training images of
    the smallest class the largest had, `absent_from_mix` the classes that were given a prevalence and have no image.
    """
    names = predictions.labels.names
    found = [
        _unreadable(predictions),
        _without_label(predictions, labels),
        _missing(names, matrix),
        _never_answered(names, matrix),
        _few(names, matrix, recall),
        _trivial(len(names), top_k),
        _imbalance(imbalance),
        _grouped(sample),
        _absent(absent_from_mix),
    ]
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted((finding for finding in found if finding), key=lambda finding: order[finding.severity]))


def _unreadable(predictions: Predictions) -> Finding | None:
    rows = np.flatnonzero(predictions.index < 0)
    if not len(rows):
        return None
    codes = sorted({predictions.errors[row][0] for row in rows.tolist() if row in predictions.errors})
    return Finding(
        code="unreadable",
        severity="warning",
        message=f"{_count(len(rows), 'image')} could not be read ({', '.join(codes) or 'no reason given'}). "
        "They are in no metric except coverage, where they count as not answered.",
        rows=tuple(predictions.names[row] for row in rows[:_ROWS_KEPT]),
        hint="repair or remove them; predictions.csv says what is wrong with each",
    )


def _without_label(predictions: Predictions, labels: Ints) -> Finding | None:
    rows = np.flatnonzero(labels < 0)
    if not len(rows):
        return None
    return Finding(
        code="unknown_label",
        severity="warning",
        message=f"{_count(len(rows), 'image')} left out: no label, or a class that the classifier does not know.",
        rows=tuple(predictions.names[row] for row in rows[:_ROWS_KEPT]),
        hint="label them, add an alias for the class, or train with it",
    )


def _missing(names: Sequence[str], matrix: Ints) -> Finding | None:
    return _classes(
        [name for name, size in zip(names, matrix.sum(axis=1), strict=True) if not size],
        "class_without_images",
        "warning",
        "have no image here: nothing is known about how well they are recognised. No average precision and no "
        "ROC-AUC counts them.",
        "add images of them to the evaluation",
    )


def _never_answered(names: Sequence[str], matrix: Ints) -> Finding | None:
    sizes, answers = matrix.sum(axis=1), matrix.sum(axis=0)
    return _classes(
        [name for name, size, times in zip(names, sizes, answers, strict=True) if size and not times],
        "never_answered",
        "warning",
        "were never answered although there are images of them.",
        "look at their images in predictions.csv, and at how many images they had in training",
    )


def _few(names: Sequence[str], matrix: Ints, recall: tuple[Floats, Floats]) -> Finding | None:
    counts = class_counts(matrix)
    few = np.flatnonzero((counts.true > 0) & (counts.true < FEW_IMAGES))
    if not len(few):
        return None
    least = int(few[counts.true[few].argmin()])
    low, high = recall[0][least], recall[1][least]
    return _classes(
        [names[index] for index in few.tolist()],
        "few_images",
        "info",
        f"have fewer than {FEW_IMAGES} images here, so their recall is uncertain. "
        f"{names[least]!r} has {counts.true[least]}, {counts.hits[least]} answered right: "
        f"its recall may be anything from {low:.0%} to {high:.0%}.",
        "treat differences between such classes as noise, or add images",
    )


def _grouped(sample: Sample) -> Finding | None:
    if sample.groups is None:
        return None
    return Finding(
        code="intervals_by_group",
        severity="info",
        message=f"Intervals count {_count(sample.independent, 'group')}, not {_count(sample.size, 'image')}: "
        "images of a group tend to be right or wrong together.",
    )


def _absent(names: Sequence[str]) -> Finding | None:
    return _classes(
        list(names),
        "prevalence_without_images",
        "warning",
        "have a prevalence and no image here; their part was given to the other classes.",
        "add images of them: what is said about production leaves them out",
    )


def _trivial(classes: int, top_k: Sequence[int]) -> Finding | None:
    trivial = [str(k) for k in sorted(top_k) if k >= classes]
    if not trivial:
        return None
    return Finding(
        code="trivial_top_k",
        severity="info",
        message=f"With {_count(classes, 'class', 'classes')}, top-{' and top-'.join(trivial)} cannot be wrong.",
    )


def _imbalance(ratio: float) -> Finding | None:
    if ratio < UNEVEN_RATIO:
        return None
    return Finding(
        code="imbalance",
        severity="info",
        message=f"The largest class had {ratio:,.0f} times the training images of the smallest. So this report leads "
        "with macro F1 and balanced accuracy, to which every class counts the same; accuracy is mostly that of the "
        "frequent classes.",
        hint="where rare classes matter, train with loss.imbalance=auto, which looks for a remedy",
    )


def _classes(names: list[str], code: str, severity: str, message: str, hint: str) -> Finding | None:
    if not names:
        return None
    shown = ", ".join(repr(name) for name in names[:5]) + (" ..." if len(names) > 5 else "")
    return Finding.model_validate(
        {
            "code": code,
            "severity": severity,
            "message": f"{_count(len(names), 'class', 'classes')} ({shown}) {_agree(message, len(names))}",
            "rows": tuple(names[:_ROWS_KEPT]),
            "hint": hint,
        }
    )


def _agree(message: str, number: int) -> str:
    """`have` and `were` at the start of a message become `has` and `was` for one class."""
    verb, _, rest = message.partition(" ")
    single = {"have": "has", "were": "was"}
    return f"{single[verb]} {rest}" if number == 1 and verb in single else message


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
