"""Safetensors checked without torch: is the header sound and does it account for every byte of the file?

Only the header is read. What the numbers mean, and turning them into tensors, belongs to the build side.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from sortal.core.canonical import parse
from sortal.core.errors import BundleError, InputError
from sortal.core.publish import machine_error

MAX_HEADER_BYTES = 10_000_000
"""A tensor needs about 100 bytes of header; the largest networks in use stay under 1 MB."""

BITS: dict[str, int] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}
"""Bits of one number of each type."""


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One tensor of the file: `start` and `end` are byte offsets into the data that follows the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def check_tensors(source: Path | bytes, *, where: str) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file in order of their data.

    Raises BundleError that names `where` unless the header is sound and its tensors follow each other without
    overlap, hole or rest up to the last byte.
    """
    if isinstance(source, bytes):
        return _check(BytesIO(source), len(source), where)
    try:
        with source.open("rb") as file:
            return _check(file, os.fstat(file.fileno()).st_size, where)
    except OSError as error:
        raise machine_error(error, source) from error


def _check(file: BinaryIO, size: int, where: str) -> dict[str, TensorInfo]:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
        raise BundleError("not a safetensors file: its header cannot be that long", where=where, received=str(length))
    text = file.read(length)
    if not text.startswith(b"{"):
        raise BundleError("not a safetensors file: its header is not a JSON object", where=where)
    found = {name: _tensor(name, entry, where) for name, entry in _entries(text, where).items()}
    ordered = dict(sorted(found.items(), key=lambda item: (item[1].start, item[1].end)))
    position = 0
    for name, tensor in ordered.items():
        if tensor.start != position:
            raise BundleError(f"the bytes of tensor {name!r} overlap others or leave a hole", where=where)
        position = tensor.end
    if position != size - 8 - length:
        received = f"{size - 8 - length} bytes of data, {position} accounted for"
        raise BundleError("the tensors do not fill the file", where=where, received=received)
    return ordered


def _entries(text: bytes, where: str) -> dict[str, Any]:
    try:
        header = parse(text.decode("utf-8"), where=where)
    except (InputError, UnicodeDecodeError) as error:
        raise BundleError(f"the safetensors header is damaged: {error}", where=where) from error
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BundleError("the safetensors metadata must map text to text", where=where)
    entries: dict[str, Any] = header
    return entries


def _tensor(name: str, entry: Any, where: str) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BundleError(f"tensor {name!r} needs dtype, shape and data_offsets", where=where)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise BundleError(f"tensor {name!r} has an unknown type", where=where, received=repr(dtype)[:80])
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise BundleError(f"tensor {name!r} has a shape or offsets that are not counts", where=where)
    tensor = TensorInfo(dtype=dtype, shape=tuple(shape), start=offsets[0], end=offsets[1])
    if tensor.end - tensor.start != math.prod(tensor.shape) * BITS[dtype] // 8:
        raise BundleError(f"the bytes of tensor {name!r} do not fit its shape and type", where=where)
    return tensor


def _are_counts(values: Any) -> bool:
    """A short list of whole numbers: a product of millions of them would keep the machine busy for minutes."""
    if not isinstance(values, list) or len(values) > 32:
        return False
    return all(type(value) is int and 0 <= value < 2**63 for value in values)
