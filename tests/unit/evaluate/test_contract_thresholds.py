"""Thresholds for a contract: what each kind does, what is promised, and what is said when it cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binom

from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec, decide_from_probabilities
from sortal.core.labels import LabelSet
from sortal.evaluate.trust.attainable import Attained, attained, attained_findings
from sortal.evaluate.trust.selection import Sighted, Thresholds, costs_of, fit_thresholds

NAMES = LabelSet(names=("ok", "crack", "dent"))


def sighted(n: int, *, key: int = 0, sharpness: float = 3.0, groups: np.ndarray | None = None) -> Sighted:
    """Calibrated probabilities: labels are drawn from them."""
    random = np.random.Generator(np.random.Philox(key=key))
    chances = softmax(sharpness * random.normal(size=(n, 3)), axis=1)
    labels = (chances.cumsum(axis=1) < random.random((n, 1))).sum(axis=1).clip(max=2)
    return Sighted(chances=chances.astype(np.float32), labels=labels.astype(np.int64), groups=groups)


def fitted(contract: Contract, images: Sighted) -> tuple[Thresholds, Attained]:
    spec = DecisionSpec(costs=costs_of(contract, NAMES))
    thresholds = fit_thresholds(contract, spec, images, NAMES)
    return thresholds, attained(contract, thresholds, images, NAMES)


def test_a_threshold_holds_on_other_images_of_the_same_kind() -> None:
    contract = Contract(max_error=0.05, confidence=0.9)
    broken, coverage = 0, []
    truth = sighted(40_000, key=99)
    for key in range(25):
        thresholds, found = fitted(contract, sighted(800, key=key))
        assert found.state == "met"
        decided = decide_from_probabilities(thresholds.decision, truth.chances)
        given = ~decided.abstained
        broken += (decided.index != truth.labels)[given].mean() > 0.05
        coverage.append(given.mean())
    assert broken <= binom.ppf(0.999, 25, 0.1)
    sure = np.sort(truth.chances.max(axis=1))[::-1]
    best = np.flatnonzero(np.cumsum(1 - sure) / np.arange(1, len(sure) + 1) <= 0.05)[-1] / len(sure)
    assert 0.6 * best < np.mean(coverage) < best


def test_everything_is_answered_where_nothing_is_wrong() -> None:
    images = sighted(600, sharpness=40.0)
    images = Sighted(chances=images.chances, labels=images.chances.argmax(axis=1))
    thresholds, found = fitted(Contract(max_error=0.02, min_coverage=0.9), images)
    assert thresholds.decision.threshold == 0.0
    assert (found.coverage, found.error, found.state) == (1.0, 0.0, "met")
    assert attained_findings(found, Contract(max_error=0.02, min_coverage=0.9)) == ()


def test_a_floor_on_recall_sends_away_what_could_be_that_class_and_no_more() -> None:
    images = sighted(3_000, key=1)
    contract = Contract(recall={"crack": 0.95})
    thresholds, found = fitted(contract, images)
    spec = thresholds.decision
    assert spec.threshold == 0.0
    assert spec.doubts is not None
    assert spec.doubts[0] == spec.doubts[2] == 1.0
    decided = decide_from_probabilities(spec, images.chances)
    crack = images.labels == 1
    missed = crack & ~decided.abstained & (decided.index != 1)
    assert missed.sum() / crack.sum() < 0.05
    assert binom.cdf(missed.sum(), crack.sum(), 0.05) <= 0.05
    assert found.clauses[0].state == "met"
    away = decided.abstained
    assert (images.chances[away, 1] > spec.doubts[1]).all()
    assert (decided.index[away] != 1).all()
    everything = decide_from_probabilities(DecisionSpec(threshold=0.95), images.chances)
    assert decided.abstained.mean() < everything.abstained.mean()


def test_with_149_images_of_a_class_without_a_miss_98_percent_are_promised() -> None:
    chances = np.tile(np.array([[0.05, 0.9, 0.05]], np.float32), (149, 1))
    for count, state in ((148, "undecided"), (149, "met")):
        images = Sighted(chances=chances[:count], labels=np.ones(count, np.int64))
        _, found = fitted(Contract(recall={"crack": 0.98}), images)
        (clause,) = found.clauses
        assert (clause.state, clause.reached) == (state, 1.0)
        assert clause.needed == (None if state == "met" else 149)
        assert (clause.bound or 0.0) == pytest.approx(0.05 ** (1 / count))


def test_a_class_without_images_is_undecided() -> None:
    images = sighted(300)
    images = Sighted(chances=images.chances[images.labels != 2], labels=images.labels[images.labels != 2])
    contract = Contract(recall={"dent": 0.9})
    _, found = fitted(contract, images)
    assert found.clauses[0].state == "undecided"
    (said,) = attained_findings(found, contract)
    assert said.code == "contract_undecided"
    assert "nothing can be said on 0 calibration images" in said.message


def test_too_few_images_are_undecided_with_the_number_needed() -> None:
    contract = Contract(max_error=0.02)
    images = sighted(100, key=3, sharpness=30.0)
    images = Sighted(chances=images.chances, labels=images.chances.argmax(axis=1))
    thresholds, found = fitted(contract, images)
    assert not thresholds.fitted[0].promised
    (clause,) = found.clauses
    assert (clause.state, clause.needed) == ("undecided", 149)
    (said,) = attained_findings(found, contract)
    assert (said.code, said.severity) == ("contract_undecided", "warning")
    assert "About 149 such images" in said.message


def test_what_cannot_be_met_is_named_with_the_trade_off() -> None:
    contract = Contract(max_error=0.02, min_coverage=0.95)
    images = sighted(2_000, key=4, sharpness=1.5)
    _, found = fitted(contract, images)
    clauses = {clause.clause: clause for clause in found.clauses}
    assert clauses["min_coverage"].state == "unmet"
    assert found.state == "unmet"
    said = next(one for one in attained_findings(found, contract) if one.code == "contract_unmet")
    assert said.severity == "error"
    for words in ("min_coverage: at least 95.0% wanted", "off by", "Within reach here", "answered with 2.0% wrong"):
        assert words in said.message
    assert found.error_at_coverage is not None
    assert found.error_at_coverage > 0.02
    assert found.table().columns[0] == "clause"


def test_several_clauses_share_the_level() -> None:
    contract = Contract(max_error=0.05, recall={"crack": 0.9, "dent": 0.9}, confidence=0.94)
    thresholds, found = fitted(contract, sighted(3_000, key=5))
    assert thresholds.level == pytest.approx(0.02)
    assert {(one.clause, one.name) for one in thresholds.fitted} == {
        ("recall", "crack"), ("recall", "dent"), ("max_error", "")
    }  # fmt: skip
    assert found.state == "met"


def test_costs_choose_the_answer_and_a_mean_cost_the_limit() -> None:
    contract = Contract(costs={"crack": {"ok": 50.0}, "ok": {"crack": 1.0}}, max_cost=0.3)
    images = sighted(4_000, key=6)
    thresholds, found = fitted(contract, images)
    spec = thresholds.decision
    assert spec.costs == ((0.0, 1.0, 0.0), (50.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    decided = decide_from_probabilities(spec, images.chances)
    cost = np.where(decided.abstained, 0.0, np.asarray(spec.costs)[images.labels, decided.index])
    assert cost.mean() <= 0.3
    assert found.clauses[0].clause == "max_cost"
    assert found.clauses[0].reached == pytest.approx(cost.mean())


def test_a_prevalence_changes_what_counts() -> None:
    """Class `dent` is all the trouble: where it is rare in production, more is answered."""
    images = sighted(3_000, key=7, sharpness=4.0)
    labels = images.labels.copy()
    random = np.random.Generator(np.random.Philox(key=8))
    trouble = (images.chances.argmax(axis=1) == 0) & (random.random(3_000) < 0.2)
    labels[trouble] = 2
    images = Sighted(chances=images.chances, labels=labels)
    plain = fitted(Contract(max_error=0.05), images)[1]
    rare = fitted(Contract(max_error=0.05, prevalence={"dent": 0.01}), images)[1]
    assert rare.coverage > plain.coverage + 0.05


def test_groups_make_thresholds_stricter() -> None:
    images = sighted(1_500, key=9, sharpness=2.0)
    wrong = images.chances.argmax(axis=1) != images.labels
    groups = np.empty(1_500, np.int64)
    groups[np.argsort(~wrong, kind="stable")] = np.arange(1_500) // 15  # mistakes come together
    alone = fitted(Contract(max_error=0.1), images)[0]
    joined = fitted(Contract(max_error=0.1), Sighted(chances=images.chances, labels=images.labels, groups=groups))[0]
    assert alone.fitted[0].promised
    assert joined.decision.threshold > alone.decision.threshold or not joined.fitted[0].promised
