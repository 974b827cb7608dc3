"""From logits of calibration images to a DecisionSpec with findings."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import softmax

from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec
from sortal.core.errors import RecipeError
from sortal.core.labels import LabelSet
from sortal.core.report import Report
from sortal.data.table import build_table
from sortal.decide import fit_decision, groups_of, unit_numbers

NAMES = LabelSet(names=("a", "b", "c"))


def made(n: int, temperature: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.Generator(np.random.Philox(key=n))
    logits = (4 * random.normal(size=(n, 3))).astype(np.float32)
    chances = softmax(logits / temperature, axis=1)
    return logits, (chances.cumsum(axis=1) < random.random((n, 1))).sum(axis=1).clip(max=2)


def test_without_a_contract_everything_is_answered_with_calibrated_probabilities() -> None:
    found = fit_decision(*made(1_000), NAMES, contract=None)
    assert found.decision.temperature == pytest.approx(2.0, rel=0.15)
    assert found.decision.model_copy(update={"temperature": 1.0, "bias": None}) == DecisionSpec()
    assert (found.attained, found.findings) == (None, ())


def test_without_images_it_is_the_identity() -> None:
    empty = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    found = fit_decision(*empty, NAMES, contract=Contract(max_error=0.02))
    assert found.decision == DecisionSpec()
    assert found.attained is None
    assert found.sentences() == []


def test_few_images_are_told() -> None:
    assert [one.code for one in fit_decision(*made(40), NAMES, contract=None).findings] == ["few_calibration_images"]


def test_the_report_tells_what_the_contract_came_to() -> None:
    found = fit_decision(*made(1_000), NAMES, contract=Contract(max_error=0.02, min_coverage=0.999))
    report = found.on(Report(kind="evaluation", subject="x"))
    assert [row[0] for row in report.tables["contract"].rows] == ["max_error", "min_coverage"]
    assert "contract_unmet" in {one.code for one in report.findings}
    assert report.body["calibration"]["contract"] == "unmet"
    assert any("unmet" in sentence for sentence in found.sentences())


def test_a_unit_is_decided_by_the_mean_of_its_images() -> None:
    """Three images a part, each right with 80 %: the mean is surer, so more parts than images are answered."""
    logits, labels = made(1_200)
    part = np.repeat(np.arange(400), 3)
    labels = labels.reshape(400, 3)[:, 0].repeat(3)
    chances = softmax(logits / 2, axis=1)
    random = np.random.Generator(np.random.Philox(key=5))
    logits = np.log(0.5 * chances + 0.5 * np.eye(3)[np.where(random.random(1_200) < 0.8, labels, 0)]).astype(np.float32)
    contract = Contract(max_error=0.1)
    alone = fit_decision(logits, labels, NAMES, contract=contract, with_bias=False)
    joined = fit_decision(logits, labels, NAMES, contract=contract, unit=part, with_bias=False)
    assert alone.attained is not None
    assert joined.attained is not None
    assert joined.attained.clauses[0].images <= 400
    assert joined.attained.coverage > alone.attained.coverage


def test_groups_and_units_come_from_columns() -> None:
    frame = pl.DataFrame(
        {"uri": ["1", "2", "3"], "label": [0, 0, 1], "group": ["x", "x", None], "part": ["p", None, "p"]}
    )
    table = build_table(frame, labels=NAMES, source="s", root=None)
    groups = groups_of(table)
    assert groups is not None
    assert groups[0] == groups[1] != groups[2]
    assert groups_of(table.select([0, 2])) is None
    assert unit_numbers(table, None) is None
    assert unit_numbers(table, Contract()) is None
    numbers = unit_numbers(table, Contract(unit="part"))
    assert numbers is not None
    assert numbers[0] == numbers[2] != numbers[1]
    with pytest.raises(RecipeError, match="no such column") as refused:
        unit_numbers(table, Contract(unit="parts"))
    assert "part" in str(refused.value)


def test_with_a_contract_no_bias_is_fitted_to_the_images_that_are_tested_on() -> None:
    """A bias that validates well in itself: 40 classes, of which some are shifted, and 30 images each."""
    random = np.random.Generator(np.random.Philox(key=1))
    logits = (3 * random.normal(size=(1_200, 40))).astype(np.float32)
    chances = softmax(logits + 2 * random.normal(size=40), axis=1)
    labels = (chances.cumsum(axis=1) < random.random((1_200, 1))).sum(axis=1).clip(max=39)
    known = LabelSet(names=tuple(f"class {number}" for number in range(40)))
    assert fit_decision(logits, labels, known, contract=None).decision.bias is not None
    assert fit_decision(logits, labels, known, contract=Contract(max_error=0.1)).decision.bias is None
