"""How far answers move, on which images that is looked at, and what is said where validation images are few."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from smallgraph import LABELS, SPEC, small_images
from sortal.compress.images import Material, further_images
from sortal.compress.judge import answer
from sortal.compress.movement import changed_decisions, expected_changes, lead_shifts, leads, mean_shift
from sortal.compress.pricing import Answered, Budget, Pricing
from sortal.compress.report import Outcome, compression_report
from sortal.compress.search import Search
from sortal.compress.verdict import Judged
from sortal.core.bundle import open_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions, predictions_from_logits
from sortal.core.progress import Silent
from sortal.core.report import Metric
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.runtime.engines import ENGINES
from worlds import class_folders


def _answers(logits: list[list[float]], *, threshold: float = 0.0) -> Predictions:
    return predictions_from_logits(
        np.array(logits, np.float32),
        names=[f"{row}" for row in range(len(logits))],
        labels=LABELS,
        decision=DecisionSpec(threshold=threshold),
        bundle_id="x",
    )


def test_shifts_of_leads_on_a_hand_example() -> None:
    """Odds of 3 to 1 that become 1 to 3, odds of e to 1 that become e² to 1, and an answer that stays."""
    one, other = _answers([[np.log(3), 0], [0, 1], [9, 0]]), _answers([[0, np.log(3)], [0, 2], [9, 0]])
    np.testing.assert_allclose(leads(one, one), [np.log(3), 1, 9], rtol=1e-3)
    np.testing.assert_allclose(lead_shifts(one, other), [-2 * np.log(3), 1, 0], atol=1e-3)
    assert mean_shift(one, other) == pytest.approx((2 * np.log(3) + 1) / 3, rel=1e-3)
    assert changed_decisions(one, other).tolist() == [0]
    assert expected_changes(one, other) == pytest.approx(2 / 9)  # the shift of -2.2 on the leads of 1.1 and of 1


def test_a_network_that_is_sure_moves_as_far_as_one_that_is_not() -> None:
    """As a head does that knows its training images by heart: no probability and no decision tells what int8 did."""
    unsure, sure = _answers([[0.5, 0], [0, 0.5]]), _answers([[8.5, 0], [0, 8.5]])
    noisy_unsure, noisy_sure = _answers([[0.7, 0], [0, 0.3]]), _answers([[8.7, 0], [0, 8.3]])
    assert np.abs(sure.probabilities - noisy_sure.probabilities).max() < 1e-4
    assert mean_shift(sure, noisy_sure) == pytest.approx(mean_shift(unsure, noisy_unsure), rel=1e-3)


def test_expected_changes_are_those_of_new_images() -> None:
    """Of 300 images a count is chance; what all of them move says it as well as a count of 30,000."""
    random = np.random.default_rng(0)

    def drawn(count: int) -> tuple[Predictions, Predictions]:
        ahead = random.exponential(2.0, count)
        moved = ahead + random.normal(0.0, 0.2, count)
        plain = [[value, 0.0] for value in ahead]
        return _answers(plain), _answers([[value, 0.0] for value in moved])

    one, other = drawn(30_000)
    truth = len(changed_decisions(one, other)) / 30_000
    assert 0.02 < truth < 0.06
    for _ in range(5):
        assert expected_changes(*drawn(300)) == pytest.approx(truth, rel=0.35)


def test_an_answer_that_is_not_given_any_more_is_a_changed_decision() -> None:
    sure, unsure = _answers([[3, 0], [9, 0]], threshold=0.9), _answers([[1, 0], [9, 0]], threshold=0.9)
    assert changed_decisions(sure, unsure).tolist() == [0]


def test_one_class_has_no_lead() -> None:
    alone = predictions_from_logits(
        np.zeros((2, 1), np.float32),
        names=["a", "b"],
        labels=LabelSet(names=("blue",)),
        decision=DecisionSpec(),
        bundle_id="x",
    )
    assert expected_changes(alone, alone) == mean_shift(alone, alone) == 0.0


def test_further_images_are_training_images_that_set_no_ranges_and_never_test_images(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photos", {"red": 20, "blue": 20, "cyan": 4}, seed=3)
    table = scan(images(str(folder)))
    splits = ["train" if row % 4 < 2 else "val" if row % 4 == 2 else "test" for row in range(len(table))]
    table = table.with_columns({"split": splits})
    names = [table.labels.names[place] for place in table.label_array().tolist()]
    labels = np.array([{"blue": 0, "red": 1}.get(name, -1) for name in names], np.int64)
    training = [row for row, split in enumerate(splits) if split == "train"]
    digests = table.frame["digest"].to_list()
    ranges = dataclasses.replace(small_images(5), digests=tuple(digests[row] for row in training[:5]))
    material = Material(
        calibration=ranges,
        judged=small_images(3),
        source="x",
        digest="0" * 64,
        findings=(),
        table=table,
        labels=labels,
    )
    found = further_images(material, SPEC, Silent())
    assert found is not None
    expected = [row for row in training[5:] if labels[row] >= 0]
    assert set(found.digests) == {digests[row] for row in expected}
    assert len(found.pixels) == len(expected)
    every = dataclasses.replace(ranges, digests=tuple(digests))
    assert further_images(dataclasses.replace(material, calibration=every), SPEC, Silent()) is None
    assert further_images(dataclasses.replace(material, table=None), SPEC, Silent()) is None


def _pricing(bundle_path: Path, *, max_drop: float) -> tuple[Pricing, Path]:
    bundle = open_bundle(bundle_path)
    original = bundle.artifact("onnx") / "model.onnx"
    judged, more = small_images(40, seed=1), small_images(100, seed=2)
    engine = ENGINES.get("onnxruntime").open(original, threads=1)
    pricing = Pricing(
        bundle=bundle,
        material=Material(calibration=small_images(24), judged=judged, source="memory", digest="0" * 64, findings=()),
        original=answer(engine, bundle, judged),
        size_bytes=original.stat().st_size,
        budget=Budget(max_drop=max_drop),
        further=Answered(images=more, original=answer(engine, bundle, more)),
    )
    return pricing, original


def test_further_images_are_asked_about_where_the_budget_holds(bundle_path: Path, tmp_path: Path) -> None:
    pricing, original = _pricing(bundle_path, max_drop=100.0)
    made = Search(original, pricing, folder=tmp_path, listener=Silent()).run().best.path
    here = dataclasses.replace(pricing, further=None)(made, "onnxruntime").moved
    assert pricing.further is not None
    there = mean_shift(pricing.further.original, pricing.answers(made, "onnxruntime", pricing.further.images))
    assert here != pytest.approx(there, rel=1e-3)
    assert pricing(made, "onnxruntime").moved == pytest.approx((40 * here + 100 * there) / 140)
    refused = dataclasses.replace(pricing, budget=Budget(max_drop=-1.0))
    assert refused(made, "onnxruntime").moved == pytest.approx(here)


@pytest.mark.parametrize(("expected", "severity"), [(0.03, "warning"), (0.001, "info")])
def test_few_validation_images_are_a_warning_where_more_answers_change_than_may_be_lost(
    bundle_path: Path, tmp_path: Path, expected: float, severity: str
) -> None:
    pricing, original = _pricing(bundle_path, max_drop=0.5)
    found = Search(original, pricing, folder=tmp_path, listener=Silent()).run()
    assert found.chosen is not None
    cost = dataclasses.replace(found.chosen.price, expected_flips=expected, moved=0.25)
    one = Judged(
        candidate=dataclasses.replace(found.chosen, price=cost),
        ms=0.5,
        ratio=Metric(value=0.5, low=0.4, high=0.6, n=30),
        verdict="shipped",
    )
    outcome = Outcome(
        bundle=pricing.bundle,
        material=pricing.material,
        original=pricing.original,
        original_bytes=pricing.size_bytes,
        original_ms={"onnxruntime": 1.0},
        found=found,
        judged=(one,),
        budget=pricing.budget,
    )
    report = compression_report(outcome, "photos-1")
    (finding,) = [finding for finding in report.findings if finding.code == "few_images"]
    assert finding.severity == severity
    assert f"40 validation images can show that at most {cost.accuracy_drop.high:.1f} points" in finding.message
    assert f"{expected:.1%} of them change on images like these" in finding.message
    assert any(f"{expected:.1%} of answers change" in sentence for sentence in report.body["summary"])
    row = dict(zip(report.tables["candidates"].columns, report.tables["candidates"].rows[-1], strict=True))
    assert row["expected_flips"] == pytest.approx(40 * expected)
    assert row["moved"] == 0.25
