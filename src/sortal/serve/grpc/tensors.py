"""Tensors of the protocol between messages and arrays. Both forms are read; answers are always raw bytes.

Typed contents cannot be read back by clients of others: they look for bytes first and stumble over their absence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import InputError
from sortal.serve.grpc.messages import message_class
from sortal.serve.models import VERSION
from sortal.serve.oip.dialogue import Inferred
from sortal.serve.oip.numbers import numbers_of
from sortal.serve.oip.tensors import (
    InferRequest,
    asked_output,
    bytes_of,
    datatype_of,
    dtype_of,
    shape_of,
    timeout_of,
)

_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""Where a datatype has its numbers; FP16 has none and goes raw."""


def typed_numbers(message: Any) -> int:
    """How many numbers of a `ModelInferRequest` are read one by one; raw bytes are only copied."""
    return sum(len(getattr(one.contents, field)) for one in message.inputs for field in set(_FIELDS.values()))


def read_infer(message: Any) -> InferRequest:
    """A `ModelInferRequest`, checked as far as the protocol goes. Raises InputError."""
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InputError("raw_input_contents has one entry an input", received=f"{len(raw)} of {len(message.inputs)}")
    tensors = dict[str, NDArray[Any]]()
    for position, item in enumerate(message.inputs):
        if item.name in tensors:
            raise InputError("an input is there twice", received=item.name[:80])
        tensors[item.name] = _tensor(item, raw[position] if raw else None)
    outputs = tuple(asked_output(one.name, _plain(one.parameters), binary=True) for one in message.outputs)
    return InferRequest(
        name=message.id or None,
        tensors=tensors,
        outputs=outputs or None,
        binary=True,
        timeout_s=timeout_of(_plain(message.parameters)),
    )


def write_infer(inferred: Inferred, name: str | None) -> Any:
    """A `ModelInferResponse` to the request that its client calls `name`."""
    message = message_class("inference.ModelInferResponse")(
        model_name=inferred.model, model_version=VERSION, id=name or ""
    )
    for asked, value in inferred.outputs:
        output = message.outputs.add(name=asked.name, datatype=datatype_of(value), shape=value.shape)
        if asked.classes:
            output.parameters["classification"].int64_param = asked.classes
        message.raw_output_contents.append(bytes_of(value))
    return message


def _tensor(item: Any, raw: bytes | None) -> NDArray[Any]:
    dtype, shape = dtype_of(item.datatype, item.name), shape_of(list(item.shape))
    if raw is None:
        return numbers_of(_contents(item, math.prod(shape)), dtype, shape, item.name)
    if item.HasField("contents"):
        raise InputError("an input has contents, or bytes in raw_input_contents", where=item.name[:80])
    needed = math.prod(shape) * dtype.itemsize
    if len(raw) != needed:
        raise InputError(
            f"{item.datatype} of shape {list(shape)} takes {needed} bytes", where=item.name[:80], received=str(len(raw))
        )
    return np.frombuffer(raw, dtype).reshape(shape)


def _contents(item: Any, count: int) -> Sequence[Any]:
    """The typed numbers of an input of which a shape promises `count`."""
    filled = [field.name for field, _ in item.contents.ListFields()]
    if item.datatype not in _FIELDS or filled not in ([_FIELDS[item.datatype]], []):
        raise InputError(
            f"{item.datatype} comes in {_FIELDS.get(item.datatype, 'raw_input_contents')}",
            where=item.name[:80],
            received=", ".join(filled) or None,
        )
    values: Sequence[Any] = getattr(item.contents, _FIELDS[item.datatype])
    if len(values) != count:
        raise InputError(
            f"shape {list(item.shape)} has {count} values", where=item.name[:80], received=str(len(values))
        )
    return values


def _plain(parameters: Any) -> dict[str, Any]:
    """Parameters as plain values."""
    return {key: _value(one) for key, one in parameters.items()}


def _value(parameter: Any) -> Any:
    chosen = parameter.WhichOneof("parameter_choice")
    return None if chosen is None else getattr(parameter, chosen)
