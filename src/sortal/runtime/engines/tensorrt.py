"""TensorRT on NVIDIA GPUs: opens the `model.plan` that `sortal.export.tensorrt` built on this very machine.

Written for TensorRT 10 and 11 (named tensors, `execute_async_v3`); the calls are checked against the Python bindings of
11.4, the engine itself was never run by Sortal's tests: they have no GPU. No torch; memory by `cuda.bindings`.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from sortal.core.errors import BundleError, MissingExtraError
from sortal.runtime.engines.batches import run_batch
from sortal.runtime.engines.cuda_memory import DeviceBuffers, current_gpu
from sortal.runtime.engines.onnxruntime import OUTPUTS, UNKNOWN_SCORE, as_outputs, check_interface
from sortal.runtime.engines.pieces import Floats, run_in_pieces
from sortal.runtime.engines.protocol import Outputs
from sortal.runtime.network_input import NetworkInput
from sortal.runtime.plan_file import BatchProfile, PlanInfo, PlanMachine, read_plan, refuse_other_machine

INPUT = "image"


class TensorRtEngine:
    """An execution context over `image -> logits, embedding, feature_map`, with memory for the largest batch."""

    name = "tensorrt"

    def __init__(self, engine: Any, info: PlanInfo, where: str, *, types: dict[str, Any]):
        self._info = info
        self._where = where
        self._types = types
        self._busy = threading.Lock()
        """Who holds it may fill the buffers and read from them."""
        self._outputs = (*OUTPUTS, UNKNOWN_SCORE) if UNKNOWN_SCORE in types else OUTPUTS
        self._context: Any = engine.create_execution_context()
        if self._context is None:
            raise BundleError("TensorRT has no memory for this engine", where=where)
        self._buffers = DeviceBuffers()
        self.metadata = dict(info.metadata)
        try:
            self._reserve()
        except BaseException:
            self._buffers.close()
            raise

    def run(self, batch: NetworkInput) -> Outputs:
        """See `Engine.run`. Batches above the profile are cut, batches below it filled up; one batch at a time."""
        with self._busy:
            if self._context is None:
                raise BundleError("this engine is closed", where=self._where)
            return as_outputs(run_batch(self._cut, batch, (None, *self._info.input), where=self._where))

    def close(self) -> None:
        """See `Engine.close`."""
        with self._busy:
            self._context = None
            self._buffers.close()

    def _cut(self, batch: NetworkInput) -> list[Floats]:
        profile = self._info.profile
        return run_in_pieces(self._execute, batch, largest=profile.max, size_for=lambda count: max(count, profile.min))

    def _reserve(self) -> None:
        """Memory for every tensor at the largest batch; its address stays the same for all batches."""
        self._shape_for(self._info.profile.max)
        for name, kind in self._types.items():
            size = int(np.prod(self._shape_of(name))) * np.dtype(kind).itemsize
            if not self._context.set_tensor_address(name, self._buffers.allocate(name, size)):
                raise BundleError(f"TensorRT does not take memory for {name}", where=self._where)

    def _execute(self, batch: NetworkInput) -> list[Floats]:
        given = np.ascontiguousarray(batch, self._types[INPUT])
        self._shape_for(len(given))
        self._buffers.upload(INPUT, given)
        if not self._context.execute_async_v3(self._buffers.stream):
            raise BundleError("the model failed: TensorRT did not start it", where=self._where)
        found = [self._buffers.download(name, self._shape_of(name), self._types[name]) for name in self._outputs]
        self._buffers.wait()
        return [np.asarray(array, np.float32) for array in found]

    def _shape_for(self, count: int) -> None:
        check_in_profile(count, self._info.profile, where=self._where)
        if not self._context.set_input_shape(INPUT, (count, *self._info.input)):
            raise BundleError("TensorRT refuses the shape of this batch", where=self._where, received=str(count))

    def _shape_of(self, name: str) -> tuple[int, ...]:
        return tuple(int(size) for size in self._context.get_tensor_shape(name))


def open(path: Path, *, threads: int) -> TensorRtEngine:  # noqa: ARG001  a GPU is not told how many CPU threads
    """Open `model.plan` with its sidecar.

    Raises BundleError when either is missing, altered or of another machine, MissingExtraError without TensorRT or
    `cuda.bindings`, MachineError without a GPU.
    """
    data, info = read_plan(path)
    trt = import_tensorrt()
    refuse_other_machine(path, info, this_machine(trt))
    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(data)
    if engine is None:
        raise BundleError("TensorRT cannot open the engine; its reason is on stderr", where=str(path))
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    taken = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    check_interface(taken, [name for name in names if name not in taken], str(path))
    types = {name: trt.nptype(engine.get_tensor_dtype(name)) for name in names}
    return TensorRtEngine(engine, info, str(path), types=types)


def import_tensorrt() -> Any:
    """The package. Raises MissingExtraError where it is absent or its libraries do not load."""
    try:
        import tensorrt
    except ImportError as error:
        raise MissingExtraError("tensorrt", "tensorrt") from error
    return tensorrt


def this_machine(trt: Any) -> PlanMachine:
    """What a plan that is built here is tied to. Raises as `cuda_memory.current_gpu`."""
    name, capability = current_gpu()
    return PlanMachine(tensorrt=str(trt.__version__), gpu=name, compute_capability=capability)


def check_in_profile(count: int, profile: BatchProfile, *, where: str) -> None:
    """Raise BundleError for a number of images that the engine was not built for."""
    if not profile.min <= count <= profile.max:
        raise BundleError(
            f"the engine takes batches of {profile.min} to {profile.max} images",
            where=where,
            received=str(count),
            hint="build it for others: python -m sortal.export.tensorrt model.onnx model.plan --max 64",
        )
