"""Recorded CUDA graphs, as far as that goes without CUDA: which size a batch is filled up to, and the way back to eager
calls with its reason. The last test is for machines with a GPU."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from sortal.core.errors import BundleError
from sortal.export.engines import cuda_graph
from sortal.export.engines.cuda_graph import SIZES, CudaGraphEngine, main, size_for
from sortal.runtime.engines import ENGINES

WITHOUT_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")


def batch(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, 24, 20)).astype(np.float32)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (3, 4), (4, 4), (5, 8), (32, 32), (40, 32)])
def test_a_batch_is_filled_up_to_the_next_size(count, size):
    assert size_for(count, SIZES) == size


@WITHOUT_CUDA
def test_without_cuda_it_runs_eagerly_and_says_so(exported: Path, capsys):
    engine = cuda_graph.open(exported, threads=1)
    expected = ENGINES.get("onnxruntime").open(exported, threads=1).run(batch(5))
    found = engine.run(batch(5))
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4)
    np.testing.assert_allclose(found.feature_map, expected.feature_map, atol=1e-4)
    assert "no CUDA device" in str(engine.fallback)
    assert engine.cost(1) is None
    assert main([str(exported)]) == 3
    assert capsys.readouterr().out.startswith("not measured: there is no CUDA device")


def test_what_cannot_be_recorded_is_run_eagerly_from_then_on(monkeypatch):
    """The refusal is CUDA's; here it comes before any GPU is touched."""

    def refuse(program, example):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    def program(image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return image.mean((2, 3)), image.mean((2, 3)), image

    monkeypatch.setattr(cuda_graph, "record", refuse)
    names = ("logits", "embedding", "feature_map")
    engine = CudaGraphEngine(program, names, (None, 3, 24, 20), {}, "model.onnx", "cpu")
    engine.fallback = None  # as on a machine with CUDA
    found = engine.run(batch(3))
    np.testing.assert_allclose(found.logits, batch(3).mean((2, 3)), atol=1e-6)
    assert engine.fallback == "the network cannot be recorded: operation not permitted when stream is capturing"
    assert len(engine.run(batch(40)).logits) == 40


def test_threads_that_share_recorded_buffers_get_their_own_answers(monkeypatch):
    """A recorded call reads and writes where it always did, so a second one may not begin before its answers are out.
    In the place of the GPU's recording stands one that yields between reading and writing."""

    class Recording:
        def __init__(self, image: torch.Tensor, outputs: tuple[torch.Tensor, ...]):
            self.image, self.outputs = image, outputs

        def replay(self) -> None:
            time.sleep(0.001)
            mean = self.image.mean((2, 3))
            time.sleep(0.001)
            for output, value in zip(self.outputs, (mean, mean, self.image), strict=True):
                output.copy_(value)

    def recorded(program, example):
        outputs = tuple(torch.zeros_like(one, dtype=torch.float64) for one in program(example))  # copied on the way out
        image = example.clone()
        return cuda_graph.Recorded(graph=Recording(image, outputs), image=image, outputs=outputs)

    def program(image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return image.mean((2, 3)), image.mean((2, 3)), image

    monkeypatch.setattr(cuda_graph, "record", recorded)
    names = ("logits", "embedding", "feature_map")
    engine = CudaGraphEngine(program, names, (None, 3, 24, 20), {}, "model.onnx", "cpu")
    engine.fallback = None
    given = [np.full((2, 3, 24, 20), number, np.float32) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for number, outputs in enumerate(pool.map(engine.run, given)):
            np.testing.assert_array_equal(outputs.logits, number)
    engine.close()
    with pytest.raises(BundleError, match="closed"):
        engine.run(given[0])


def test_damaged_files_are_refused(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError):
        cuda_graph.open(tmp_path / "model.onnx", threads=1)
    assert main([str(tmp_path / "model.onnx")]) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("count", [1, 3, 40])
def test_on_a_gpu_recorded_calls_equal_eager_ones(count, exported: Path):
    engine = cuda_graph.open(exported, threads=1)
    first, found = engine.run(batch(count)), engine.run(batch(count))
    assert engine.fallback is None
    np.testing.assert_array_equal(first.logits, found.logits)
    expected = ENGINES.get("onnxruntime").open(exported, threads=1).run(batch(count))
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-2)
    cost = engine.cost(1)
    assert cost is not None
    assert cost.recorded_ms > 0
