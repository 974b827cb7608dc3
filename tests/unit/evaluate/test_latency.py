"""Latency is measured on encoded images, with its conditions; the network alone is told apart."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sortal.core.errors import DataError, ImageError
from sortal.core.preprocess import PreprocessSpec, normalize
from sortal.evaluate.latency import latency_table, measure_latency, measure_network, processor


class Slow:
    """Stands where a classifier does: it counts what it is asked."""

    engine, threads = "onnxruntime", 2
    preprocess = PreprocessSpec(size=(8, 8), resize="stretch", mean=(0.5,) * 3, std=(0.5,) * 3)

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.network: list[tuple[int, ...]] = []

    def predict(self, images: list[bytes], *, batch: int = 32) -> Any:
        self.asked.append(len(images))
        broken = {row: ("corrupt", "no image") for row, data in enumerate(images) if not data.startswith(b"\x89PNG")}
        return SimpleNamespace(errors=broken, batch=batch)

    def network_input(self, pixels: Any) -> Any:
        return normalize(self.preprocess, pixels)

    def run_network(self, batch: Any) -> None:
        self.network.append(batch.shape)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((10, 12, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_calls_are_warmed_up_counted_and_batched(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    slow = Slow()
    found = measure_latency(slow, [png(), tmp_path / "a.png"], batch=4, warmup=3, repeats=20)  # type: ignore[arg-type]
    assert slow.asked == [2] + [4] * 23, "one look for images that cannot be read, then warm-up and calls"
    assert (found.n, found.batch, found.threads, found.engine, found.end_to_end) == (20, 4, 2, "onnxruntime", True)
    assert found.p99_upper_ms is None, "20 calls bound no 99th percentile"
    assert found.p50_ms <= found.p95_ms <= found.p99_ms
    assert found.images_per_s == pytest.approx(4000 / found.mean_ms)
    assert found.machine == processor()


def test_the_network_alone_gets_prepared_input_and_is_told_apart() -> None:
    slow = Slow()
    alone = measure_network(slow, [png()], warmup=1, repeats=5)  # type: ignore[arg-type]
    assert slow.network == [(1, 3, 8, 8)] * 6
    assert not slow.asked
    table = latency_table([measure_latency(slow, [png()], repeats=300), alone])  # type: ignore[arg-type]
    assert [row[0] for row in table.rows] == ["from bytes to decision", "network alone"]
    assert table.rows[0][table.columns.index("p99_upper_ms")] is not None


def test_nothing_is_measured_on_nothing_or_on_damage() -> None:
    with pytest.raises(DataError, match="there is none"):
        measure_latency(Slow(), [])  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="image 1 of the measurement"):
        measure_latency(Slow(), [png(), b"no image"])  # type: ignore[arg-type]


def test_a_time_limit_ends_it() -> None:
    assert measure_latency(Slow(), [png()], repeats=10**6, seconds=0.01).n < 10**6  # type: ignore[arg-type]
