"""How far answers move, on which images that is looked at, and what is said where validation images are few."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from smallgraph import LABELS, SPEC, small_images
from sortal.compress.images import Material, further_images
from sortal.compress.judge import answer
from sortal.compress.movement import Movement, movement
from sortal.compress.pricing import Answered, Budget, Pricing
from sortal.compress.report import Outcome, compression_report
from sortal.compress.search import Search
from sortal.compress.verdict import Judged
from sortal.core.bundle import open_bundle
from sortal.core.decision import DecisionSpec
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


def test_distances_on_a_hand_example() -> None:
    """Probabilities of 3 to 1 that become 1 to 3, and two answers that stay."""
    one, other = _answers([[np.log(3), 0], [9, 0], [9, 0]]), _answers([[0, np.log(3)], [9, 0], [9, 0]])
    found = movement(one, other)
    assert (found.images, found.changed) == (3, 1)
    assert found.share == pytest.approx(1 / 3)
    assert found.divergence == pytest.approx((0.75 * np.log(3) - 0.25 * np.log(3)) / 3, rel=1e-5)
    assert found.margin_shift == 0.0  # the margin is 0.5 before and after
    closer = movement(one, _answers([[0.0, 0.0], [9, 0], [9, 0]]))
    assert closer.margin_shift == pytest.approx(0.5 / 3, rel=1e-5)


def test_an_answer_that_is_not_given_any_more_is_a_changed_decision() -> None:
    sure, unsure = _answers([[3, 0], [9, 0]], threshold=0.9), _answers([[1, 0], [9, 0]], threshold=0.9)
    assert movement(sure, unsure).changed == 1


def test_two_lists_of_images_count_by_their_length() -> None:
    few = Movement(images=1, changed=1, divergence=4.0, margin_shift=1.0)
    many = Movement(images=3, changed=0, divergence=0.0, margin_shift=0.2)
    assert few.joined(many) == Movement(images=4, changed=1, divergence=1.0, margin_shift=pytest.approx(0.4))


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


def test_further_images_are_asked_about_where_the_budget_holds(bundle_path: Path) -> None:
    pricing, original = _pricing(bundle_path, max_drop=0.5)
    cost = pricing(original, "onnxruntime")
    assert cost.further == Movement(images=100, changed=0, divergence=pytest.approx(0.0), margin_shift=0.0)
    assert cost.whole.images == 140
    refused, _ = _pricing(bundle_path, max_drop=-1.0)
    assert refused(original, "onnxruntime").further is None


@pytest.mark.parametrize(("changed", "severity"), [(3, "warning"), (0, "info")])
def test_few_validation_images_are_a_warning_where_further_decisions_change(
    bundle_path: Path, tmp_path: Path, changed: int, severity: str
) -> None:
    pricing, original = _pricing(bundle_path, max_drop=0.5)
    found = Search(original, pricing, folder=tmp_path, listener=Silent()).run()
    assert found.chosen is not None
    more = Movement(images=100, changed=changed, divergence=0.01, margin_shift=0.01)
    cost = dataclasses.replace(found.chosen.price, further=more)
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
    assert f"Of 100 training images that set no ranges {changed:.1f}% are decided otherwise" in finding.message
    assert any(f"{changed} of 100 training images" in sentence for sentence in report.body["summary"])
    row = dict(zip(report.tables["candidates"].columns, report.tables["candidates"].rows[-1], strict=True))
    assert row["further_flips"] == changed
    assert row["divergence"] == pytest.approx(cost.whole.divergence)
