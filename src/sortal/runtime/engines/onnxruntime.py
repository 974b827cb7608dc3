"""ONNX Runtime, by default on the CPU: the default engine, part of the plain installation.

`onnxruntime:XnnpackExecutionProvider`, or `onnxruntime:xnnpack`, asks for another execution provider; what it does not
take, and everything where it cannot be had, is done by the CPU, and `name` and `ran_on` say so (see `providers`). The
provider is named because ONNX Runtime otherwise picks one and falls back silently; threads are given because it
hangs or crashes under a cpuset when it counts them itself (onnxruntime issues 7207, 10113, 10166).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError, MissingExtraError
from sortal.runtime.engines.batches import Run, Shape, run_batch
from sortal.runtime.engines.protocol import Outputs
from sortal.runtime.engines.providers import ASSIGNMENT, CPU, Provider, find_provider, told
from sortal.runtime.network_input import NetworkInput
from sortal.runtime.onnx_file import read_model

OUTPUTS = ("logits", "embedding", "feature_map")
UNKNOWN_SCORE = "unknown_score"
"""A fourth output that some graphs have."""
_ERRORS_ONLY = 3


class OnnxRuntimeEngine:
    """An ONNX Runtime session over `image -> logits, embedding, feature_map`."""

    def __init__(self, session: Any, where: str, *, name: str = "onnxruntime", ran_on: str = ""):
        self.name = name
        self.ran_on = ran_on
        """Who computes, where another provider than the CPU was asked for."""
        self._session = session
        self._where = where
        self._shape: Shape = tuple(size if isinstance(size, int) else None for size in session.get_inputs()[0].shape)
        scores = [output.name for output in session.get_outputs() if output.name == UNKNOWN_SCORE]
        self._outputs, self._answers = [*OUTPUTS, *scores], [*OUTPUTS[:1], *scores]
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def run(self, batch: NetworkInput) -> Outputs:
        """See `Engine.run`."""
        return as_outputs(self._fetched(batch, self._run))

    def run_answers(self, batch: NetworkInput) -> Outputs:
        """See `FetchesAnswers.run_answers`."""
        return as_answers(self._fetched(batch, self._run_answers))

    def _fetched(self, batch: NetworkInput, run: Run) -> list[NDArray[np.float32]]:
        if self._session is None:
            raise BundleError("this engine is closed", where=self._where)
        try:
            return run_batch(run, batch, self._shape, where=self._where)
        except BundleError:
            raise
        except Exception as error:  # ONNX Runtime raises a dozen classes without a common base of its own
            raise BundleError(f"the model failed: {_first_line(error)}", where=self._where) from error

    def close(self) -> None:
        """See `Engine.close`."""
        self._session = None

    def _run(self, batch: NetworkInput) -> list[NDArray[np.float32]]:
        return list(self._session.run(self._outputs, {"image": batch}))

    def _run_answers(self, batch: NetworkInput) -> list[NDArray[np.float32]]:
        return list(self._session.run(self._answers, {"image": batch}))


def open(path: Path, *, threads: int, variant: str | None = None) -> OnnxRuntimeEngine:
    """Open an ONNX file, for the execution provider `variant` where one is named.

    Raises BundleError when the file is damaged, keeps data elsewhere or is not an image classifier, InputError for a
    provider that is unknown.
    """
    data, where = read_model(path), str(path)
    session, name, ran_on = _chosen(data, variant, threads, where)
    check_interface([item.name for item in session.get_inputs()], [o.name for o in session.get_outputs()], where)
    return OnnxRuntimeEngine(session, where, name=name, ran_on=ran_on)


def _chosen(data: bytes, variant: str | None, threads: int, where: str) -> tuple[Any, str, str]:
    """A session, the name of the engine that it is, and who computes."""
    if variant is None:
        return open_session(data, threads=threads, where=where), "onnxruntime", ""
    provider = find_provider(_import(), variant)
    if not provider.reason:
        try:
            session = open_session(data, threads=threads, where=where, provider=provider)
            return session, f"onnxruntime:{variant}", told(session)
        except BundleError as error:
            provider = replace(provider, reason=error.what)
    session = open_session(data, threads=threads, where=where, provider=Provider(name=CPU))
    return session, f"onnxruntime (CPU instead of {variant})", f"{told(session)}; not {variant}: {provider.reason}"


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnxruntime") from error
    return onnxruntime


def open_session(data: bytes, *, threads: int, where: str, provider: Provider | None = None) -> Any:
    """A session over checked model bytes, whatever its inputs and outputs are called; on the CPU unless told else."""
    onnxruntime = _import()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Decoding runs beside the network; a thread that spins while it waits takes the CPU from it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Memory patterns are kept for every batch size seen and never given back.
    options.enable_mem_pattern = False
    asked: dict[str, Any] = {"providers": [CPU]}
    if provider is not None:
        options.add_session_config_entry(ASSIGNMENT, "1")
        asked = {"providers": list(dict.fromkeys([provider.name, CPU]))}
        if provider.devices:
            options.add_provider_for_devices(list(provider.devices), {})
            asked = {}
    try:  # without fall-back: ONNX Runtime would print, and say nothing of it afterwards
        return onnxruntime.InferenceSession(data, options, enable_fallback=0, **asked)
    except Exception as error:  # see OnnxRuntimeEngine.run
        raise BundleError(f"ONNX Runtime cannot open the model: {_first_line(error)}", where=where) from error


def as_outputs(arrays: list[NDArray[np.float32]]) -> Outputs:
    """Three arrays in the order of `OUTPUTS`, and the unknown score (N,) where the graph has one."""
    score = arrays[3].reshape(-1) if len(arrays) > len(OUTPUTS) else None
    return Outputs(logits=arrays[0], embedding=arrays[1], feature_map=arrays[2], unknown_score=score)


def as_answers(arrays: list[NDArray[np.float32]]) -> Outputs:
    """Logits, and the unknown score (N,) where the graph has one; embedding and feature map were not fetched."""
    logits, score = arrays[0], arrays[1].reshape(-1) if len(arrays) > 1 else None
    nothing = logits[:, :0]
    return Outputs(logits=logits, embedding=nothing, feature_map=nothing[:, :, None, None], unknown_score=score)


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
