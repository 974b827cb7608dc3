"""ExecuTorch on this machine's CPU: opens `model.pte` as a phone would, with the XNNPACK kernels that are in its wheel.

A .pte file is a flatbuffer with a fixed instruction set; nothing in it is pickled or compiled. Its metadata is what the
method `sortal` of the program returns. ExecuTorch writes notes about the processor to stderr when it is first used.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError, MissingExtraError
from sortal.export.engines.torch import OUTPUT_NAMES, read_metadata, read_shape
from sortal.runtime.engines.batches import Shape, run_batch
from sortal.runtime.engines.onnxruntime import OUTPUTS, UNKNOWN_SCORE, as_outputs, check_interface
from sortal.runtime.engines.protocol import Outputs
from sortal.runtime.network_input import NetworkInput

FORWARD, SAID = "forward", "sortal"
"""Methods of the program: the network, and what it says about itself."""

_IDENTIFIER = b"ET12"
"""Of the format, in bytes 4 to 7."""
_POOL = threading.Lock()
_USERS: weakref.WeakSet[ExecuTorchEngine] = weakref.WeakSet()
"""XNNPACK has one pool of threads for the whole process, and a loaded network keeps a pointer to it: a pool that is
replaced under it crashes the process. So the engine that is opened while no other is open decides how many there are.
"""


class ExecuTorchEngine:
    """A loaded program over `image -> logits, embedding, feature_map`; its batch is fixed."""

    name = "executorch"

    def __init__(self, program: Any, metadata: dict[str, str], *, threads: int, where: str):
        self.metadata = metadata
        self._program = program
        with _POOL:
            if not _USERS:
                _use_threads(threads)
            self._method = program.load_method(FORWARD)
            _USERS.add(self)
        self._where = where
        names = metadata.get(OUTPUT_NAMES, "").split(",")
        check_interface(["image"], names, where)
        wanted = (*OUTPUTS, UNKNOWN_SCORE) if UNKNOWN_SCORE in names else OUTPUTS
        self._names = names
        self._places = [names.index(name) for name in wanted]
        self._shape: Shape = read_shape(metadata, where)

    def run(self, batch: NetworkInput) -> Outputs:
        """See `Engine.run`. One batch at a time: a method cannot be shared between threads."""
        if self._method is None:
            raise BundleError("this engine is closed", where=self._where)
        try:
            return as_outputs(run_batch(self._run, batch, self._shape, where=self._where))
        except (RuntimeError, ValueError) as error:
            raise BundleError(f"the model failed: {_first_line(error)}", where=self._where) from error

    def close(self) -> None:
        """See `Engine.close`."""
        self._method = self._program = None
        _USERS.discard(self)

    def run_all(self, batch: NetworkInput) -> dict[str, NDArray[Any]]:
        """See `TellsAll.run_all`."""
        import torch

        def run(part: NetworkInput) -> list[NDArray[Any]]:
            with _POOL:
                outputs = self._method.execute([torch.from_numpy(np.ascontiguousarray(part))])
                return [np.array(output.numpy()) for output in outputs]

        if self._method is None:
            raise BundleError("this engine is closed", where=self._where)
        return dict(zip(self._names, run_batch(run, batch, self._shape, where=self._where), strict=True))

    def _run(self, batch: NetworkInput) -> list[NDArray[np.float32]]:
        import torch

        with _POOL:
            outputs = self._method.execute([torch.from_numpy(np.ascontiguousarray(batch))])
            return [np.array(outputs[place].float().numpy()) for place in self._places]


def open(path: Path, *, threads: int) -> ExecuTorchEngine:
    """Open a .pte file. Raises BundleError when it is damaged or no artifact of Sortal's, MissingExtraError where
    ExecuTorch is not installed."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the model: {error.strerror}", where=str(path)) from error
    if data[4:8] != _IDENTIFIER:
        raise BundleError("not a program of ExecuTorch", where=str(path), received=f"{len(data):,} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ExecuTorch's own parts
            from executorch.runtime import Runtime
    except ImportError as error:
        raise MissingExtraError("executorch", "executorch") from error
    try:
        program = Runtime.get().load_program(data)
        if not {FORWARD, SAID} <= program.method_names:
            raise BundleError("the program is no artifact of Sortal", where=str(path))
        said = str(program.load_method(SAID).execute([])[0])
        return ExecuTorchEngine(program, read_metadata(said, str(path)), threads=threads, where=str(path))
    except RuntimeError as error:
        raise BundleError(f"ExecuTorch cannot open the model: {_first_line(error)}", where=str(path)) from error


def _use_threads(count: int) -> None:
    from executorch.extension.pybindings import portable_lib

    if portable_lib._threadpool_get_thread_count() != count:
        portable_lib._unsafe_reset_threadpool(count)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0][:300]
