"""Safetensors headers: what the reference implementation writes is accepted, what lies about its bytes is not."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.core.errors import BundleError, MachineError
from sortal.core.tensors import MAX_HEADER_BYTES, check_tensors


def build(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: int, end: int, shape: list[Any] | None = None, dtype: str = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


def test_what_the_reference_implementation_writes_is_accepted(tmp_path: Path) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    arrays = {"b": np.zeros((2, 3), np.float16), "a": np.ones(5), "empty": np.zeros((0, 4), np.int8), "s": np.array(1)}
    path = tmp_path / "w.safetensors"
    reference.save_file(arrays, path, metadata={"format": "np"})
    found = check_tensors(path, where="w")
    assert {name: tensor.shape for name, tensor in found.items()} == {name: a.shape for name, a in arrays.items()}
    assert found["b"].dtype == "F16"
    assert check_tensors(path.read_bytes(), where="w") == found


BAD = {
    "nothing": b"",
    "seven bytes": b"1234567",
    "header 2^63": build({}, length=2**63),
    "header 2^64-1": build({}, length=2**64 - 1),
    "header longer than the file": build({}, length=3),
    "header 100 MB": build({}, length=100_000_000),
    "no JSON": build(b"{nonsense"),
    "not an object": build(b"[1, 2]"),
    "leading space": build(b' {"a":1}'),
    "not UTF-8": build(b'{"\xff": 1}'),
    "half a surrogate in a key twice": build(b'{"a": {}, "a": {}}'),
    "nesting": build(b'{"a":' * 50_000),
    "entry is no object": build({"a": 1}),
    "field missing": build({"a": {"dtype": "U8", "shape": [1]}}, b"x"),
    "field too many": build({"a": entry(0, 1) | {"code": "import os"}}, b"x"),
    "unknown type": build({"a": entry(0, 1, dtype="PICKLE")}, b"x"),
    "type is a list": build({"a": entry(0, 1) | {"dtype": ["U8"]}}, b"x"),
    "overlap": build({"a": entry(0, 4), "b": entry(2, 6)}, bytes(6)),
    "the same bytes twice": build({"a": entry(0, 4), "b": entry(0, 4)}, bytes(4)),
    "hole": build({"a": entry(0, 2), "b": entry(4, 6)}, bytes(6)),
    "starts late": build({"a": entry(2, 4)}, bytes(4)),
    "rest at the end": build({"a": entry(0, 2)}, bytes(3)),
    "past the end": build({"a": entry(0, 4)}, bytes(2)),
    "backwards": build({"a": entry(4, 0, shape=[4])}, bytes(4)),
    "negative": build({"a": {"dtype": "U8", "shape": [-1], "data_offsets": [0, -1]}}),
    "shape overflows 64 bits": build({"a": entry(0, 0, shape=[2**62, 2**62, 4])}),
    "shape does not fit": build({"a": entry(0, 4, shape=[2, 3])}, bytes(4)),
    "true as a size": build({"a": entry(0, 1, shape=[True])}, b"x"),
    "fraction as a size": build({"a": entry(0, 1, shape=[1.0])}, b"x"),
    "a million sizes": build({"a": entry(0, 0, shape=[3] * 1_000_000)}),
    "metadata is no text": build({"__metadata__": {"a": 1}}),
}


@pytest.mark.parametrize("name", BAD)
def test_what_lies_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match=r"weights\.safetensors"):
        check_tensors(BAD[name], where="weights.safetensors")


def test_a_missing_file_is_a_machine_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        check_tensors(tmp_path / "absent", where="absent")


def test_the_largest_header_allowed_stays_within_memory(tmp_path: Path) -> None:
    """200 MB of growth at most, for a header that is as expensive to parse as it can be made."""
    path = tmp_path / "w.safetensors"
    path.write_bytes(build(b"{" + b",".join(b'"%d":[]' % n for n in range(700_000)) + b"}"))
    assert 8_000_000 < path.stat().st_size < MAX_HEADER_BYTES
    code = (
        "import sys, resource; from pathlib import Path; from sortal.core.tensors import check_tensors\n"
        "from sortal.core.errors import BundleError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: check_tensors(Path(sys.argv[1]), where='w')\n"
        "except BundleError: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 200_000_000


@given(st.data())
def test_changed_headers_are_never_accepted_where_the_reference_refuses(data: st.DataObject) -> None:
    reference = pytest.importorskip("safetensors")
    raw = bytearray(build({"a": entry(0, 4), "b": entry(4, 12, shape=[2], dtype="F32")}, bytes(12)))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 13))] = data.draw(st.integers(0, 255))
    try:
        check_tensors(bytes(raw), where="w")
    except BundleError:
        return
    reference.deserialize(bytes(raw))
