"""Bodies of the protocol: JSON alone, or JSON and then the tensors as they lie in memory.

The length of the JSON is in the header `Inference-Header-Content-Length` then; it counts uncompressed bytes, while the
body may be gzip or deflate. Tensors are little-endian and row by row; BYTES are length and bytes, element by element.
"""

from __future__ import annotations

import gzip
import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import InputError
from sortal.serve.intake import TooLargeError, parse_json
from sortal.serve.oip.numbers import numbers_of, numbers_written, take_out_lists

HEADER = "inference-header-content-length"
KINDS: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_MOST_DIMENSIONS = 8
_LARGEST = 2**40


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One output that a client wants: how many classes where it wants names, and whether as bytes."""

    name: str
    classes: int = 0
    binary: bool = False


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """A request, read and checked as far as the protocol goes."""

    name: str | None
    tensors: dict[str, NDArray[Any]]
    outputs: tuple[Asked, ...] | None
    """None asks for all."""
    binary: bool
    """Whether outputs go as bytes where nothing else is said."""
    timeout_s: float | None = None
    """How long the client waits for the answer; None leaves it to the server."""


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """The body without its compression, `most` bytes at most. Raises TooLargeError, InputError for damaged ones."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise InputError("a body may be gzip or deflate", received=encoding[:40])
    reader = zlib.decompressobj(31 if encoding == "gzip" else 15)
    try:
        plain = reader.decompress(body, most + 1)
    except zlib.error as error:
        raise InputError("the compressed body is damaged") from error
    if len(plain) > most:
        raise TooLargeError(f"a body may have {most / 1e6:g} MB when it is unpacked")
    if not reader.eof:
        raise InputError("the compressed body ends early")
    return plain


def packed(body: bytes, accepted: str) -> tuple[bytes, str | None]:
    """The body as a client accepts it, and the name of the compression."""
    wanted = [part.partition(";")[0].strip() for part in accepted.split(",")]
    if "gzip" in wanted:
        return gzip.compress(body, compresslevel=1), "gzip"
    return (zlib.compress(body, 1), "deflate") if "deflate" in wanted else (body, None)


def read_request(body: bytes, header_length: str | None) -> InferRequest:
    """A body, unpacked. Raises InputError for what the protocol does not allow."""
    head, rest = _split(body, header_length)
    plain, lists = take_out_lists(head)
    found = parse_json(plain)
    if not isinstance(found, dict) or not isinstance(found.get("inputs"), list):
        raise InputError("a request is an object with a list of inputs")
    tensors = dict[str, NDArray[Any]]()
    for item in found["inputs"]:
        name, value, rest = _tensor(item, rest, lists)
        if name in tensors:
            raise InputError("an input is there twice", received=name[:80])
        tensors[name] = value
    if rest:
        raise InputError("there are more bytes than the inputs take", received=f"{len(rest)} bytes left")
    outputs, parameters = found.get("outputs"), _object(found.get("parameters"))
    return InferRequest(
        name=found["id"] if isinstance(found.get("id"), str) else None,
        tensors=tensors,
        outputs=None if outputs is None else tuple(_asked(one, parameters) for one in _list(outputs)),
        binary=parameters.get("binary_data_output") is True,
        timeout_s=timeout_of(parameters),
    )


def write_response(head: dict[str, Any], outputs: Sequence[tuple[Asked, NDArray[Any]]]) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where tensors follow. Arrays of texts become BYTES."""
    told, blobs = [], list[bytes]()
    for asked, value in outputs:
        kind = datatype_of(value)
        item: dict[str, Any] = {"name": asked.name, "datatype": kind, "shape": list(value.shape)}
        if asked.binary:
            blob = bytes_of(value)
            item["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            item["data"] = [str(one) for one in value.reshape(-1)] if kind == "BYTES" else value.reshape(-1).tolist()
        if asked.classes:
            item["parameters"] = {**item.get("parameters", {}), "classification": asked.classes}
        told.append(item)
    text = json.dumps({**head, "outputs": told}, ensure_ascii=False).encode()
    return (b"".join([text, *blobs]), len(text)) if blobs else (text, None)


def dtype_of(kind: Any, name: str) -> np.dtype[Any]:
    """Of an input called `name`. Raises InputError for a datatype that inputs cannot have."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(
            "no such datatype of an input", where=name[:80], received=str(kind)[:40], hint=", ".join(KINDS)
        )
    return KINDS[kind]


def shape_of(value: Any) -> tuple[int, ...]:
    """Sizes as a client states them. Raises InputError for what is no shape or a huge one."""
    sizes = _list(value)
    good = all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size < _LARGEST for size in sizes)
    if not good or len(sizes) > _MOST_DIMENSIONS or math.prod(sizes) >= _LARGEST:
        raise InputError("a shape is a list of sizes", received=str(value)[:80])
    return tuple(sizes)


def timeout_of(parameters: Mapping[str, Any]) -> float | None:
    """Seconds, of the parameter `timeout`, which is in microseconds; 0 is none. Raises InputError."""
    found = parameters.get("timeout", 0)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise InputError("timeout is a number of microseconds", received=str(found)[:40])
    return found / 1e6 if found else None


def datatype_of(value: NDArray[Any]) -> str:
    """The protocol's name; texts are BYTES."""
    return "BYTES" if value.dtype == object else next(name for name, dtype in KINDS.items() if dtype == value.dtype)


def bytes_of(value: NDArray[Any]) -> bytes:
    """A tensor as it goes over the wire."""
    if value.dtype != object:
        return np.ascontiguousarray(value).tobytes()
    raw = [str(text).encode() for text in value.reshape(-1)]
    return b"".join(struct.pack("<I", len(one)) + one for one in raw)


def asked_output(name: str, parameters: Mapping[str, Any], *, binary: Any = False) -> Asked:
    """An output with its parameters; `binary` where they do not say. Raises InputError."""
    classes, binary = parameters.get("classification", 0), parameters.get("binary_data", binary)
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 0 or not isinstance(binary, bool):
        raise InputError("classification is a number and binary_data is true or false", received=str(parameters)[:80])
    return Asked(name=name, classes=classes, binary=binary)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    if not (header_length.isascii() and header_length.isdigit()) or not 0 < int(header_length[:12]) <= len(body):
        raise InputError("Inference-Header-Content-Length is no length within the body", received=header_length[:40])
    return body[: int(header_length)], body[int(header_length) :]


def _tensor(item: Any, rest: bytes, lists: Mapping[str, bytes]) -> tuple[str, NDArray[Any], bytes]:
    """(name, values, bytes that are left); long `lists` are not in the item but under the text that it has instead."""
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise InputError("an input is an object with a name")
    name, kind, shape = item["name"], item.get("datatype"), shape_of(item.get("shape"))
    dtype, size = dtype_of(kind, name), _object(item.get("parameters")).get("binary_data_size")
    needed = math.prod(shape) * dtype.itemsize
    if size is None:
        data = item.get("data")
        if isinstance(data, str) and data in lists:
            return name, numbers_written(lists[data], dtype, shape, name), rest
        return name, numbers_of(data, dtype, shape, name), rest
    if size != needed or len(rest) < needed:
        raise InputError(
            f"{kind} of shape {list(shape)} takes {needed} bytes", where=name[:80], received=str(size)[:40]
        )
    return name, np.frombuffer(rest[:needed], dtype).reshape(shape), rest[needed:]


def _asked(item: Any, parameters: dict[str, Any]) -> Asked:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise InputError("an output is an object with a name")
    own = _object(item.get("parameters"))
    return asked_output(item["name"], own, binary=parameters.get("binary_data_output", False))


def _object(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError("parameters are an object", received=str(value)[:40])
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InputError("a list is missing", received=str(value)[:40])
    return value
