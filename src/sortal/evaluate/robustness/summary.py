"""What corrupted answers come to: accuracy and coverage by corruption and strength, the most fragile classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Cell, Finding, Metric, Table
from sortal.core.shares import wilson
from sortal.evaluate.robustness import CORRUPTIONS
from sortal.evaluate.robustness.corruption import STRENGTHS
from sortal.evaluate.robustness.study import Answers

TABLE, CLASSES = "robustness", "fragile_classes"
LOST = 0.1
"""Accuracy lost at strength 3 from which a corruption is named, if that is surely more than nothing."""


def robustness_metrics(answers: Answers, confidence: float) -> dict[str, Metric]:
    """`clean_accuracy` of the images looked at, `corrupted_accuracy` (the mean over corruptions and strengths) and
    `corruption_retained`, the second as a share of the first."""
    right = (answers.clean == answers.labels).sum()
    n = len(answers.labels)
    low, high = wilson(right, n, confidence)
    corrupted = _right(answers).mean(axis=(0, 1))
    spread = _bootstrap(corrupted, confidence)
    found = {
        "clean_accuracy": Metric(value=float(right / n), low=float(low), high=float(high), n=n),
        "corrupted_accuracy": Metric(value=float(corrupted.mean()), low=spread[0], high=spread[1], n=n),
    }
    if right:
        found["corruption_retained"] = Metric(value=float(corrupted.mean() / (right / n)), n=n)
    return found


def robustness_table(answers: Answers, confidence: float) -> Table:
    """One row a corruption and strength: accuracy with interval, accuracy lost, coverage, error among the answered."""
    right, clean = _right(answers), (answers.clean == answers.labels).mean()
    rows = list[tuple[Cell, ...]]()
    for number, name in enumerate(answers.names):
        corruption = CORRUPTIONS.get(name)
        for strength in range(1, STRENGTHS + 1):
            mine, given = right[number, strength - 1], answers.given[number, strength - 1]
            low, high = wilson(mine.sum(), len(mine), confidence)
            error = float((given & ~mine).sum() / given.sum()) if given.any() else None
            amount = f"{corruption.amounts[strength - 1]:g} {corruption.unit}"
            accuracy = float(mine.mean())
            rows.append(
                (
                    name,
                    strength,
                    amount,
                    accuracy,
                    float(low),
                    float(high),
                    float(clean - accuracy),
                    float(given.mean()),
                    error,
                )
            )
    columns = (
        "corruption",
        "strength",
        "amount",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "accuracy_lost",
        "coverage",
        "error",
    )
    return Table(columns=columns, rows=tuple(rows))


def fragile_classes(answers: Answers, names: tuple[str, ...], *, most: int = 20) -> Table:
    """Classes by how much of their recall corruptions take, the most fragile first, with what hurts them most."""
    right, clean = _right(answers), answers.clean == answers.labels
    rows = list[tuple[Cell, ...]]()
    for label in np.unique(answers.labels).tolist():
        mine = answers.labels == label
        by_corruption = right[:, :, mine].mean(axis=(1, 2))
        before, after = float(clean[mine].mean()), float(by_corruption.mean())
        worst = answers.names[int(by_corruption.argmin())]
        rows.append((names[label], int(mine.sum()), before, after, before - after, worst, float(by_corruption.min())))
    rows.sort(key=lambda row: (-float(str(row[4])), str(row[0])))
    columns = (
        "class",
        "images",
        "clean_recall",
        "corrupted_recall",
        "recall_lost",
        "worst_corruption",
        "recall_under_it",
    )
    return Table(columns=columns, rows=tuple(rows[:most]))


def robustness_findings(answers: Answers, confidence: float) -> list[Finding]:
    """What costs most at strength 3, and whether wrong answers were given where they should have gone to a person."""
    right, clean = _right(answers)[:, 2], answers.clean == answers.labels
    found = []
    for number, name in enumerate(answers.names):
        lost = clean.astype(np.float64) - right[number]
        low, _ = _bootstrap(lost, confidence)
        if lost.mean() >= LOST and low > 0:
            found.append((float(lost.mean()), name))
    if not found:
        return []
    told = ", ".join(f"{name} ({lost:.0%})" for lost, name in sorted(found, reverse=True)[:4])
    return [
        Finding(
            code="fragile",
            severity="warning",
            message=f"Moderate corruption (strength 3 of 5) costs accuracy: {told}.",
            hint="train with what will happen (augment.name=varied, or images of it); keep the light constant",
        )
    ]


def _right(answers: Answers) -> NDArray[np.bool_]:
    """(K, S, N)"""
    return np.asarray(answers.index == answers.labels)


def _bootstrap(values: NDArray[np.float64], confidence: float, *, resamples: int = 1000) -> tuple[float, float]:
    """Percentile interval of the mean of N values, whole images resampled."""
    generator = np.random.Generator(np.random.Philox(key=0))
    drawn = generator.multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    means = drawn @ values / len(values)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
