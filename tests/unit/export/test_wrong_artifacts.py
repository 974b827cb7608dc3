"""Every known way of being wrong is refused at the right stage; what only looks wrong passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sortal.export.gate import check_artifact
from sortal.export.parity import is_equal
from sortal.runtime.sources import Item, items_of
from wrong import FAULTS, resize_on, turned


@pytest.fixture(scope="module")
def images() -> list[Item]:
    """Colored noise with detail down to a pixel, and one of it lying on its side."""
    random = np.random.default_rng(11)
    colors = random.integers(20, 236, (24, 1, 1, 3))
    noise = np.clip(colors + random.normal(0, 60, (24, 60, 52, 3)), 0, 255).astype(np.uint8)
    items = list(items_of(list(noise)))
    return [*items, turned(items[0])]


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_refused_at_the_right_stage(name: str, exported: Path, images: list[Item], tmp_path: Path) -> None:
    fault = FAULTS[name]
    pair = fault.make(exported, tmp_path)
    report = check_artifact(pair.original, pair.artifact, images, decision=pair.decision, precision=pair.precision)
    assert not is_equal(report)
    assert report.body["stage"] == fault.stage, report.findings[0].message
    assert report.findings[0].code == f"diverges_at_{fault.stage}"


def test_onnx_resize_is_right_but_for_tall_images_where_antialias_is_not_ignored(
    exported: Path, images: list[Item], tmp_path: Path
) -> None:
    """Pillow 13 resizes the columns of tall images first, ONNX Runtime the rows of every image."""
    pair = resize_on("onnxruntime")(exported, tmp_path)
    report = check_artifact(pair.original, pair.artifact, images, decision=pair.decision)
    assert report.metrics["flips"].value == 0
    assert report.metrics["max_probability_difference"].value < 1e-3
    assert {row for finding in report.findings for row in finding.rows} <= {"made: narrow"}
