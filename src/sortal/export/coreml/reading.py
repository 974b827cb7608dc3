"""What a Core ML package holds, read from its file: variables, stored tensors, and chains of scales and offsets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.export.coreml.convert import coremltools_for

WEIGHTS_FOLDER = "Data/com.apple.CoreML/weights"
_DEQUANTIZE = "constexpr_affine_dequantize"


def open_package(package: Path) -> tuple[Any, Any]:
    """(specification, main function) of an ML program. Raises BundleError where the file is damaged."""
    with coremltools_for(str(package)) as ct:
        spec = ct.models.utils.load_spec(str(package))
        return spec, program_of(spec, str(package / WEIGHTS_FOLDER))


def program_of(spec: Any, weights: str) -> Any:
    """The main function of an ML program with its tensors."""
    from coremltools.converters.mil.frontend.milproto.load import load

    return load(spec, spec.specificationVersion, weights).functions["main"]


def stored_weight(operation: Any) -> Any:
    """The variable of a layer's stored weight; None where it multiplies two results."""
    names = ("x", "y") if operation.op_type == "matmul" else ("weight",)
    found = [operation.inputs[name] for name in names]
    return next((one for one in found if one.op is not None and tensor_of(one) is not None), None)


def is_eight_bits(variable: Any) -> bool:
    """Whether a stored tensor is kept as integers with scales."""
    return bool(variable.op is not None and variable.op.op_type == _DEQUANTIZE)


def tensor_of(variable: Any) -> NDArray[np.float64] | None:
    """A stored tensor of numbers, float64, as Core ML computes with it; None for what depends on the image."""
    operation = variable.op
    if is_eight_bits(variable):
        levels = np.asarray(operation.quantized_data.val, np.float64)
        along = [1] * levels.ndim
        along[int(operation.axis.val)] = -1
        scale, zero = (
            np.asarray(given.val, np.float64).reshape(along if np.ndim(given.val) else [1] * levels.ndim)
            for given in (operation.scale, operation.zero_point)
        )
        return (levels - zero) * scale
    if operation is not None and operation.op_type == "cast":
        return tensor_of(operation.x)
    if operation is None or operation.op_type != "const":
        return None
    value = np.asarray(variable.val)
    return value.astype(np.float64) if value.dtype.kind in "fiu" else None


def step(operation: Any, flowing: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(scale, offset), flat, of an operation that only scales and shifts the variable `flowing`; None for any other."""
    one, none = np.ones(1), np.zeros(1)
    kind = operation.op_type
    if kind in ("cast", "identity"):
        return one, none
    if kind == "batch_norm":
        given: dict[str, Any] = {
            name: tensor_of(value) for name, value in operation.inputs.items() if value is not None
        }
        size = len(np.ravel(given["mean"]))
        gamma, beta = given.get("gamma"), given.get("beta")
        spread = np.sqrt(given["variance"] + given.get("epsilon", 0.0))
        scale = (np.ones(size) if gamma is None else gamma) / spread
        return scale, (np.zeros(size) if beta is None else beta) - given["mean"] * scale
    if kind not in ("mul", "add", "sub", "real_div"):
        return None
    first = operation.x is flowing
    other = tensor_of(operation.y if first else operation.x)
    if other is None or (kind in ("sub", "real_div") and not first):
        return None
    flat = other.reshape(-1)
    if kind in ("mul", "real_div"):
        return (flat if kind == "mul" else 1 / flat), none
    return one, flat if kind == "add" else -flat
