"""How many multiply-accumulates one image costs, counted on the deployed graph itself: no torch, no onnx package.

ONNX Runtime's profiler writes down the shapes that every operator saw. One black image goes through the graph as it
was exported, with no operator fused, and convolutions and matrix products are counted from their shapes.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sortal.core.errors import BundleError, MissingExtraError
from sortal.runtime.onnx_file import read_model

Shape = Sequence[int]


def count_graph_macs(model: Path) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image through an ONNX file.

    Raises BundleError for a file that ONNX Runtime cannot run, or whose input size is not fixed.
    """
    return sum(_macs(entry) for entry in _profiled(model))


def _profiled(model: Path) -> list[dict[str, Any]]:
    """What the profiler says about each operator of one pass: `op_name`, `input_type_shape`, `output_type_shape`."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_prepacking", "1")  # else weights lose their shapes
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="sortal-macs-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = onnxruntime.InferenceSession(read_model(model), options, providers=["CPUExecutionProvider"])
            source = session.get_inputs()[0]
            shape = [size if isinstance(size, int) else 1 for size in source.shape[:1]] + list(source.shape[1:])
            images = shape[0]
            session.run(None, {source.name: np.zeros(shape, np.float32)})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except BundleError:
            raise
        except Exception as error:  # ONNX Runtime raises a dozen classes without a common base of its own
            raise BundleError(f"the operations of the model cannot be counted: {error}", where=str(model)) from error
    found = [event["args"] for event in events if event.get("cat") == "Node" and "op_name" in event.get("args", {})]
    return [{**entry, "images": images} for entry in found if entry.get("output_type_shape")]


def _macs(entry: dict[str, Any]) -> int:
    """Of one operator, for one image."""
    images = int(entry["images"])
    taken, given = _shapes(entry["input_type_shape"]), _shapes(entry["output_type_shape"])
    match entry["op_name"]:
        case "Conv":
            each = math.prod(taken[1][1:])
            return math.prod(given[0]) * each // images
        case "ConvTranspose":
            return math.prod(taken[0]) * math.prod(taken[1][1:]) // images
        case "Gemm":
            return math.prod(given[0]) * (math.prod(taken[0]) // given[0][0]) // images
        case "MatMul":
            return math.prod(given[0]) * taken[0][-1] // images
    return 0


def _shapes(typed: Sequence[dict[str, Shape]]) -> list[Shape]:
    return [shape for item in typed for shape in item.values()]
