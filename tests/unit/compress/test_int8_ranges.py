"""Ranges of activations: closed forms and properties."""

from __future__ import annotations

import numpy as np
import pytest

from smallgraph import SPEC, small_images
from sortal.compress.graph import simplified, tensors, with_outputs
from sortal.compress.ranges import METHODS, Seen, clipping_point, entropy, min_max, percentile, see_tensors
from sortal.runtime.engines.onnxruntime import open_session


def _seen(values: np.ndarray) -> Seen:
    return Seen(low=float(values.min()), high=float(values.max()), values=values.astype(np.float32))


def test_every_method_has_zero_as_a_level_and_stays_within_what_was_seen() -> None:
    random = np.random.default_rng(0)
    for values in (random.normal(size=5_000), random.exponential(size=5_000), random.normal(4.0, 0.1, 5_000)):
        seen = _seen(values)
        for choose in METHODS.values():
            low, high = choose(seen)
            assert low <= 0.0 <= high
            assert min(seen.low, 0.0) <= low < high <= max(seen.high, 0.0) + 1e-6


def test_a_tensor_of_zeros_has_a_range() -> None:
    assert {choose(_seen(np.zeros(100))) for choose in METHODS.values()} == {(0.0, 1.0)}


def test_one_far_value_stretches_min_max_alone() -> None:
    values = np.append(np.random.default_rng(1).uniform(0.0, 1.0, 200_000), 50.0)
    seen = _seen(values)
    assert min_max(seen) == (0.0, 50.0)
    assert percentile(seen)[1] == pytest.approx(1.0, abs=1e-3)
    assert entropy(seen)[1] < 10.0


def test_uniform_magnitudes_are_not_clipped() -> None:
    values = np.linspace(0.0, 1.0, 100_001, dtype=np.float32)
    assert clipping_point(values, 1.0) > 0.97


def test_tensors_are_seen_whole_at_their_ends(graph_file) -> None:
    model = simplified(graph_file)
    names = tensors(model)
    images = small_images(10)
    session = open_session(with_outputs(model, names), threads=1, where="test")
    seen = see_tensors(session, names, SPEC, images.pixels)
    assert set(seen) == set(names) >= {"image", "embedding", "logits", "feature_map"}
    normalized = (images.pixels / 255 - 0.5) / 0.25
    assert seen["image"].low == pytest.approx(normalized.min(), abs=1e-5)
    assert seen["image"].high == pytest.approx(normalized.max(), abs=1e-5)
    for one in seen.values():
        assert one.low <= one.values.min() <= one.values.max() <= one.high
