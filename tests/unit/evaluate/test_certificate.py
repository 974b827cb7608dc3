"""Certificates: closed forms, what no image can settle, groups, prevalence, and orders that may never be broken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import beta, binom, gamma

from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec
from sortal.core.errors import DataError, InputError, RecipeError
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions
from sortal.core.report import Report
from sortal.data.table import ImageTable, build_table
from sortal.evaluate.certify.certificate import certify
from sortal.evaluate.certify.needed import images_needed
from sortal.evaluate.certify.rates import rate_of
from sortal.evaluate.certify.verdicts import holm
from sortal.evaluate.latency import Latency
from sortal.evaluate.pages.page import render_page

NAMES = ("crack", "dent", "ok")
ORDER = {"broken": 0, "undecided": 1, "kept": 2}


def answers(index: Any, abstained: Any = None, probabilities: Any = None, names: Any = NAMES) -> Predictions:
    index = np.asarray(index, np.int64)
    chances = np.full((len(index), len(names)), 0.1, np.float32)
    chances[np.arange(len(index)), np.maximum(index, 0)] = 1 - 0.1 * (len(names) - 1)
    return Predictions(
        names=tuple(f"{row}.png" for row in range(len(index))),
        labels=LabelSet(names=tuple(names)),
        bundle_id="b" * 64,
        index=index,
        probabilities=chances if probabilities is None else np.asarray(probabilities, np.float32),
        abstained=np.zeros(len(index), bool) if abstained is None else np.asarray(abstained, bool),
        errors=dict.fromkeys(np.flatnonzero(index < 0), ("corrupt", "cut off")),
    )


def case(right: int, wrong: int = 0, left: int = 0, label: int = 0) -> tuple[list[int], list[int], list[bool]]:
    """Labels, answers and who gets them, of images of one class."""
    total = right + wrong + left
    answered = [label] * right + [(label + 1) % 3] * wrong + [label] * left
    return [label] * total, answered, [False] * (right + wrong) + [True] * left


def judged(contract: Contract, *cases: tuple[list[int], list[int], list[bool]], **more: Any) -> Report:
    labels, index, left = ([item for part in parts for item in part] for parts in zip(*cases, strict=True))
    return certify(contract, answers(index, left), np.array(labels), **more)


def verdict(report: Report, key: str) -> str:
    return next(clause["verdict"] for clause in report.body["clauses"] if clause["key"] == key)


def needed(report: Report, key: str) -> tuple[int | None, str]:
    clause = next(clause for clause in report.body["clauses"] if clause["key"] == key)
    return clause["needed"], clause["needed_of"]


def test_sample_sizes_are_the_smallest_that_will_do() -> None:
    assert [images_needed(0.98, misses) for misses in (0, 1, 2)] == [149, 236, 313]
    assert [images_needed(share) for share in (0.5, 0.9, 0.95, 0.99, 0.999)] == [5, 29, 59, 299, 2995]
    for share, misses in ((0.97, 3), (0.9, 7)):
        n = images_needed(share, misses, 0.9)
        assert binom.cdf(misses, n, 1 - share) <= 0.1 < binom.cdf(misses, n - 1, 1 - share)
    with pytest.raises(ValueError, match="no number of images"):
        images_needed(1.0)


def test_recall_of_98_percent_takes_149_images_without_a_miss() -> None:
    contract = Contract(recall={"crack": 0.98})
    kept = judged(contract, case(140, left=9))
    assert (kept.body["verdict"], verdict(kept, "recall.crack")) == ("kept", "kept")
    short = judged(contract, case(148))
    assert verdict(short, "recall.crack") == "undecided"
    assert needed(short, "recall.crack") == (1, "images of crack")
    assert "1 more images of crack would settle it (kept)" in short.body["summary"][1]
    one_missed = judged(contract, case(235, wrong=1))
    assert verdict(one_missed, "recall.crack") == "kept"
    assert verdict(judged(contract, case(234, wrong=1)), "recall.crack") == "undecided"
    many_missed = judged(contract, case(135, wrong=14))
    assert verdict(many_missed, "recall.crack") == "broken"
    assert many_missed.body["summary"][0] == "The contract is broken: recall of “crack”."


def test_shares_have_the_exact_bounds() -> None:
    report = judged(Contract(max_error=0.05, min_coverage=0.8, confidence=0.9), case(180, wrong=4, left=16))
    error, coverage = report.metrics["max_error"], report.metrics["min_coverage"]
    assert (error.value, error.n) == (pytest.approx(4 / 184), 184)
    assert error.high == pytest.approx(beta.ppf(0.9, 5, 180), rel=1e-8)
    assert error.low == pytest.approx(beta.ppf(0.1, 4, 181), rel=1e-8)
    assert (coverage.value, coverage.n) == (pytest.approx(0.92), 200)
    assert coverage.low == pytest.approx(beta.ppf(0.1, 184, 17), rel=1e-8)
    assert report.body["verdict"] == "kept"


def test_images_that_cannot_be_read_are_not_answered() -> None:
    report = certify(Contract(min_coverage=0.5), answers([0] * 90 + [-1] * 10), np.zeros(100, np.int64))
    assert report.metrics["min_coverage"].value == pytest.approx(0.9)
    assert "unreadable" in [finding.code for finding in report.findings]


def test_nothing_to_measure_on_is_undecided_and_says_what_is_needed() -> None:
    report = judged(Contract(recall={"dent": 0.95}, max_error=0.1), case(0, left=50, label=2))
    assert report.body["verdict"] == "undecided"
    assert needed(report, "recall.dent") == (59, "images of dent")
    assert verdict(report, "max_error") == "undecided", "nothing was answered"
    assert "class_without_images" in [finding.code for finding in report.findings]


def test_a_rate_at_its_limit_can_never_be_settled() -> None:
    report = judged(Contract(max_error=0.05), case(95, wrong=5))
    assert needed(report, "max_error")[0] is None
    assert "too close to the limit" in report.body["summary"][1]


def test_needed_images_do_settle_it() -> None:
    for wrong, limit in ((2, 0.05), (12, 0.08)):
        first = judged(Contract(max_error=limit), case(100 - wrong, wrong=wrong))
        more, _ = needed(first, "max_error")
        assert more is not None
        factor = (100 + more) / 100
        total, hits = 100 + more, wrong * factor
        chance = beta.cdf(limit, hits + 1, total - hits) if wrong < 5 else beta.sf(limit, hits, total - hits + 1)
        assert verdict(first, "max_error") == "undecided"
        assert chance >= 0.95


def test_accusing_single_clauses_is_corrected_by_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5], 0.05) == [True, False, False, False]
    assert holm([0.01, 0.02, 0.03], 0.06) == [True, True, True]
    wrong = int(binom.ppf(0.965, 200, 0.1))  # p = 0.03 or so: broken alone, not beside two other clauses
    alone = judged(Contract(max_error=0.1), case(200 - wrong, wrong=wrong))
    assert verdict(alone, "max_error") == "broken"
    among = judged(Contract(max_error=0.1, min_coverage=0.5, recall={"crack": 0.5}), case(200 - wrong, wrong=wrong))
    assert verdict(among, "max_error") == "undecided"
    assert among.body["verdict"] == "undecided"


def test_prevalence_mixes_classes_anew() -> None:
    contract = Contract(max_error=0.2, prevalence={"crack": 0.01})
    report = judged(contract, case(80, wrong=20), case(895, wrong=5, label=2))
    metric = report.metrics["max_error"]
    assert metric.value == pytest.approx(0.01 * 0.2 + 0.99 * 5 / 900)
    weights, counts = np.array([0.01 / 100, 0.99 / 900]), np.array([20, 5])
    mean, variance = (weights * counts).sum() + weights.max(), (weights**2 * counts).sum() + weights.max() ** 2
    assert metric.high == pytest.approx(gamma.ppf(0.95, mean**2 / variance, scale=variance / mean), rel=1e-6)
    codes = [finding.code for finding in report.findings]
    assert "prevalence_stated" in codes
    assert "prevalence_assumed" not in codes


def test_without_prevalence_the_mix_is_assumed_and_said_so() -> None:
    found = judged(Contract(max_error=0.2), case(50)).findings
    assumed = next(finding for finding in found if finding.code == "prevalence_assumed")
    assert "as frequent in production" in assumed.message


def test_a_prevalence_without_images_stays_undecided() -> None:
    contract = Contract(max_error=0.05, prevalence={"dent": 0.02})
    report = judged(contract, case(500), case(500, label=2))
    assert verdict(report, "max_error") == "undecided"
    more, of = needed(report, "max_error")
    assert of == "images of dent"
    assert 1 <= (more or 0) <= 40
    assert report.metrics["max_error"].high > 0.02
    with pytest.raises(DataError, match="no other class has an image"):
        judged(Contract(max_error=0.05, prevalence={"crack": 0.02}), case(500))


def test_costs_are_bounded_with_the_dearest_mistake_in_mind() -> None:
    contract = Contract(costs={"crack": {"dent": 50.0}, "ok": {"crack": 1.0}}, max_cost=1.0)
    report = judged(contract, case(99, wrong=1), case(890, wrong=10, label=2))
    metric = report.metrics["max_cost"]
    assert metric.value == pytest.approx((50 + 10) / 1000)
    mean, variance = 0.06 + 0.05, (50**2 + 10) / 1e6 + 0.05**2
    assert metric.high == pytest.approx(gamma.ppf(0.95, mean**2 / variance, scale=variance / mean), rel=1e-6)
    assert verdict(report, "max_cost") == "kept"


def test_equal_weights_and_single_images_are_the_poisson_bound_of_fay_and_feuer() -> None:
    bad = np.zeros(500)
    bad[:7] = 1
    rate = rate_of(bad, np.full(500, 1.0), np.zeros(500, np.int64), None, worst=np.ones(500))
    assert rate.upper(0.95) == pytest.approx(gamma.ppf(0.95, 8) / 500, rel=1e-8)
    assert rate.lower(0.95) == pytest.approx(gamma.ppf(0.05, 7) / 500, rel=1e-8)


def test_images_of_a_group_count_less_than_others() -> None:
    labels, index = np.zeros(600, np.int64), np.zeros(600, np.int64)
    index[:6] = 1
    one_part = certify(Contract(max_error=0.03), answers(index), labels, groups=[f"p{row // 6}" for row in range(600)])
    spread = certify(Contract(max_error=0.03), answers(index), labels, groups=[f"p{row % 100}" for row in range(600)])
    alone = certify(Contract(max_error=0.03), answers(index), labels)
    highs = [float(report.metrics["max_error"].high or 0) for report in (alone, spread, one_part)]
    assert highs == sorted(highs)
    assert [verdict(report, "max_error") for report in (alone, one_part)] == ["kept", "undecided"]
    assert "grouped" in [finding.code for finding in spread.findings]
    each = certify(Contract(max_error=0.03), answers(index), labels, groups=[str(row) for row in range(600)])
    assert each.metrics == alone.metrics


def test_no_errors_at_all_count_groups_and_not_images() -> None:
    labels = np.zeros(1000, np.int64)
    report = certify(Contract(max_error=0.02), answers(labels), labels, groups=[str(row // 10) for row in range(1000)])
    assert report.metrics["max_error"].high == pytest.approx(-np.log(0.05) / 100, rel=1e-8)


def _part_predictions() -> tuple[Predictions, np.ndarray, list[str]]:
    """Two images a part: the mean decides, not the majority of single answers."""
    chances = [[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.2, 0.8, 0.0], [0.45, 0.35, 0.2], [0.5, 0.4, 0.1], [0.3, 0.4, 0.3]]
    index = np.argmax(chances, axis=1)
    return answers(index, probabilities=chances), np.array([0, 0, 1, 1, 0, 0]), ["a", "a", "b", "b", "c", "c"]


def test_one_decision_a_group_is_made_from_mean_probabilities() -> None:
    predictions, labels, parts = _part_predictions()
    contract = Contract(max_error=0.5, min_coverage=0.1, unit="part")
    report = certify(contract, predictions, labels, groups=parts)
    assert (report.metrics["max_error"].value, report.metrics["max_error"].n) == (0.0, 3)
    assert report.body["unit"] == "part"
    strict = certify(contract, predictions, labels, groups=parts, decision=DecisionSpec(threshold=0.5))
    assert strict.metrics["min_coverage"].value == pytest.approx(2 / 3), "part c has 0.4 and 0.4"
    assert strict.metrics["max_error"].n == 2


def test_a_group_of_several_classes_is_named() -> None:
    predictions, labels, parts = _part_predictions()
    with pytest.raises(DataError, match="1 of 3 groups") as caught:
        certify(Contract(max_error=0.5, unit="part"), predictions, replace_at(labels, 5, 2), groups=parts)
    assert "received: c" in str(caught.value)
    with pytest.raises(InputError, match="these images have none"):
        certify(Contract(max_error=0.5, unit="part"), predictions, labels)


def replace_at(values: np.ndarray, place: int, value: int) -> np.ndarray:
    changed = values.copy()
    changed[place] = value
    return changed


def _table(labels: list[int], names: tuple[str, ...], **columns: Any) -> ImageTable:
    frame = pl.DataFrame({"uri": [f"{row}.png" for row in range(len(labels))], "label": labels, **columns})
    return build_table(frame, labels=LabelSet(names=names), source="holdout", root=None)


def test_a_table_tells_groups_and_classes_that_the_model_does_not_know() -> None:
    table = _table([0] * 50 + [1] * 30 + [2] * 20, ("ok", "rust", "crack"), part=[str(row // 2) for row in range(100)])
    index, left = [2] * 50 + [2] * 30 + [0] * 20, [False] * 50 + [True] * 20 + [False] * 10 + [False] * 20
    report = certify(Contract(max_error=0.5), answers(index, left), table)
    assert report.metrics["max_error"].value == pytest.approx(10 / 80)
    assert "30 images are of classes that the model does not know: rust" in " ".join(f.message for f in report.findings)
    by_part = certify(Contract(max_error=0.5, unit="part"), answers(index, left), table)
    assert by_part.metrics["max_error"].n == 50
    with pytest.raises(InputError, match="does not have") as caught:
        certify(Contract(max_error=0.5, unit="prat"), answers(index, left), table)
    assert "did you mean part" in str(caught.value)


def _latency(times: np.ndarray) -> Latency:
    return Latency(
        p50_ms=1, p95_ms=1, p99_ms=1, p99_lower_ms=0, p99_upper_ms=None, mean_ms=1, images_per_s=1000, n=len(times),
        batch=1, confidence=0.95, threads=1, engine="onnxruntime", precision="float32", machine="a processor",
        end_to_end=True, times_ms=tuple(times.tolist()),
    )  # fmt: skip


def test_latency_and_size_are_clauses_like_others() -> None:
    contract = Contract(max_latency_ms=10, max_size_mb=8)
    times = np.linspace(1, 9, 299)
    good = judged(contract, case(5), latency=_latency(times), size_bytes=8_000_000)
    assert good.body["verdict"] == "kept"
    assert any("1,000 images a second from bytes to decision" in line for line in good.body["summary"])
    few = judged(contract, case(5), latency=_latency(times[:250]), size_bytes=8_000_001)
    assert (verdict(few, "max_latency_ms"), verdict(few, "max_size_mb")) == ("undecided", "broken")
    assert needed(few, "max_latency_ms") == (49, "measured decisions")
    slow = judged(contract, case(5), latency=_latency(np.linspace(5, 15, 400)), size_bytes=1)
    assert verdict(slow, "max_latency_ms") == "broken"
    unknown = judged(contract, case(5))
    assert unknown.body["verdict"] == "undecided"


def test_wrong_use_is_refused() -> None:
    with pytest.raises(InputError, match="promises nothing"):
        judged(Contract(), case(5))
    with pytest.raises(RecipeError, match="did you mean crack"):
        judged(Contract(recall={"crck": 0.9}), case(5))
    with pytest.raises(DataError, match="no image of the hold-out has a label"):
        certify(Contract(max_error=0.1), answers([0, 0]), np.array([-1, -1]))
    with pytest.raises(DataError, match="labels do not fit"):
        certify(Contract(max_error=0.1), answers([0, 0]), np.array([0]))


def test_more_mistakes_never_make_a_verdict_better() -> None:
    random = np.random.default_rng(3)
    for trial in range(14):
        n = int(random.integers(20, 400))
        labels = random.integers(0, 3, n)
        labels[:3] = (0, 1, 2)
        index = np.where(random.random(n) < 0.1, (labels + 1) % 3, labels)
        left = random.random(n) < 0.1
        contract = Contract(
            max_error=0.1,
            min_coverage=0.8,
            recall={"crack": 0.9},
            costs={"crack": {"ok": 5.0}, "ok": {"crack": 1.0}, "dent": {"ok": 2.0}},
            max_cost=0.5,
            prevalence={"crack": 0.05} if trial % 2 else {},
        )
        groups = [str(key) for key in random.integers(0, n // 3, n)] if trial % 3 else None
        before = certify(contract, answers(index, left), labels, groups=groups)
        right = np.flatnonzero((index == labels) & ~left)
        spoiled = index.copy()
        chosen = random.choice(right, min(len(right), 1 + trial % 9), replace=False)
        spoiled[chosen] = np.array([2, 2, 0])[labels[chosen]]
        after = certify(contract, answers(spoiled, left), labels, groups=groups)
        for key in ("max_error", "recall.crack", "max_cost"):
            assert not (verdict(before, key) != "kept" and verdict(after, key) == "kept"), (trial, key)
            assert (verdict(before, key), verdict(after, key)) != ("broken", "kept")


def test_the_page_and_the_json_tell_the_verdict_first() -> None:
    report = judged(Contract(max_error=0.01, recall={"crack": 0.98}), case(148), case(300, label=2))
    page = render_page(report)
    assert page.index("Undecided") < page.index("<table")
    assert Report.from_json(report.to_json()) == report
    assert report.tables["clauses"].columns[-2:] == ("verdict", "still_needed")


def test_the_same_report_for_images_in_any_order() -> None:
    labels, index, left = case(90, wrong=6, left=4)
    order = np.random.default_rng(0).permutation(100)
    groups = [str(row // 4) for row in range(100)]
    contract = Contract(max_error=0.1, prevalence={"crack": 1.0})
    first = certify(contract, answers(index, left), np.array(labels), groups=groups)
    shuffled = certify(
        contract,
        answers(np.array(index)[order], np.array(left)[order]),
        np.array(labels)[order],
        groups=[groups[place] for place in order],
    )
    assert first.body["clauses"][0]["verdict"] == shuffled.body["clauses"][0]["verdict"]
    assert first.metrics["max_error"].high == pytest.approx(shuffled.metrics["max_error"].high)
    assert replace(answers([0]), names=("x",)).names == ("x",)
