"""Nearest neighbors: those of all distances, in any block size, never of one's own unit."""

from __future__ import annotations

import numpy as np
import pytest

from sortal.data import neighbors
from sortal.data.neighbors import nearest, references

FEATURES = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)


@pytest.mark.parametrize("block", [7, 1024])
@pytest.mark.parametrize("size", [1, 3])
def test_neighbors_are_those_of_all_distances(monkeypatch: pytest.MonkeyPatch, block: int, size: int) -> None:
    monkeypatch.setattr(neighbors, "_BLOCK", block)
    chosen, units = np.arange(0, 60, 2), np.arange(60) // size
    found = nearest(FEATURES, chosen, units, count=10)
    whole = np.square(FEATURES[:, None] - FEATURES[chosen][None]).sum(2)
    whole[units[:, None] == units[chosen]] = np.inf
    assert np.allclose(found.squares, np.sort(whole, axis=1)[:, :10], atol=1e-4)
    assert np.array_equal(found.references, np.argsort(whole, axis=1)[:, :10])


def test_rows_without_another_unit_have_none() -> None:
    found = nearest(FEATURES, np.arange(60), np.zeros(60, np.int64), count=3)
    assert np.isinf(found.squares).all()


def test_references_are_all_or_a_sample_in_order() -> None:
    assert references(5, 5).tolist() == [0, 1, 2, 3, 4]
    some = references(1000, 30, seed=1)
    assert len(set(some.tolist())) == 30
    assert (np.diff(some) > 0).all()
    assert np.array_equal(some, references(1000, 30, seed=1))
