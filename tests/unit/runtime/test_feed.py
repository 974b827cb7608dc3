"""Batches for the network: what needs work is handed to threads, what needs none is not; either way the same pixels."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from sortal.core.preprocess import PreprocessSpec, normalize
from sortal.runtime import feed
from sortal.runtime.feed import prepared_batches
from sortal.runtime.sources import items_of

SPEC = PreprocessSpec(size=(16, 16), resize="stretch", mean=(0.5,) * 3, std=(0.25,) * 3)


def arrays(count: int, side: int = 16) -> list[np.ndarray]:
    random = np.random.default_rng(count)
    return [random.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture
def threads_used(monkeypatch):
    """Names of the threads that prepare."""
    seen: set[str] = set()
    prepare = feed.prepare

    def noted(*given):
        seen.add(threading.current_thread().name)
        return prepare(*given)

    monkeypatch.setattr(feed, "prepare", noted)
    return seen


def batches(images, spec=SPEC, batch=4):
    return list(prepared_batches(items_of(images), spec, batch=batch, workers=2))


def test_arrays_of_the_networks_size_are_batched_without_threads(threads_used):
    images = arrays(10)
    found = batches(images)
    np.testing.assert_array_equal(np.concatenate([part.pixels for part in found]), np.stack(images))
    assert [part.end for part in found] == [4, 8, 10]
    assert [part.rows for part in found] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    assert threads_used == {threading.current_thread().name}


def test_a_single_image_waits_for_no_thread(threads_used):
    [found] = batches(arrays(1, side=40))
    assert found.pixels.shape == (1, 16, 16, 3)
    assert threads_used == {threading.current_thread().name}


@pytest.mark.parametrize(
    ("images", "spec"),
    [
        (arrays(3, side=40), SPEC),
        (arrays(3), SPEC.model_copy(update={"resize": "crop", "crop": 0.8})),
        (arrays(3), SPEC.model_copy(update={"region": (0.1, 0.1, 0.9, 0.9)})),
        (arrays(3), SPEC.model_copy(update={"window": (100.0, 50.0)})),
        ([*arrays(2), b"no image"], SPEC),
    ],
)
def test_what_needs_work_is_handed_to_threads(images, spec, threads_used):
    batches(images, spec)
    assert threading.current_thread().name not in threads_used
    assert threads_used


def test_a_wrong_array_among_ready_ones_is_a_row_of_its_own():
    images = arrays(3)
    images[1] = images[1].astype(np.float32)
    [found] = batches(images)
    assert found.rows == (0, 2)
    assert found.errors[1][0] == "unsupported_mode"


@pytest.mark.parametrize(("depth", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_normalizing_is_one_multiplication_and_one_addition(depth, dtype):
    spec = PreprocessSpec(size=(5, 7), depth=depth, mean=(0.1, 0.5, 0.9), std=(0.2, 0.25, 0.3))
    pixels = np.random.default_rng(0).integers(0, spec.maximum + 1, (4, 5, 7, 3)).astype(dtype)
    scale = (1 / (spec.maximum * np.array(spec.std))).astype(np.float32)
    offset = (-np.array(spec.mean) / np.array(spec.std)).astype(np.float32)
    expected = (pixels.astype(np.float32) * scale + offset).transpose(0, 3, 1, 2)
    found = normalize(spec, pixels)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(normalize(spec, pixels[:, ::-1, ::-1]), expected[:, :, ::-1, ::-1])
