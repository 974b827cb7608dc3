"""Memory and a stream of an NVIDIA GPU by way of NVIDIA's own Python bindings (`cuda.bindings`), without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import MachineError, MissingExtraError

Array = NDArray[Any]


def import_cuda() -> Any:
    """`cuda.bindings.runtime`. Raises MissingExtraError."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise MissingExtraError("cuda-bindings", "tensorrt") from error
    return runtime


def current_gpu() -> tuple[str, str]:
    """Name and compute capability of the GPU that is used, `("NVIDIA H200", "9.0")`.

    Raises MissingExtraError without the bindings, MachineError where there is no GPU or its driver is too old.
    """
    cuda = import_cuda()
    [number] = _checked(cuda, cuda.cudaGetDevice())
    [found] = _checked(cuda, cuda.cudaGetDeviceProperties(number))
    return bytes(found.name).split(b"\0")[0].decode(), f"{found.major}.{found.minor}"


class DeviceBuffers:
    """Named pieces of device memory and the stream that fills and empties them; close it to give them back."""

    def __init__(self) -> None:
        self._cuda = import_cuda()
        self._addresses: dict[str, int] = {}
        [self._stream] = _checked(self._cuda, self._cuda.cudaStreamCreate())

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream)

    def allocate(self, name: str, size: int) -> int:
        """The address of `size` bytes for `name`. Raises MachineError when the device has too little memory."""
        [address] = _checked(self._cuda, self._cuda.cudaMalloc(size))
        self._addresses[name] = int(address)
        return int(address)

    def upload(self, name: str, array: Array) -> None:
        """Begin to copy a contiguous array to the memory of `name`; it must live until `wait`."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self._addresses[name], array.ctypes.data, array.nbytes, kind)

    def download(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Begin to copy the memory of `name` into a new array, which is filled after `wait`."""
        array = np.empty(shape, dtype)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, self._addresses[name], array.nbytes, kind)
        return array

    def wait(self) -> None:
        """Until everything on the stream is done. Raises MachineError where any of it failed."""
        _checked(self._cuda, self._cuda.cudaStreamSynchronize(self._stream))

    def close(self) -> None:
        """Give memory and stream back, whatever state they are in."""
        for address in self._addresses.values():
            self._cuda.cudaFree(address)
        self._addresses.clear()
        if self._stream is not None:
            self._cuda.cudaStreamDestroy(self._stream)
            self._stream = None

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        _checked(self._cuda, self._cuda.cudaMemcpyAsync(target, source, size, kind, self._stream))


def _checked(cuda: Any, answer: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a call gives behind its error code. Raises MachineError that has CUDA's own words."""
    code, *rest = answer
    if int(code) != 0:
        _, words = cuda.cudaGetErrorString(code)
        text = words.decode() if isinstance(words, bytes) else str(words)
        hint = "nvidia-smi shows whether there is a GPU, its driver and who uses its memory"
        raise MachineError(f"the GPU cannot be used: {text}", received=str(code.name), hint=hint)
    return tuple(rest)
