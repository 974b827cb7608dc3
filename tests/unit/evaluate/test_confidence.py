"""What an evaluation says about probabilities, beside what they were before the decision calibrated them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions, predictions_from_logits
from sortal.core.report import Report
from sortal.evaluate.trust.confidence import TITLES, draw_confidence, with_confidence

NAMES = LabelSet(names=("a", "b", "c"))


def made(spec: DecisionSpec, n: int = 800) -> tuple[Predictions, np.ndarray]:
    """Answers by `spec` to logits that are three times too sure."""
    random = np.random.Generator(np.random.Philox(key=0))
    logits = (2 * random.normal(size=(n, 3))).astype(np.float32)
    labels = (softmax(logits, axis=1).cumsum(axis=1) < random.random((n, 1))).sum(axis=1).clip(max=2)
    names = [str(row) for row in range(n)]
    answers = predictions_from_logits(3 * logits, names=names, labels=NAMES, decision=spec, bundle_id="0" * 64)
    return answers, labels


def told(spec: DecisionSpec, n: int = 800) -> Report:
    answers, labels = made(spec, n)
    report = Report(kind="evaluation", subject="x", body={"confidence": 0.95})
    return with_confidence(report, answers, labels, spec, np.full(n, -1))


def test_before_and_after_stand_side_by_side() -> None:
    report = told(DecisionSpec(temperature=3.0))
    for name in ("ece", "classwise_ece", "brier", "log_loss", "aurc"):
        after, before = report.metrics[name].value, report.metrics[f"{name}_before"].value
        assert after is not None
        assert before is not None
        assert after <= before + 1e-3, name
    assert (report.metrics["ece"].value or 0) < 0.5 * (report.metrics["ece_before"].value or 0)
    low, value, high = (getattr(report.metrics["brier"], part) for part in ("low", "value", "high"))
    assert low < value < high
    assert {"reliability", "reliability_before", "risk_coverage"} <= set(report.tables)


def test_before_is_what_the_identity_says() -> None:
    plain, tempered = told(DecisionSpec()), told(DecisionSpec(temperature=3.0, bias=(0.1, 0.0, -0.1)))
    assert not any(name.endswith("_before") for name in plain.metrics)
    for name in ("ece", "brier", "log_loss", "aurc"):
        assert tempered.metrics[f"{name}_before"].value == pytest.approx(plain.metrics[name].value, abs=1e-4)


def test_few_images_say_nothing(tmp_path: Path) -> None:
    assert told(DecisionSpec(), 10).metrics == {}
    assert draw_confidence(*made(DecisionSpec(), 10), DecisionSpec(), None, tmp_path) == {}


def test_both_curves_are_drawn(tmp_path: Path) -> None:
    spec = DecisionSpec(temperature=3.0, threshold=0.6)
    drawn = draw_confidence(*made(spec), spec, Contract(max_error=0.1, min_coverage=0.5), tmp_path)
    assert set(drawn) == set(TITLES.values())
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn.values())
