"""The numbers stored in an ONNX file, read and rewritten in place on the wire: no onnx package.

For the linear head, whose rows say how each class weighs the embedding, and for random weights in a trained graph,
which show whether an explanation depends on what was learned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError
from sortal.runtime.onnx_file import message_fields

_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA = 1, 2, 4, 8, 9
_FLOAT32 = 1

HEAD_WEIGHT, HEAD_BIAS = "head.weight", "head.bias"
"""What an exported graph calls the two tensors of its linear head."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One float32 tensor of the file: a view of its bytes, writable where the file's bytes are."""

    name: str
    shape: tuple[int, ...]
    values: NDArray[np.float32]


def stored_tensors(model: bytes | bytearray, *, where: str) -> Iterator[Stored]:
    """All float32 initializers of an ONNX model that `runtime.onnx_file` has checked."""
    for number, _, graph in message_fields(memoryview(model), where):
        if number == _GRAPH and isinstance(graph, memoryview):
            for inner, _, tensor in message_fields(graph, where):
                if inner == _INITIALIZER and isinstance(tensor, memoryview):
                    found = _stored(tensor, where)
                    if found is not None:
                        yield found


def linear_head(model: bytes, *, where: str) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Weight (C, D) and bias (C,) of the linear head; None where the graph has no such head."""
    found = {one.name: one.values.reshape(one.shape) for one in stored_tensors(model, where=where)}
    return (found[HEAD_WEIGHT], found[HEAD_BIAS]) if {HEAD_WEIGHT, HEAD_BIAS} <= set(found) else None


def with_random_weights(model: bytes, *, seed: int, where: str) -> bytes:
    """The same graph with the numbers of every weight tensor shuffled: same sizes and spread, nothing learned.

    Vectors (biases, statistics of norms) keep their numbers. Raises BundleError where nothing could be shuffled.
    """
    copy = bytearray(model)
    random = np.random.Generator(np.random.Philox(key=seed))
    shuffled = 0
    for one in stored_tensors(copy, where=where):
        if sum(size > 1 for size in one.shape) > 1:
            one.values[:] = random.permutation(one.values)
            shuffled += 1
    if not shuffled:
        raise BundleError("the graph keeps no weights that could be made random", where=where)
    return bytes(copy)


def _stored(tensor: memoryview, where: str) -> Stored | None:
    name, kind, dims = "", 0, list[int]()
    data: memoryview | None = None
    for number, _, value in message_fields(tensor, where):
        if number == _DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif number == _DATA_TYPE and isinstance(value, int):
            kind = value
        elif number == _NAME and isinstance(value, memoryview):
            name = bytes(value).decode("utf-8", "replace")
        elif number in (_RAW_DATA, _FLOAT_DATA) and isinstance(value, memoryview):
            data = value
    if kind != _FLOAT32 or data is None or data.nbytes != 4 * math.prod(dims):
        return None
    return Stored(name=name, shape=tuple(dims), values=np.frombuffer(data, np.dtype("<f4")))


def _packed(value: memoryview) -> list[int]:
    """Varints one after another, as protobuf 3 packs numbers."""
    numbers, current, shift = [], 0, 0
    for byte in value:
        current |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(current)
            current, shift = 0, 0
    return numbers
