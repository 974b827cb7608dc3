"""Batches for the network: what needs work is handed to threads, what needs none is not; either way the same pixels."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from sortal.core.preprocess import PreprocessSpec, normalize, prepare
from sortal.data.decode import to_pixels
from sortal.runtime import feed
from sortal.runtime.feed import prepared_batches
from sortal.runtime.network_input import InputMemory
from sortal.runtime.sources import items_of

SPEC = PreprocessSpec(size=(16, 16), resize="stretch", mean=(0.5,) * 3, std=(0.25,) * 3)


def arrays(count: int, side: int = 16) -> list[np.ndarray]:
    random = np.random.default_rng(count)
    return [random.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture
def threads_used(monkeypatch):
    """Names of the threads that prepare."""
    seen: set[str] = set()
    prepare = feed._prepare

    def noted(*given):
        seen.add(threading.current_thread().name)
        return prepare(*given)

    monkeypatch.setattr(feed, "_prepare", noted)
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


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
@pytest.mark.parametrize(("depth", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_arrays_that_are_ready_are_what_preparing_makes_of_them(resize, depth, dtype):
    spec = PreprocessSpec(size=(16, 16), resize=resize, crop=1.0, depth=depth, mean=(0.5,) * 3, std=(0.25,) * 3)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (16, 16, *more)).astype(kind) for kind in (np.uint8, np.uint16)
              for more in ((), (1,), (3,), (4,))]  # fmt: skip
    [found] = batches(images, spec, batch=len(images))
    assert found.pixels.dtype == dtype
    assert not found.errors
    for image, pixels in zip(images, found.pixels, strict=True):
        np.testing.assert_array_equal(pixels, prepare(spec, to_pixels(image, depth=depth)))


def test_normalizing_into_given_memory_is_the_same():
    pixels = np.stack(arrays(3))
    memory = np.full((3, 3, 16, 16), np.nan, np.float32)
    assert normalize(SPEC, pixels, out=memory) is memory
    np.testing.assert_array_equal(memory, normalize(SPEC, pixels))


def test_memory_is_lent_to_one_at_a_time_and_for_batches_that_it_holds():
    memory, many, few = InputMemory(), np.stack(arrays(4)), np.stack(arrays(2))
    first, second = memory.lend(many), memory.lend(many)
    assert not np.shares_memory(first, second)
    memory.give_back(first)
    assert memory.lend(few) is first
    memory.give_back(first)
    assert memory.lend(np.stack(arrays(5))).shape == (5, 3, 16, 16)
    memory.give_back(first)
    assert memory.lend(np.stack(arrays(1, side=8))).shape == (1, 3, 8, 8)


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
