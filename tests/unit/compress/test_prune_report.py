"""The report of a chain: every step a row, the price by class, and the pictures that read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sortal.compress.judge import price
from sortal.compress.picture import draw_candidates
from sortal.compress.pricing import Budget
from sortal.compress.prune.chain import Chain, Link
from sortal.compress.prune.picture import accuracy_range, draw_sensitivity
from sortal.compress.prune.report import chain_report
from sortal.compress.prune.sensitivity import Sensitivity
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions
from sortal.core.report import Metric

TRUE = np.repeat([0, 1], 20)


def _answers(wrong: int) -> Predictions:
    index = TRUE.copy()
    index[:wrong] = 1
    sure = np.full((40, 2), 0.1, np.float32)
    sure[np.arange(40), index] = 0.9
    return Predictions(
        names=tuple(map(str, range(40))),
        labels=LabelSet(names=("good", "bad")),
        bundle_id="b",
        index=index,
        probabilities=sure,
        abstained=np.zeros(40, bool),
        errors={},
    )


def _stage(share: float, objection: str = "") -> Any:
    bundle = SimpleNamespace(id="b", labels=LabelSet(names=("good", "bad")))
    return SimpleNamespace(
        share=share, objection=objection, parameters=int(1e6 * (1 - share)), macs=int(1e8 * (1 - share)), notes=(),
        bundle=bundle,
    )  # fmt: skip


def _link(name: str, wrong: int, ms: float, verdict: str) -> Link:
    images: Any = SimpleNamespace(labels=TRUE, groups=None)
    return Link(
        name=name,
        method="FP32",
        engine="onnxruntime",
        parameters=1_000_000,
        macs=100_000_000,
        size_bytes=int(1e6 * ms),
        price=price(_answers(0), _answers(wrong), images),
        ms=ms,
        ratio=Metric(value=ms / 4),
        before=None if verdict == "the original" else 0.5,
        verdict=verdict,
    )


@pytest.fixture
def chain() -> Chain:
    material: Any = SimpleNamespace(
        judged=SimpleNamespace(labels=TRUE, names=tuple(map(str, range(40)))), source="photos", digest="d", findings=()
    )
    seen = Sensitivity(
        whole=0.95,
        images=40,
        shares=(0.25, 0.5, 0.75),
        accuracy={"layer1": (0.9, 0.8, 0.4), "layer2": (0.95, 0.9, 0.9)},
        left_out=2,
    )
    stages = (_stage(0.0), _stage(0.3), _stage(0.5, "loses 7.50 points, more than 3"))
    pruned: Any = SimpleNamespace(
        stages=stages, taken=1, original=stages[0], stage=stages[1], measure="macs", share=0.5
    )
    made: Any = SimpleNamespace(path=Path("small"))
    links = (
        _link("the original", 0, 4.0, "the original"),
        _link("30% cut", 1, 3.0, "shipped"),
        _link("50% cut", 3, 2.0, "loses 7.50 points, more than 3"),
    )
    return Chain(
        bundle=made,
        pruned=pruned,
        sensitivity=seen,
        int8=None,
        links=links,
        material=material,
        budget=Budget(max_drop=3.0),
    )


def test_the_largest_cut_that_held_is_named_and_what_did_not_hold_is_said(chain: Chain) -> None:
    report = chain_report(chain, "photos-1")
    assert report.body["verdict"] == "shipped"
    assert report.body["shipped"] == ["bundle"]
    assert "the largest cut that kept the budget" in report.body["summary"][0]
    assert {one.code for one in report.findings} >= {"cut_over_budget", "sensitivity_of_largest"}
    rows = [
        dict(zip(report.tables["candidates"].columns, row, strict=True)) for row in report.tables["candidates"].rows
    ]
    assert [row["candidate"] for row in rows] == ["the original", "30% cut", "50% cut"]
    assert [row["drop_points"] for row in rows] == pytest.approx([0.0, 2.5, 7.5])
    assert report.tables["classes"].rows[0][:2] == ("good", 20)  # the class that pays comes first
    assert report.metrics["macs_ratio"].value == pytest.approx(0.7)


def test_pictures_are_drawn_of_it(chain: Chain, tmp_path: Path) -> None:
    report = chain_report(chain, "photos-1")
    for path in (
        draw_candidates(report, tmp_path / "a.png"),
        draw_sensitivity(chain.sensitivity, tmp_path / "b.png"),
    ):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_picture_has_room_for_a_cut_that_gains(chain: Chain) -> None:
    seen = replace(chain.sensitivity, whole=0.6, accuracy={"stem": (0.7, 0.65, 0.5)})
    assert accuracy_range(seen) == (0.5, 0.7)
