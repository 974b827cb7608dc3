"""Products of many pairs of long vectors: right whatever the chunks, in memory that does not grow with the pairs."""

from __future__ import annotations

import tracemalloc

import numpy as np

from sortal.data.candidates import products


def test_products_are_those_of_each_pair() -> None:
    generator = np.random.Generator(np.random.Philox(key=1))
    values = generator.standard_normal((50, 3000), dtype=np.float32)
    first, second = (generator.integers(0, 50, 6000) for _ in range(2))
    expected = (values.astype(np.float64) @ values.T.astype(np.float64))[first, second]
    np.testing.assert_allclose(products(values, first, second), expected, rtol=1e-4, atol=1e-2)
    assert products(values, first[:0], second[:0]).shape == (0,)


def test_long_vectors_of_many_pairs_are_never_copied_at_once() -> None:
    values = np.ones((4, 4096), np.float32)
    rows = np.zeros(20_000, np.int64)
    tracemalloc.start()
    products(values, rows, rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6, f"{peak:,} bytes, of which two copies of all pairs would take 655 million"
