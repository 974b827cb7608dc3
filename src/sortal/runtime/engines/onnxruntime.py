"""ONNX Runtime on the CPU: the default engine, part of the plain installation.

The provider is named because ONNX Runtime otherwise picks one and falls back silently; threads are given because it
hangs or crashes under a cpuset when it counts them itself (onnxruntime issues 7207, 10113, 10166).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError, MissingExtraError
from sortal.runtime.engines.batches import Shape, run_batch
from sortal.runtime.engines.protocol import Outputs
from sortal.runtime.network_input import NetworkInput
from sortal.runtime.onnx_file import read_model

OUTPUTS = ("logits", "embedding", "feature_map")
UNKNOWN_SCORE = "unknown_score"
"""A fourth output that some graphs have."""
_ERRORS_ONLY = 3


class OnnxRuntimeEngine:
    """An ONNX Runtime session over `image -> logits, embedding, feature_map`."""

    name = "onnxruntime"

    def __init__(self, session: Any, where: str):
        self._session = session
        self._where = where
        self._shape: Shape = tuple(size if isinstance(size, int) else None for size in session.get_inputs()[0].shape)
        has_score = UNKNOWN_SCORE in [output.name for output in session.get_outputs()]
        self._outputs = (*OUTPUTS, UNKNOWN_SCORE) if has_score else OUTPUTS
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def run(self, batch: NetworkInput) -> Outputs:
        """See `Engine.run`."""
        if self._session is None:
            raise BundleError("this engine is closed", where=self._where)
        try:
            outputs = run_batch(self._run, batch, self._shape, where=self._where)
        except BundleError:
            raise
        except Exception as error:  # ONNX Runtime raises a dozen classes without a common base of its own
            raise BundleError(f"the model failed: {_first_line(error)}", where=self._where) from error
        return as_outputs(outputs)

    def close(self) -> None:
        """See `Engine.close`."""
        self._session = None

    def _run(self, batch: NetworkInput) -> list[NDArray[np.float32]]:
        return list(self._session.run(self._outputs, {"image": batch}))


def open(path: Path, *, threads: int) -> OnnxRuntimeEngine:
    """Open an ONNX file. Raises BundleError when it is damaged, keeps data elsewhere or is not an image classifier."""
    data = read_model(path)
    session = open_session(data, threads=threads, where=str(path))
    check_interface([item.name for item in session.get_inputs()], [o.name for o in session.get_outputs()], str(path))
    return OnnxRuntimeEngine(session, str(path))


def open_session(data: bytes, *, threads: int, where: str) -> Any:
    """A session over checked model bytes, whatever its inputs and outputs are called."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Decoding runs beside the network; a thread that spins while it waits takes the CPU from it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Memory patterns are kept for every batch size seen and never given back.
    options.enable_mem_pattern = False
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see OnnxRuntimeEngine.run
        raise BundleError(f"ONNX Runtime cannot open the model: {_first_line(error)}", where=where) from error


def as_outputs(arrays: list[NDArray[np.float32]]) -> Outputs:
    """Three arrays in the order of `OUTPUTS`, and the unknown score (N,) where the graph has one."""
    score = arrays[3].reshape(-1) if len(arrays) > len(OUTPUTS) else None
    return Outputs(logits=arrays[0], embedding=arrays[1], feature_map=arrays[2], unknown_score=score)


def check_interface(inputs: list[str], outputs: list[str], where: str) -> None:
    """Raises BundleError unless the graph has the one input and the three outputs that every artifact has."""
    if inputs != ["image"] or not set(OUTPUTS) <= set(outputs):
        raise BundleError(
            "the model is no artifact of Sortal: it needs the input image and the outputs " + ", ".join(OUTPUTS),
            where=where,
            received=f"inputs {', '.join(inputs)}; outputs {', '.join(outputs)}",
            hint="a classifier from elsewhere becomes a bundle with: sortal import model.onnx --labels names.txt",
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
