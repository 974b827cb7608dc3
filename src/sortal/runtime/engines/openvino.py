"""OpenVINO on the CPU: reads the same ONNX file, or OpenVINO's own IR, often faster on Intel CPUs.

float32 is forced: OpenVINO's default on CPUs that know bfloat16 is bfloat16, which changes answers and, without AMX,
is slower. `import openvino` by itself reports to Google Analytics (openvino/tools/ovc/__init__.py), which
`import_openvino` prevents.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError, MissingExtraError
from sortal.runtime.engines.batches import Shape, run_batch
from sortal.runtime.engines.onnxruntime import OUTPUTS, UNKNOWN_SCORE, as_outputs, check_interface
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
        metadata: dict[str, str],
        where: str,
        *,
        shape: Shape,
        outputs: tuple[str, ...] = OUTPUTS,
    ):
        self._request = request
        self._shape = shape
        self._outputs = outputs
        self._where = where
        self.metadata = metadata

    def run(self, batch: NetworkInput) -> Outputs:
        """See `Engine.run`."""
        if self._request is None:
            raise BundleError("this engine is closed", where=self._where)
        try:
            outputs = run_batch(self._run, batch, self._shape, where=self._where)
        except RuntimeError as error:
            raise BundleError(f"the model failed: {_last_line(error)}", where=self._where) from error
        return as_outputs(outputs)

    def close(self) -> None:
        """See `Engine.close`."""
        self._request = None

    def _run(self, batch: NetworkInput) -> list[NDArray[np.float32]]:
        # Shared both ways, so that the batch is not copied and each output once: the request writes over its own.
        results = self._request.infer({"image": batch}, share_inputs=True, share_outputs=True)
        return [np.array(results[name]) for name in self._outputs]


def open(path: Path, *, threads: int) -> OpenVinoEngine:
    """Open `model.onnx` or `model.xml` (with its `.bin` beside it). Raises as the registry's page says."""
    core = import_openvino().Core()
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
    return OpenVinoEngine(request, _metadata(model), str(path), shape=shape, outputs=outputs)


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
