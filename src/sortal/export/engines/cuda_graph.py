"""CUDA graphs: an exported graph on an NVIDIA GPU by PyTorch, its kernels recorded once for each batch size and started
together. Small networks spend much of a call on starting kernels one by one; this is what is saved.

A recorded graph has fixed shapes and fixed addresses, so there is one for each of a few batch sizes, with buffers of
its own that stay where they are; a batch is filled up to the next size, one above the largest is cut
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). Where nothing can be recorded (no CUDA, or an
operation that cannot be recorded) the same module runs eagerly and `fallback` says why. Sortal's tests have no GPU:
recording was never run by them, the fallback is.

`python -m sortal.export.engines.cuda_graph model.onnx` says what a call costs with and without.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sortal.core.errors import BundleError, SortalError
from sortal.runtime.engines.batches import Shape, run_batch
from sortal.runtime.engines.onnxruntime import OUTPUTS, UNKNOWN_SCORE, as_outputs, check_interface
from sortal.runtime.engines.pieces import Floats, run_in_pieces
from sortal.runtime.engines.protocol import Outputs
from sortal.runtime.network_input import NetworkInput
from sortal.runtime.onnx_file import read_model

SIZES = (1, 2, 4, 8, 16, 32)
"""Batch sizes that are recorded where the graph's batch is free."""
_WARM_UP = 3
"""Calls before recording, in which libraries choose kernels and take memory."""

Program = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A recorded batch size: what is copied in, what is started, what is read."""

    graph: torch.cuda.CUDAGraph
    image: Tensor
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Medians of one call of the module in milliseconds, input already on the GPU."""

    size: int
    eager_ms: float
    recorded_ms: float

    @property
    def saved_ms(self) -> float:
        """What starting kernels one by one costs more than starting them together."""
        return self.eager_ms - self.recorded_ms


class CudaGraphEngine:
    """`image -> logits, embedding, feature_map` with one recorded graph for each batch size, made on first use."""

    name = "cuda-graph"

    def __init__(
        self, program: Program, names: Sequence[str], shape: Shape, metadata: dict[str, str], where: str, device: str
    ):
        self._program: Program | None = program
        wanted = (*OUTPUTS, UNKNOWN_SCORE) if UNKNOWN_SCORE in names else OUTPUTS
        self._places = [list(names).index(name) for name in wanted]
        self._shape = shape
        self._where = where
        self._device = torch.device(device)
        self._busy = threading.Lock()
        """Who holds it may fill the buffers and read from them."""
        self._recorded: dict[int, Recorded] = {}
        self.sizes: tuple[int, ...] = SIZES if shape[0] is None else (shape[0],)
        self.metadata = metadata
        self.fallback = None if self._device.type == "cuda" else "there is no CUDA device, so nothing is recorded"
        """Why calls run eagerly; None while they are recorded."""

    def run(self, batch: NetworkInput) -> Outputs:
        """See `Engine.run`. One batch at a time: recorded calls share their buffers."""
        with self._busy, torch.inference_mode():
            if self._program is None:
                raise BundleError("this engine is closed", where=self._where)
            return as_outputs(run_batch(self._cut, batch, self._shape, where=self._where))

    def close(self) -> None:
        """See `Engine.close`."""
        with self._busy:
            self._recorded.clear()
            self._program = None

    def cost(self, size: int, *, calls: int = 100) -> Cost | None:
        """What a call with `size` images costs eagerly and recorded; None where nothing can be recorded."""
        shape = (size, *(one or 1 for one in self._shape[1:]))
        kind = torch.uint8 if self.metadata.get("sortal.input", "float32").startswith("uint8") else torch.float32
        with torch.inference_mode():
            recorded = self._recording(torch.zeros(shape, dtype=kind, device=self._device))
            if recorded is None or self._program is None:
                return None
            program, image = self._program, recorded.image
            eager_ms = _median_ms(lambda: program(image), calls)
            return Cost(size=size, eager_ms=eager_ms, recorded_ms=_median_ms(recorded.graph.replay, calls))

    def _cut(self, batch: NetworkInput) -> list[Floats]:
        if self.fallback is not None:
            return self._call(batch)
        return run_in_pieces(
            self._call, batch, largest=self.sizes[-1], size_for=lambda count: size_for(count, self.sizes)
        )

    def _call(self, batch: NetworkInput) -> list[Floats]:
        given = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
        recorded = None if self.fallback is not None else self._recording(given)
        try:
            outputs = self._eager(given) if recorded is None else _replayed(recorded, given)
        except RuntimeError as error:
            raise BundleError(f"the model failed: {_first_line(error)}", where=self._where) from error
        return [outputs[place].float().cpu().numpy() for place in self._places]

    def _eager(self, image: Tensor) -> tuple[Tensor, ...]:
        if self._program is None:
            raise BundleError("this engine is closed", where=self._where)
        return self._program(image)

    def _recording(self, given: Tensor) -> Recorded | None:
        """The recorded graph for this size; None, and `fallback` from now on, where it cannot be recorded."""
        size = len(given)
        if self.fallback is None and size not in self._recorded:
            try:
                self._recorded[size] = record(self._eager, given)
            except (RuntimeError, BundleError) as error:
                self.fallback = f"the network cannot be recorded: {_first_line(error)}"
        return self._recorded.get(size) if self.fallback is None else None


def record(program: Program, example: Tensor) -> Recorded:
    """Record one call of `program` on a CUDA tensor. Raises RuntimeError where that cannot be done."""
    image = example.clone()
    aside = torch.cuda.Stream(device=image.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(image.device))
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP):
            program(image)
    torch.cuda.current_stream(image.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = program(image)
    return Recorded(graph=graph, image=image, outputs=outputs)


def size_for(count: int, sizes: Sequence[int]) -> int:
    """The smallest of the ascending `sizes` that holds `count` images, the largest where none does."""
    return next((size for size in sizes if size >= count), sizes[-1])


def open(path: Path, *, threads: int) -> CudaGraphEngine:  # noqa: ARG001  kernels run on the GPU
    """Open an ONNX file on the GPU, or where there is none on the CPU, eagerly.

    Raises BundleError for a file that is damaged, is no artifact of Sortal or has an operator that is not known here.
    """
    import onnx

    from sortal.export.torch_graph import as_module

    data = read_model(path)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own errors have no base in common
        raise BundleError("not an ONNX model: damaged or cut off", where=str(path)) from error
    names = [output.name for output in model.graph.output]
    check_interface([one.name for one in model.graph.input], names, str(path))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = as_module(model, where=str(path)).eval().to(device)
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    shape = tuple(one.dim_value or None for one in sizes)
    metadata = {item.key: item.value for item in model.metadata_props}
    return CudaGraphEngine(module, names, shape, metadata, str(path), device)


def main(arguments: Sequence[str]) -> int:
    """Print what a call costs for each batch size; 0 where it was measured, 3 where nothing can be recorded."""
    parser = argparse.ArgumentParser(prog="python -m sortal.export.engines.cuda_graph")
    parser.add_argument("model", type=Path, help="an exported ONNX file")
    asked = parser.parse_args(arguments)
    try:
        engine = open(asked.model, threads=1)
        costs = [engine.cost(size) for size in engine.sizes]
    except SortalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if engine.fallback is not None:
        print(f"not measured: {engine.fallback}")
        return 3
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    for cost in costs:
        if cost is not None:
            print(f"batch {cost.size}: {cost.eager_ms:.3f} ms eager, {cost.recorded_ms:.3f} ms recorded, "
                  f"{cost.saved_ms:.3f} ms saved")  # fmt: skip
    return 0


def _replayed(recorded: Recorded, given: Tensor) -> tuple[Tensor, ...]:
    recorded.image.copy_(given)
    recorded.graph.replay()
    return recorded.outputs


def _median_ms(call: Callable[[], Any], calls: int) -> float:
    times = []
    for _ in range(calls):
        torch.cuda.synchronize()
        started_s = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - started_s))
    return statistics.median(times)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
