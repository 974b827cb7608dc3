"""LiteRT, formerly TensorFlow Lite: opens `model.tflite`, in float32 or quantized, on this machine's CPU or a delegate.

`litert` computes with XNNPACK, which is part of LiteRT. A variant names another way: `litert:cpu` the plain kernels,
`litert:gpu`, `litert:npu` and the like a delegate (see `delegates.LIBRARIES`), `litert:path/to/library.so` any other.
A delegate that cannot be loaded, or refuses the model, leaves the CPU to compute; `name` and `ran_on` say so.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError, MissingExtraError
from sortal.runtime.engines import delegates
from sortal.runtime.engines.batches import Shape, run_batch
from sortal.runtime.engines.onnxruntime import OUTPUTS, UNKNOWN_SCORE, as_outputs, check_interface
from sortal.runtime.engines.protocol import Outputs
from sortal.runtime.network_input import NetworkInput

IMAGE = "image"
FEATURE_MAP = "sortal.feature_map"
"""Metadata entry: the order of the dimensions of the output `feature_map`, `NHWC`; absent where they are `NCHW`."""

_IDENTIFIER = b"TFL3"
"""Of the format, in bytes 4 to 7."""


class LiteRtEngine:
    """An interpreter over `image -> logits, embedding, feature_map`, which are found by name."""

    def __init__(self, interpreter: Any, *, name: str, ran_on: str, metadata: dict[str, str], where: str):
        self.name = name
        self.ran_on = ran_on
        """Who computes: `XNNPACK (68 of 70 operators), plain kernels (2)`."""
        self.metadata = metadata
        self._runner = _runner(interpreter, where)
        self._where = where
        self._busy = threading.Lock()
        taken = self._runner.get_input_details()[IMAGE]
        self._input: dict[str, Any] = taken
        self._shape: Shape = tuple(None if size < 0 else int(size) for size in taken["shape_signature"])
        self._outputs: dict[str, dict[str, Any]] = self._runner.get_output_details()

    def run(self, batch: NetworkInput) -> Outputs:
        """See `Engine.run`. One batch at a time: an interpreter cannot be shared between threads."""
        with self._busy:
            if self._runner is None:
                raise BundleError("this engine is closed", where=self._where)
            try:
                outputs = run_batch(self._run, batch, self._shape, where=self._where)
            except (ValueError, RuntimeError) as error:
                raise BundleError(f"the model failed: {_first_line(error)}", where=self._where) from error
        return as_outputs(outputs)

    def run_all(self, batch: NetworkInput) -> dict[str, NDArray[Any]]:
        """See `TellsAll.run_all`."""
        names = list(self._outputs)
        with self._busy:
            if self._runner is None:
                raise BundleError("this engine is closed", where=self._where)

            def run(part: NetworkInput) -> list[NDArray[Any]]:
                found = self._runner(**{IMAGE: _quantized(part, self._input)})
                return [found[name] for name in names]

            return dict(zip(names, run_batch(run, batch, self._shape, where=self._where), strict=True))

    def close(self) -> None:
        """See `Engine.close`."""
        with self._busy:
            self._runner = None

    def _run(self, batch: NetworkInput) -> list[NDArray[np.float32]]:
        results = self._runner(**{IMAGE: _quantized(batch, self._input)})
        names = (*OUTPUTS, UNKNOWN_SCORE) if UNKNOWN_SCORE in results else OUTPUTS
        floats = {name: _dequantized(results[name], self._outputs[name]) for name in names}
        if self.metadata.get(FEATURE_MAP) == "NHWC":
            floats["feature_map"] = np.ascontiguousarray(floats["feature_map"].transpose(0, 3, 1, 2))
        return [floats[name] for name in names]


def open(path: Path, *, threads: int, variant: str | None = None) -> LiteRtEngine:
    """Open a .tflite file. Raises BundleError when it is damaged or is not an image classifier of Sortal's, InputError
    for a variant that is unknown."""
    where, asked = str(path), variant or delegates.XNNPACK
    opened = _opened(_read(path), asked, threads, where)
    ran_on = delegates.told(opened.interpreter, asked, outside=opened.outside)
    name = "litert" if asked == delegates.XNNPACK else f"litert:{asked}"
    if opened.reason:
        name, ran_on = f"litert (XNNPACK instead of {asked})", f"{ran_on}; not {asked}: {opened.reason}"
    metadata = _metadata(opened.data, where)
    return LiteRtEngine(opened.interpreter, name=name, ran_on=ran_on, metadata=metadata, where=where)


def open_interpreter(path: Path, *, threads: int = 1) -> Any:
    """LiteRT's own interpreter with XNNPACK and its tensors allocated. Raises BundleError for a damaged file."""
    return _opened(_read(path), delegates.XNNPACK, threads, str(path)).interpreter


@dataclass(frozen=True, kw_only=True)
class _Opened:
    data: bytes
    interpreter: Any
    outside: int = 0
    """How many parts of the model a loaded delegate took."""
    reason: str = ""
    """Why it does not compute as asked; empty where it does."""


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the model: {error.strerror}", where=str(path)) from error
    if data[4:8] != _IDENTIFIER:
        raise BundleError("not a TFLite model", where=str(path), received=f"{len(data):,} bytes")
    return data


def _opened(data: bytes, asked: str, threads: int, where: str) -> _Opened:
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise MissingExtraError("ai-edge-litert", "mobile") from error

    def made(**more: Any) -> _Opened:
        try:
            interpreter = Interpreter(model_content=data, num_threads=threads, **more)
            outside = delegates.parts(interpreter)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"LiteRT cannot open the model: {_first_line(error)}", where=where) from error
        return _Opened(data=data, interpreter=interpreter, outside=outside)

    if asked == delegates.XNNPACK:
        return made()
    if asked == delegates.CPU:
        return made(experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    loaded, usual = delegates.load(asked), made()
    if loaded.delegate is None:
        return replace(usual, reason=loaded.reason)
    try:
        return made(experimental_delegates=[loaded.delegate])
    except BundleError as error:
        return replace(usual, reason=f"{loaded.library} refused the model ({error.what})")


def _runner(interpreter: Any, where: str) -> Any:
    """The signature that has the interface of an artifact; its names are looked at before anything is run."""
    signatures = interpreter.get_signature_list()
    found = next(iter(signatures.items()), None)
    check_interface(
        [] if found is None else list(found[1]["inputs"]), [] if found is None else list(found[1]["outputs"]), where
    )
    return interpreter.get_signature_runner(None if found is None else found[0])


def _quantized(batch: NetworkInput, tensor: dict[str, Any]) -> NDArray[Any]:
    """What the model takes: the batch itself, or its levels where the input tensor holds quantized float values."""
    scales, zeros = _levels(tensor)
    if batch.dtype == tensor["dtype"] or not len(scales):
        return batch
    limits = np.iinfo(tensor["dtype"])
    levels = np.rint(batch / scales[0]) + zeros[0]
    clipped: NDArray[Any] = np.clip(levels, limits.min, limits.max).astype(tensor["dtype"])
    return clipped


def _dequantized(values: NDArray[Any], tensor: dict[str, Any]) -> NDArray[np.float32]:
    scales, zeros = _levels(tensor)
    if values.dtype == np.float32 or not len(scales):
        return np.asarray(values, np.float32)
    return (values.astype(np.float32) - np.float32(zeros[0])) * np.float32(scales[0])


def _levels(tensor: dict[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    parameters = tensor["quantization_parameters"]
    return parameters["scales"], parameters["zero_points"]


def _metadata(data: bytes, where: str) -> dict[str, str]:
    """Entries `sortal.*` of a file that LiteRT found well-formed. Raises BundleError where data is kept elsewhere."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    if model.ExternalBuffersLength():
        raise BundleError("the model keeps tensors in other files, which is refused", where=where)
    found: dict[str, str] = {}
    for entry in (model.Metadata(number) for number in range(model.MetadataLength())):
        name = (entry.Name() or b"").decode("utf-8", "replace")
        if name.startswith("sortal."):
            stored = model.Buffers(entry.Buffer()).DataAsNumpy()
            found[name] = bytes(stored).decode("utf-8", "replace") if isinstance(stored, np.ndarray) else ""
    return found


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
