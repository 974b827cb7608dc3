"""The server under test, and questions for its model made from what it says about itself."""

from __future__ import annotations

import http.client
import json
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Tensors = dict[str, np.ndarray]
Head = tuple[dict[str, str], bytes]

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
LENGTH = "inference-header-content-length"
_SEED = 11
_MOST = 100
_PATIENCE_S = 60.0
_ROUNDED = 1e-5


class NotOfferedError(Exception):
    """The server does not say that it has this, or the model cannot be asked it."""


@dataclass(kw_only=True)
class Target:
    """Addresses are HOST:PORT; None is not tested."""

    http: str | None
    grpc: str | None
    model: str
    metadata: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    extensions: list[str] = field(default_factory=list)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers with lower-case names, body), sent as it is: no header that was not asked for."""
        assert self.http is not None
        connection = http.client.HTTPConnection(self.http, timeout=_PATIENCE_S)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            sent = dict(headers or {})
            if body is not None:
                sent["Content-Length"] = str(len(body))
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The JSON of an answer that has to be 200."""
        status, _, text = self.ask(method, path, body)
        assert status == 200, f"{method} {path} is {status}: {text[:200]!r}"
        return json.loads(text)

    @property
    def path(self) -> str:
        """Of the model."""
        return f"/v2/models/{self.model}"

    def need(self, extension: str) -> None:
        """Raises NotOfferedError where the server does not list it."""
        if extension not in self.extensions:
            raise NotOfferedError(f"the extension {extension} is not listed")

    def tensors(self) -> Tensors:
        """A value for each input, always the same; two in a batch where that is allowed."""
        random = np.random.Generator(np.random.Philox(key=_SEED))
        return {one["name"]: _value(random, one["datatype"], self._shape(one)) for one in self.metadata["inputs"]}

    def _shape(self, told: dict[str, Any]) -> list[int]:
        sizes = [int(size) for size in told["shape"]]
        many = int(self.config.get("max_batch_size", 0)) >= 2
        return [(2 if many and place == 0 else 1) if size < 0 else size for place, size in enumerate(sizes)]


def _value(random: np.random.Generator, datatype: str, shape: list[int]) -> np.ndarray:
    if datatype not in DTYPES:
        raise NotOfferedError(f"inputs of {datatype} are not asked here")
    if datatype == "BYTES":
        return np.full(shape, b"conformance", dtype=np.object_)
    if datatype.startswith("FP"):
        return random.random(shape).astype(DTYPES[datatype])
    return random.integers(0, 2 if datatype == "BOOL" else _MOST, shape).astype(DTYPES[datatype])


def datatype_of(value: np.ndarray) -> str:
    """The protocol's name."""
    return next(name for name, dtype in DTYPES.items() if np.dtype(dtype) == value.dtype)


def raw_of(value: np.ndarray) -> bytes:
    """As it goes over the wire."""
    if value.dtype == np.object_:
        return b"".join(struct.pack("<I", len(one)) + one for one in value.reshape(-1))
    return np.ascontiguousarray(value).tobytes()


def from_raw(raw: bytes, datatype: str, shape: list[int]) -> np.ndarray:
    """The other way round."""
    if datatype != "BYTES":
        return np.frombuffer(raw, DTYPES[datatype]).reshape(shape)
    found, rest = [], raw
    while rest:
        (size,) = struct.unpack("<I", rest[:4])
        found.append(rest[4 : 4 + size])
        rest = rest[4 + size :]
    return np.array(found, dtype=np.object_).reshape(shape)


def plain_body(tensors: Tensors, *, nested: bool = False, **more: Any) -> bytes:
    """A request whose numbers are in the JSON. Raises NotOfferedError for FP16, which cannot be."""
    inputs = []
    for name, value in tensors.items():
        if value.dtype == np.float16:
            raise NotOfferedError("FP16 has no form in JSON")
        shown = np.vectorize(bytes.decode, otypes=[object])(value) if value.dtype == np.object_ else value
        data = shown.tolist() if nested else shown.reshape(-1).tolist()
        inputs.append({"name": name, "datatype": datatype_of(value), "shape": list(value.shape), "data": data})
    return json.dumps({"inputs": inputs, **more}).encode()


def binary_body(tensors: Tensors, **more: Any) -> Head:
    """A request whose tensors follow the JSON: (headers, body)."""
    inputs, blobs = [], []
    for name, value in tensors.items():
        blobs.append(raw_of(value))
        item = {"name": name, "datatype": datatype_of(value), "shape": list(value.shape)}
        inputs.append(item | {"parameters": {"binary_data_size": len(blobs[-1])}})
    text = json.dumps({"inputs": inputs, **more}).encode()
    return {"Inference-Header-Content-Length": str(len(text))}, b"".join([text, *blobs])


def read_outputs(headers: dict[str, str], body: bytes) -> tuple[dict[str, Any], Tensors]:
    """The JSON of an answer and its tensors, in either form; checks that they fit together."""
    length = int(headers[LENGTH]) if LENGTH in headers else len(body)
    head, rest, found = json.loads(body[:length]), body[length:], {}
    for one in head["outputs"]:
        size = one.get("parameters", {}).get("binary_data_size")
        if size is not None:
            found[one["name"]] = from_raw(rest[:size], one["datatype"], one["shape"])
            rest = rest[size:]
        else:
            assert "data" in one, f"{one['name']} has neither data nor binary_data_size"
            data = [str(value).encode() for value in one["data"]] if one["datatype"] == "BYTES" else one["data"]
            found[one["name"]] = np.asarray(data, DTYPES[one["datatype"]]).reshape(one["shape"])
    assert not rest, f"{len(rest)} bytes follow that no output has"
    return head, found


def same(first: Tensors, second: Tensors, *, exact: bool = True) -> None:
    """Whether two answers are one; through JSON, numbers may lose their last digits."""
    assert list(first) == list(second), f"outputs {list(first)} and {list(second)}"
    for name, value in first.items():
        other = second[name]
        kinds = f"{value.dtype}{value.shape} and {other.dtype}{other.shape}"
        assert (value.dtype, value.shape) == (other.dtype, other.shape), f"{name}: {kinds}"
        rounded = not exact and value.dtype.kind == "f"
        equal = np.allclose(value, other, rtol=_ROUNDED) if rounded else np.array_equal(value, other)
        assert equal, f"{name} differs"
