"""OpenVINO on the CPU: reads the same ONNX file, or OpenVINO's own IR, often faster on Intel CPUs.

float32 is forced: OpenVINO's default on CPUs that know bfloat16 is bfloat16, which changes answers and, without AMX,
is slower. `import openvino` by itself reports to Google Analytics (openvino/tools/ovc/__init__.py), which
`import_openvino` prevents.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError, MissingExtraError
from sortal.runtime.engines.batches import Run, Shape, run_batch
from sortal.runtime.engines.onnxruntime import OUTPUTS, UNKNOWN_SCORE, as_answers, as_outputs, check_interface
from sortal.runtime.engines.protocol import Outputs
from sortal.runtime.network_input import NetworkInput
from sortal.runtime.onnx_file import read_model
from sortal.runtime.signal_stack import kept_signal_stack

_METADATA = "framework"
_TELEMETRY = "openvino_telemetry"


class OpenVinoEngine:
    """A compiled OpenVINO model over `image -> logits, embedding, feature_map`."""

    name = "openvino"

    def __init__(
        self,
        request: Any,
        tensor: Callable[..., Any],
        metadata: dict[str, str],
        where: str,
        *,
        shape: Shape,
        outputs: tuple[str, ...] = OUTPUTS,
    ):
        self._request = request
        self._tensor = tensor
        """The package's class of tensors."""
        self._busy = threading.Lock()
        """Who holds it may set the request's input and read its outputs."""
        self._shape = shape
        self._outputs = outputs
        self._answers = tuple(name for name in outputs if name in (OUTPUTS[0], UNKNOWN_SCORE))
        self._where = where
        self.metadata = metadata

    def run(self, batch: NetworkInput) -> Outputs:
        """See `Engine.run`. One batch at a time: a request has one input."""
        return as_outputs(self._fetched(batch, self._run))

    def run_answers(self, batch: NetworkInput) -> Outputs:
        """See `FetchesAnswers.run_answers`."""
        return as_answers(self._fetched(batch, self._run_answers))

    def _fetched(self, batch: NetworkInput, run: Run) -> list[NDArray[np.float32]]:
        with self._busy:
            if self._request is None:
                raise BundleError("this engine is closed", where=self._where)
            try:
                return run_batch(run, batch, self._shape, where=self._where)
            except RuntimeError as error:
                raise BundleError(f"the model failed: {_last_line(error)}", where=self._where) from error

    def close(self) -> None:
        """See `Engine.close`. Waits for a batch that runs."""
        with self._busy:
            self._request = None

    def _run(self, batch: NetworkInput) -> list[NDArray[np.float32]]:
        return self._inferred(batch, self._outputs)

    def _run_answers(self, batch: NetworkInput) -> list[NDArray[np.float32]]:
        return self._inferred(batch, self._answers)

    def _inferred(self, batch: NetworkInput, outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """The named outputs. The batch is not copied, and each output once: the request writes over its own.

        A tensor made here and outputs asked for by name spare the search of the package for what it was given.
        """
        flags = batch.flags
        given = batch if flags.c_contiguous and flags.writeable else np.array(batch, order="C")
        self._request.infer(self._tensor(given, shared_memory=True), share_outputs=True)
        return [np.array(self._request.get_tensor(name).data) for name in outputs]


def open(path: Path, *, threads: int) -> OpenVinoEngine:
    """Open `model.onnx` or `model.xml` (with its `.bin` beside it). Raises as the registry's page says."""
    package = import_openvino()
    core = package.Core()
    try:
        model = core.read_model(path) if path.suffix == ".xml" else core.read_model(read_model(path), b"")
        check_interface(_names(model.inputs), _names(model.outputs), str(path))
        with kept_signal_stack():
            compiled = core.compile_model(model, "CPU", _settings(threads))
    except RuntimeError as error:
        raise BundleError(f"OpenVINO cannot open the model: {_last_line(error)}", where=str(path)) from error
    shape = tuple(size.get_length() if size.is_static else None for size in model.inputs[0].get_partial_shape())
    outputs = (*OUTPUTS, UNKNOWN_SCORE) if UNKNOWN_SCORE in _names(model.outputs) else OUTPUTS
    with kept_signal_stack():
        request = compiled.create_infer_request()
    return OpenVinoEngine(request, package.Tensor, _metadata(model), str(path), shape=shape, outputs=outputs)


def import_openvino() -> Any:
    """The package, imported while its telemetry cannot be: it then uses a stub of its own and calls nobody."""
    with without_telemetry():
        try:
            import openvino
        except ImportError as error:
            raise MissingExtraError("openvino", "openvino") from error
    return openvino


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Inside, the package that reports to Google Analytics cannot be imported."""
    blocked = _TELEMETRY not in sys.modules
    if blocked:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if blocked:
            del sys.modules[_TELEMETRY]


def _settings(threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }


def _names(ports: Any) -> list[str]:
    return [name for port in ports for name in sorted(port.get_names())]


def _metadata(model: Any) -> dict[str, str]:
    """ONNX metadata as OpenVINO carries it over: `rt_info["framework"]`."""
    if not model.has_rt_info([_METADATA]):
        return {}
    found = model.get_rt_info([_METADATA]).value
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _last_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "unknown reason"
