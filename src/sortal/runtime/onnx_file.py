"""Look into an ONNX file without the onnx package: is it whole, and does it stay inside itself?

ONNX lets a tensor live in another file, named by a path inside the model. A model from a stranger can so make its
reader open any file of the machine, which is why models with external data are refused before an engine sees them.
Only the protobuf wire format is read here (https://protobuf.dev/programming-guides/encoding/), not the tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sortal.core.errors import BundleError

MAX_BYTES = 2**31 - 1
"""A protobuf message, and so an ONNX file without external data, cannot be larger."""

# Which fields of a message hold messages that can reach a tensor (onnx/onnx.proto3). `tensor` itself ends the walk.
_REACHES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 64


def read_model(path: Path) -> bytes:
    """The bytes of an ONNX file that is well-formed on the wire and keeps all its tensors inside.

    Raises BundleError otherwise, also when the file cannot be read.
    """
    try:
        size = path.stat().st_size
        if not path.is_file() or not 0 < size <= MAX_BYTES:
            raise BundleError("not an ONNX file", where=str(path), received=f"{size:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the model: {error.strerror}", where=str(path)) from error
    check_model(data, where=str(path))
    return data


def check_model(data: bytes, *, where: str) -> None:
    """Raises BundleError when `data` is not a protobuf message with a graph, or names external data."""
    if not any(number == 7 for number, _, _ in message_fields(memoryview(data), where)):
        raise BundleError("not an ONNX model: it holds no graph", where=where)
    _walk(memoryview(data), "model", where, depth=0)


def _walk(message: memoryview, kind: str, where: str, *, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise BundleError("not an ONNX model: nested too deeply", where=where)
    for number, wire, value in message_fields(message, where):
        if kind == "tensor":
            _refuse_external(number, value, where)
        elif wire == _BYTES and number in _REACHES[kind] and isinstance(value, memoryview):
            _walk(value, _REACHES[kind][number], where, depth=depth + 1)


def _refuse_external(number: int, value: int | memoryview, where: str) -> None:
    if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
        raise BundleError(
            "the model keeps tensors in other files, which is refused because such a path can point anywhere",
            where=where,
            hint="save it as one file: onnx.save_model(onnx.load(path), new_path, save_as_external_data=False)",
        )


def message_fields(message: memoryview, where: str) -> Iterator[tuple[int, int, int | memoryview]]:
    """(field number, wire type, value) of a protobuf message one by one; the value is a number or a view of the bytes.

    Raises BundleError that names `where` when the message is damaged.
    """
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position, where)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(message, position, where)
            yield number, wire, value
            continue
        if wire == _BYTES:
            length, position = _varint(message, position, where)
        else:
            length = {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
        if number == 0 or length < 0 or position + length > end:
            raise BundleError("not an ONNX model: damaged or cut off", where=where)
        yield number, wire, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int, where: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise BundleError("not an ONNX model: damaged or cut off", where=where)
