"""The unknown score inside an exported graph: a fourth output `unknown_score` (N,), so that whoever runs the file knows
strangers without any other file.

The operations are those that the method itself emits (`evaluate.unknown`); what they need is stored in the graph, half
precision where the method says so, a few hundred kilobytes in all. `unknown_gap` compares them with the method's own
arithmetic on real images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.bundle import Bundle
from sortal.core.errors import BundleError
from sortal.core.preprocess import Pixels, normalize
from sortal.core.report import Finding, Metric, Report
from sortal.evaluate.unknown import METHODS
from sortal.export.nodes import Nodes
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.onnxruntime import UNKNOWN_SCORE
from sortal.runtime.engines.protocol import Engine, Outputs
from sortal.runtime.threads import allowed_cpus

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 18
"""Reductions take their axes as an input since then."""

TOLERANCE = 1e-2
"""Of scores, relative to the largest. Ranks among images that hardly differ turn rounding of float32 into parts of a
thousand; a wrong operation is off by far more."""

_PREFIX = "unknown."
_BATCH = 32


def set_unknown(path: Path, method: str, parameters: Mapping[str, NDArray[Any]]) -> None:
    """Give an exported file the output `unknown_score`; one that it has already is replaced.

    Raises BundleError where the file's operation set is too old or the output's name is taken by a tensor inside.
    """
    import onnx

    from sortal.export.graph import save_model
    from sortal.runtime.onnx_file import read_model

    model = onnx.load_model_from_string(read_model(path))
    write_unknown(model, method, parameters, where=str(path))
    save_model(model, path)


def write_unknown(
    model: onnx.ModelProto, method: str, parameters: Mapping[str, NDArray[Any]], *, where: str = "model"
) -> None:
    """As `set_unknown`, on a loaded model in place."""
    from onnx import TensorProto, helper

    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise BundleError(f"an unknown score needs operation set {OLDEST_OPSET}", where=where, received=str(opset))
    remove_unknown(model)
    graph = Nodes(model.graph, _PREFIX)
    score = METHODS.get(method).emit(graph, dict(parameters), "embedding", "logits")
    model.graph.node.append(helper.make_node("Identity", [score], [UNKNOWN_SCORE], name=f"{_PREFIX}output"))
    logits = next(output for output in model.graph.output if output.name == "logits")
    batch = logits.type.tensor_type.shape.dim[0]
    size = batch.dim_param or batch.dim_value
    model.graph.output.append(helper.make_tensor_value_info(UNKNOWN_SCORE, TensorProto.FLOAT, [size]))


def remove_unknown(model: onnx.ModelProto) -> None:
    """Take the output and all that computes it out again, in place."""
    graph = model.graph
    for part in (graph.node, graph.initializer):
        for item in [item for item in part if item.name.startswith(_PREFIX)]:
            part.remove(item)
    for output in [output for output in graph.output if output.name == UNKNOWN_SCORE]:
        graph.output.remove(output)


def unknown_gap(outputs: Outputs, method: str, parameters: Mapping[str, NDArray[Any]]) -> float:
    """The largest difference between the graph's scores and the method's own, from the graph's embedding and logits;
    relative to the largest score, or to 1 where that is less. NaN where the graph gives no finite score."""
    if outputs.unknown_score is None or not np.isfinite(outputs.unknown_score).all():
        return float("nan")
    expected = METHODS.get(method).score(dict(parameters), outputs.embedding, outputs.logits)
    gap = np.abs(outputs.unknown_score.astype(np.float64) - expected).max(initial=0.0)
    return float(gap / max(float(np.abs(expected).max(initial=0.0)), 1.0))


def with_unknown(
    report: Report, onnx_file: Path, bundle: Bundle, pixels: Pixels, parameters: Mapping[str, NDArray[Any]]
) -> Report:
    """A parity report with the metric `unknown_gap` on prepared pixels (N, H, W, C), and an error where it is too
    large; as it is where the bundle has no unknown score."""
    if bundle.decision.unknown is None:
        return report
    engine: Engine = ENGINES.get("onnxruntime").open(onnx_file, threads=allowed_cpus())
    try:
        gaps = [
            unknown_gap(
                engine.run(normalize(bundle.preprocess, pixels[start : start + _BATCH])),
                bundle.decision.unknown.method,
                parameters,
            )
            for start in range(0, len(pixels), _BATCH)
        ]
    finally:
        engine.close()
    gap = float(np.max(gaps))
    metric = Metric(value=gap if np.isfinite(gap) else None, n=len(pixels))
    found = report.findings
    if not gap <= TOLERANCE:
        message = f"the unknown score of the graph differs from its definition by {gap:.3g}, over {TOLERANCE:g}"
        found = (*found, Finding(code="unknown_differs", severity="error", message=message))
    return report.model_copy(update={"metrics": {**report.metrics, "unknown_gap": metric}, "findings": found})
