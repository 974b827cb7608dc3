"""Rows over HTTP, byte by byte: what clients of others send, and what they cannot read."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import numpy as np
from rows import row
from target import (
    LENGTH,
    NotOfferedError,
    Target,
    Tensors,
    binary_body,
    datatype_of,
    plain_body,
    raw_of,
    read_outputs,
    same,
)

_STATISTICS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
_DEEP = 250_000
_NAMES = ("../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e", "%00", "no-such-model", "a%20b", "..%5c..", "%ff")


def infer(target: Target, body: bytes, headers: dict[str, str] | None = None, path: str = "") -> tuple[Any, Tensors]:
    """An answer that has to be 200."""
    status, told, text = target.ask("POST", f"{target.path}{path}/infer", body, headers)
    assert status == 200, f"status {status}: {text[:200]!r}"
    return read_outputs(told, text)


def refused(target: Target, method: str, path: str, body: bytes, headers: dict[str, str] | None = None) -> int:
    """The status of an answer that has to be an error in JSON, after which the server lives."""
    status, _, text = target.ask(method, path, body, headers)
    assert 400 <= status < 600, f"{method} {path[:60]} is {status}, not refused"
    try:
        found = json.loads(text)
    except ValueError:
        raise AssertionError(f"the error is no JSON but {text[:80]!r}") from None
    assert isinstance(found.get("error"), str), f"JSON without a text called error: {text[:80]!r}"
    assert found["error"], "the error says nothing"
    assert target.ask("GET", "/v2/health/live")[0] == 200, "the server is not live after it"
    return status


@row("http", "live and ready are 200, whatever their body")
def health(target: Target) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", f"{target.path}/ready"):
        assert target.ask("GET", path)[0] == 200, path


@row("http", "server metadata at /v2 and /v2/, without a redirect")
def server_metadata(target: Target) -> None:
    for path in ("/v2", "/v2/"):
        told = target.json("GET", path)
        assert isinstance(told["name"], str), path
        assert isinstance(told["version"], str), path
        assert all(isinstance(one, str) for one in told["extensions"]), path


@row("http", "model metadata: names, datatypes, shapes with the batch; by version too")
def model_metadata(target: Target) -> None:
    told = target.json("GET", target.path)
    assert told["name"] == target.model
    for one in (*told["inputs"], *told["outputs"]):
        assert isinstance(one["name"], str), one
        assert isinstance(one["datatype"], str), one
        assert all(isinstance(size, int) for size in one["shape"]), one
    for version in told.get("versions", []):
        again = target.json("GET", f"{target.path}/versions/{version}")
        assert (again["name"], again["inputs"]) == (told["name"], told["inputs"])
        assert target.ask("GET", f"{target.path}/versions/{version}/ready")[0] == 200


@row("http", "infer with numbers in JSON, flat or nested, whatever the content type says")
def infer_json(target: Target) -> None:
    tensors = target.tensors()
    head, expected = infer(target, plain_body(tensors))
    assert head["model_name"] == target.model
    assert [one["name"] for one in target.metadata["outputs"]] == list(expected)
    for kind in ("application/json", "application/octet-stream", "text/plain", "application/x-www-form-urlencoded"):
        same(infer(target, plain_body(tensors, nested=True), {"Content-Type": kind})[1], expected, exact=False)


@row("http", "infer with bytes behind the JSON, both ways, equal to JSON")
def infer_binary(target: Target) -> None:
    target.need("binary_tensor_data")
    tensors = target.tensors()
    headers, body = binary_body(tensors, parameters={"binary_data_output": True})
    status, told, text = target.ask("POST", f"{target.path}/infer", body, headers)
    assert status == 200, f"status {status}: {text[:200]!r}"
    assert LENGTH in told, "the answer has no Inference-Header-Content-Length"
    head, found = read_outputs(told, text)
    assert all("binary_data_size" in one["parameters"] for one in head["outputs"])
    same(found, infer(target, *binary_body(tensors)[::-1])[1], exact=False)


@row("http", "each output as bytes or numbers, as it was asked, and no other")
def infer_mixed(target: Target) -> None:
    target.need("binary_tensor_data")
    names = [one["name"] for one in target.metadata["outputs"]][::-1]
    outputs = [{"name": name, "parameters": {"binary_data": place % 2 == 0}} for place, name in enumerate(names)]
    headers, body = binary_body(target.tensors(), outputs=outputs)
    head, _ = infer(target, body, headers)
    assert [one["name"] for one in head["outputs"]] == names
    for place, one in enumerate(head["outputs"]):
        assert ("data" in one) == (place % 2 == 1), one["name"]


@row("http", "a header length of 0: the whole body is the one tensor")
def infer_whole(target: Target) -> None:
    target.need("binary_tensor_data")
    tensors = target.tensors()
    if len(tensors) != 1 or sum(size < 0 for size in target.metadata["inputs"][0]["shape"]) > 1:
        raise NotOfferedError("only for one input of which one size is free")
    [value] = tensors.values()
    headers, body = binary_body(tensors, parameters={"binary_data_output": True})
    found = infer(target, raw_of(value), {"Inference-Header-Content-Length": "0"})[1]
    same(found, infer(target, body, headers)[1])


@row("http", "gzip and deflate, both ways; the length counts bytes before packing")
def infer_packed(target: Target) -> None:
    target.need("binary_tensor_data")
    headers, body = binary_body(target.tensors(), parameters={"binary_data_output": True})
    expected = infer(target, body, headers)[1]
    for name, pack, unpack in (("gzip", gzip.compress, gzip.decompress), ("deflate", zlib.compress, zlib.decompress)):
        more = headers | {"Content-Encoding": name, "Accept-Encoding": name}
        status, told, text = target.ask("POST", f"{target.path}/infer", pack(body), more)
        assert status == 200, f"{name}: status {status}: {text[:200]!r}"
        plain = unpack(text) if told.get("content-encoding") == name else text
        same(read_outputs(told, plain)[1], expected)


@row("http", "the id comes back, and only where one was sent; versions are answered")
def ids(target: Target) -> None:
    tensors = target.tensors()
    assert infer(target, plain_body(tensors, id="order-7"))[0]["id"] == "order-7"
    assert infer(target, plain_body(tensors))[0].get("id", "") == ""
    for version in target.metadata.get("versions", []):
        assert infer(target, plain_body(tensors), path=f"/versions/{version}")[0]["model_version"] == version


@row("http", "classification: BYTES of [batch, k], each value:index:label")
def classification(target: Target) -> None:
    target.need("classification")
    fitting = [one for one in target.metadata["outputs"] if one["datatype"] == "FP32" and len(one["shape"]) == 2]
    if not fitting or int(fitting[0]["shape"][1]) < 2:
        raise NotOfferedError("no output of classes")
    outputs = [{"name": fitting[0]["name"], "parameters": {"classification": 2, "binary_data": False}}]
    head, found = infer(target, plain_body(target.tensors(), outputs=outputs))
    [told] = head["outputs"]
    assert (told["datatype"], told["shape"][1]) == ("BYTES", 2), told
    for text in found[fitting[0]["name"]].reshape(-1):
        value, index, _ = (text.decode() + ":").split(":", 2)
        assert np.isfinite(float(value)), text
        assert index.isdigit(), text


@row("http", "bad requests are 4xx with JSON, and the server lives")
def bad_requests(target: Target) -> None:
    tensors, path = target.tensors(), f"{target.path}/infer"
    name, value = next(iter(tensors.items()))
    item = {"name": name, "datatype": datatype_of(value), "shape": list(value.shape)}
    data = value.reshape(-1).tolist() if value.dtype != np.object_ else ["a"] * value.size
    changes: list[dict[str, Any]] = [
        {"name": "no such input"},
        {"datatype": "FP33"},
        {"shape": [*value.shape, 7]},
        {"shape": [-1, *value.shape[1:]]},
        {"shape": [2**60, 16]},
        {"shape": "big"},
        {"data": None},
    ]
    bodies = [json.dumps({"inputs": [item | {"data": data} | changed]}).encode() for changed in changes]
    for body in (b"", b"{", b"[]", b"{}", b'{"inputs": 3}', b"[" * _DEEP, *bodies):
        status = refused(target, "POST", path, body)
        assert status < 500, f"{body[:80]!r} is {status}"


@row("http", "headers that lie are 4xx with JSON, and the server lives")
def bad_headers(target: Target) -> None:
    target.need("binary_tensor_data")
    _, body = binary_body(target.tensors())
    for headers in (
        {"Inference-Header-Content-Length": "99999999999"},
        {"Inference-Header-Content-Length": "-1"},
        {"Inference-Header-Content-Length": "many"},
        {"Content-Encoding": "gzip"},
    ):
        status = refused(target, "POST", f"{target.path}/infer", body, headers)
        assert status < 500, f"{headers} is {status}"


@row("http", "models, versions and paths that are not there are 4xx with JSON")
def strangers(target: Target) -> None:
    body = plain_body(target.tensors())
    for name in _NAMES:
        for suffix, method in (("/infer", "POST"), ("/ready", "GET")):
            status = refused(target, method, f"/v2/models/{name}{suffix}", body if method == "POST" else b"")
            assert status < 500, f"{name} is {status}"
    status = refused(target, "POST", f"{target.path}/versions/987654321/infer", body)
    assert status < 500, f"an unknown version is {status}"


@row("http", "shared memory is not offered")
def shared_memory(target: Target) -> None:
    body = b'{"key": "/x", "offset": 0, "byte_size": 8}'
    for kind in ("system", "cuda"):
        refused(target, "POST", f"/v2/{kind}sharedmemory/region/x/register", body)


@row("http", "model configuration: batch, and dims without it")
def configuration(target: Target) -> None:
    target.need("model_configuration")
    told = target.json("GET", f"{target.path}/config")
    assert told["name"] == target.model
    assert isinstance(told["max_batch_size"], int)
    batch = int(told["max_batch_size"] > 0)
    for one, other in zip(told["input"], target.metadata["inputs"], strict=True):
        assert one["data_type"] == "TYPE_" + other["datatype"].replace("BYTES", "STRING"), one
        assert [int(size) for size in one["dims"]] == other["shape"][batch:], one


@row("http", "statistics have every field and count one request as one")
def statistics(target: Target) -> None:
    target.need("statistics")
    assert any(one["name"] == target.model for one in target.json("GET", "/v2/models/stats")["model_stats"])

    def count() -> int:
        [told] = target.json("GET", f"{target.path}/stats")["model_stats"]
        counts = {name: int(told["inference_stats"][name]["count"]) for name in _STATISTICS}
        assert len({counts[name] for name in _STATISTICS if name.startswith("compute")}) == 1, f"parts differ: {counts}"
        return counts["success"]

    before = count()
    infer(target, plain_body(target.tensors()))
    assert count() == before + 1


@row("http", "repository index: POST with an empty body, a bare list")
def index(target: Target) -> None:
    target.need("model_repository")
    for body in (b"", b'{"ready": true}'):
        told = target.json("POST", "/v2/repository/index", body)
        assert isinstance(told, list), "no bare list"
        assert [one for one in told if one["name"] == target.model and one["state"] == "READY"], told
