"""A small TFLite model written operator by operator, in float32 or int8, without a converter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

WEIGHT = np.arange(15, dtype=np.float32).reshape(3, 5) / 7
OUTPUTS = ("logits", "embedding", "feature_map")
SHAPE = (3, 6, 4)
"""Of one image, channels first."""


def small_tflite(
    batch: int | str = "batch",
    *,
    metadata: Mapping[str, str],
    outputs: Sequence[str] = OUTPUTS,
    scale: float | None = None,
    zero: int = 0,
) -> bytes:
    """feature_map = 2 x image, embedding = its mean over space, logits = embedding @ WEIGHT; a free batch is resized.

    With `scale` the image and the feature map are int8 at the ends, float32 between.
    """
    return _Writer(batch, scale, zero).written(metadata, outputs)


class _Writer:
    def __init__(self, batch: int | str, scale: float | None, zero: int):
        self.free, self.batch = not isinstance(batch, int), batch if isinstance(batch, int) else 1
        self.levels = None if scale is None else (scale, zero)
        self.model = schema.ModelT()
        self.model.version, self.model.description = 3, "small"
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes, self.model.metadata = [], []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []

    def written(self, metadata: Mapping[str, str], outputs: Sequence[str]) -> bytes:
        kinds, code = schema.BuiltinOptions, schema.BuiltinOperator
        image = taken = self.tensor("image", SHAPE, quantized=True)
        if self.levels is not None:
            image = self.tensor("floats", SHAPE)
            self.operator(code.DEQUANTIZE, [taken], image, kinds.DequantizeOptions, schema.DequantizeOptionsT())
        doubled = self.tensor("doubled", SHAPE)
        self.operator(code.MUL, [image, self.stored(np.float32(2.0))], doubled, kinds.MulOptions, schema.MulOptionsT())
        feature_map = doubled
        if self.levels is not None:
            feature_map = self.tensor("feature_map", SHAPE, quantized=True)
            self.operator(code.QUANTIZE, [doubled], feature_map, kinds.QuantizeOptions, schema.QuantizeOptionsT())
        embedding = self.tensor("embedding", SHAPE[:1])
        axes = self.stored(np.asarray([2, 3], np.int32))
        self.operator(code.MEAN, [doubled, axes], embedding, kinds.ReducerOptions, schema.ReducerOptionsT())
        logits = self.tensor("logits", (5,))
        given = [embedding, self.stored(np.ascontiguousarray(WEIGHT.T)), -1]
        options = schema.FullyConnectedOptionsT()
        self.operator(code.FULLY_CONNECTED, given, logits, kinds.FullyConnectedOptions, options)
        return self.finished(taken, dict(zip(outputs, (logits, embedding, feature_map), strict=True)), metadata)

    def tensor(self, name: str, shape: Sequence[int], *, quantized: bool = False) -> int:
        made = schema.TensorT()
        made.name, made.buffer, made.shape = name, 0, [self.batch, *shape]
        made.shapeSignature = [-1, *shape] if self.free else None
        made.type = schema.TensorType.FLOAT32
        if quantized and self.levels is not None:
            made.type, made.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [self.levels[0]], [self.levels[1]]
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def stored(self, value: Any) -> int:
        array = np.asarray(value)
        made = schema.TensorT()
        made.name, made.shape, made.buffer = f"stored{len(self.graph.tensors)}", list(array.shape), self.buffer(array)
        made.type = schema.TensorType.INT32 if array.dtype == np.int32 else schema.TensorType.FLOAT32
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def buffer(self, array: np.ndarray) -> int:
        made = schema.BufferT()
        made.data = np.frombuffer(array.tobytes(), np.uint8)
        self.model.buffers.append(made)
        return len(self.model.buffers) - 1

    def operator(self, code: int, inputs: list[int], output: int, kind: int, options: Any) -> None:
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        entry.version = 1
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(self.model.operatorCodes), inputs, [output]
        made.builtinOptionsType, made.builtinOptions = kind, options
        self.model.operatorCodes.append(entry)
        self.graph.operators.append(made)

    def finished(self, image: int, outputs: Mapping[str, int], metadata: Mapping[str, str]) -> bytes:
        self.graph.inputs, self.graph.outputs = [image], list(outputs.values())
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs = [_named("image", image)]
        signature.outputs = [_named(name, tensor) for name, tensor in sorted(outputs.items())]
        self.model.subgraphs, self.model.signatureDefs = [self.graph], [signature]
        for key, value in metadata.items():
            entry = schema.MetadataT()
            entry.name, entry.buffer = key, self.buffer(np.frombuffer(value.encode(), np.uint8))
            self.model.metadata.append(entry)
        builder = flatbuffers.Builder(4096)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _named(name: str, tensor: int) -> Any:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, tensor
    return made
