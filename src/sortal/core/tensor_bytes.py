"""Arrays to safetensors and back with NumPy alone, so that the run side reads `reference/` without a package for it.

Whether the bytes are sound is checked by `core.tensors`; kinds of number that NumPy lacks (bfloat16, 8-bit floats) are
refused. Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError, InternalError
from sortal.core.tensors import check_tensors

_KINDS = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "I16": "<i2",
    "U16": "<u2",
    "F16": "<f2",
    "I32": "<i4",
    "U32": "<u4",
    "F32": "<f4",
    "I64": "<i8",
    "U64": "<u8",
    "F64": "<f8",
}
_ALIGNMENT = 8


def to_tensors(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A safetensors file of named arrays, little-endian, in the order of their names."""
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    position = 0
    for name, array in sorted(arrays.items()):
        kind = _kind_of(name, array)
        parts.append(np.ascontiguousarray(array, np.dtype(_KINDS[kind])).tobytes())
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [position, position + len(parts[-1])],
        }
        position += len(parts[-1])
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def from_tensors(data: bytes, *, where: str) -> dict[str, NDArray[Any]]:
    """The named arrays of a safetensors file. Raises BundleError that names `where` when it is damaged."""
    infos = check_tensors(data, where=where)
    begin = 8 + int.from_bytes(data[:8], "little")
    found: dict[str, NDArray[Any]] = {}
    for name, info in infos.items():
        if info.dtype not in _KINDS:
            raise BundleError(f"tensor {name!r} is of a type that NumPy lacks", where=where, received=info.dtype)
        part = data[begin + info.start : begin + info.end]
        found[name] = np.frombuffer(part, np.dtype(_KINDS[info.dtype])).reshape(info.shape)
    return found


def _kind_of(name: str, array: NDArray[Any]) -> str:
    wanted = array.dtype.newbyteorder("<").str.replace("|", "")
    kind = next((kind for kind, code in _KINDS.items() if np.dtype(code).str.replace("|", "") == wanted), None)
    if kind is None:
        raise InternalError(f"array {name!r} cannot be stored as safetensors", received=str(array.dtype))
    return kind
