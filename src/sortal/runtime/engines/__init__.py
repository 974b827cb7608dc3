"""Inference engines by name. A member module offers `open(path: Path, *, threads: int) -> Engine` (see `protocol`).

`path` is an artifact's model file; `threads` is at least 1. Opening raises BundleError for a file that is damaged or
not a model, and MissingExtraError where the engine's package is not installed.
"""

from __future__ import annotations

from sortal.core.registry import Registry

ENGINES = Registry(
    kind="inference engine",
    group="sortal.engines",
    table={
        "onnxruntime": "sortal.runtime.engines.onnxruntime",
        "openvino": "sortal.runtime.engines.openvino",
        "litert": "sortal.runtime.engines.litert",
        "tensorrt": "sortal.runtime.engines.tensorrt",
        "cuda-graph": "sortal.export.engines.cuda_graph",
        "torch": "sortal.export.engines.torch",
        "executorch": "sortal.export.engines.executorch",
    },
)
