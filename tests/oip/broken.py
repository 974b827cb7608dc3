"""Can the conformance suite fail? `python broken.py` runs it against a small server, first sound, then with one fault
after another, and prints which rows found each. Ends with 1 where a fault is not found, or where a sound server fails.

The server doubles numbers. It keeps what the suite asks of the core protocol and of binary tensors, and nothing more.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
from conformance import FAIL, look, table
from target import Target
from tritonclient.grpc import service_pb2, service_pb2_grpc

FAULTS = {
    "content type": "infer with numbers in JSON, flat or nested, whatever the content type says",
    "status 202": "live and ready are 200, whatever their body",
    "redirect": "server metadata at /v2 and /v2/, without a redirect",
    "errors in text": "bad requests are 4xx with JSON, and the server lives",
    "errors are 500": "models, versions and paths that are not there are 4xx with JSON",
    "no length": "infer with bytes behind the JSON, both ways, equal to JSON",
    "packed length": "gzip and deflate, both ways; the length counts bytes before packing",
    "big-endian": "infer with bytes behind the JSON, both ways, equal to JSON",
    "all outputs": "each output as bytes or numbers, as it was asked, and no other",
    "no id": "the id comes back, and only where one was sent; versions are answered",
    "typed contents": "infer answers in raw_output_contents, whether inputs were raw or typed",
    "all INTERNAL": "statuses: INVALID_ARGUMENT for bad inputs, NOT_FOUND for models that are not there",
    "a bit of gRPC": "all four are told the same, bit for bit",
}
"""Each with the row that has to find it; others may find it too."""
_MODEL = "doubler"
_TENSORS = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": name, "datatype": "FP32", "shape": [-1, 4]} for name in ("twice", "thrice")],
}
_METADATA = {"name": _MODEL, "versions": ["1"], "platform": "test", **_TENSORS}
_PLACES = (f"/v2/models/{_MODEL}", f"/v2/models/{_MODEL}/versions/1")


class BadRequestError(ValueError):
    """What a client is told."""


def answered(item: dict[str, Any], raw: bytes | None) -> dict[str, np.ndarray]:
    """The outputs to one input."""
    if item.get("name") != "x" or item.get("datatype") != "FP32":
        raise BadRequestError("one input, x of FP32")
    value = np.asarray(item["data"], np.float32) if raw is None else np.frombuffer(raw, "<f4")
    value = value.reshape(-1, 4)
    if list(value.shape) != list(item["shape"]):
        raise BadRequestError("the shape does not fit the data")
    return {"twice": value * 2, "thrice": value * 3}


class Handler(BaseHTTPRequestHandler):
    """The protocol over HTTP; `fault` is set on a subclass."""

    fault = ""
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    """Head and body in one packet; the client's acknowledgement of the first would be waited for."""

    def do_GET(self) -> None:
        path = self.path
        if path.startswith("/v2/health/") or path in [f"{place}/ready" for place in _PLACES]:
            self._send(202 if self.fault == "status 202" else 200, b"")
        elif path in ("/v2", "/v2/"):
            told = {"name": "test", "version": "1", "extensions": ["binary_tensor_data"]}
            self._send(307 if self.fault == "redirect" and path == "/v2/" else 200, json.dumps(told).encode())
        elif path in _PLACES:
            self._send(200, json.dumps(_METADATA).encode())
        else:
            self._refuse("nothing here", 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path not in [f"{place}/infer" for place in _PLACES]:
            self._refuse("nothing here", 404)
        elif self.fault == "content type" and self.headers.get("Content-Type") != "application/json":
            self._refuse("JSON, please", 415)
        else:
            try:
                self._infer(body)
            except Exception as error:
                self._refuse(f"{type(error).__name__}: {error}", 400)

    def _infer(self, body: bytes) -> None:
        packing = self.headers.get("Content-Encoding", "")
        body = gzip.decompress(body) if packing == "gzip" else zlib.decompress(body) if packing == "deflate" else body
        stated = self.headers.get("Inference-Header-Content-Length")
        length = len(body) if stated is None else int(stated)
        if not 0 <= length <= len(body):
            raise BadRequestError("the length is no length within the body")
        if stated == "0":
            item = {"name": "x", "datatype": "FP32", "shape": [len(body) // 16, 4]}
            asked: dict[str, Any] = {"inputs": [item], "parameters": {"binary_data_output": True}}
        else:
            asked = json.loads(body[:length])
        [item] = asked["inputs"]
        binary = "data" not in item
        values = answered(item, body[length:] if binary else None)
        outputs = asked.get("outputs") if self.fault != "all outputs" else None
        usual = asked.get("parameters", {}).get("binary_data_output", False)
        told, blobs = [], []
        for one in outputs or [{"name": name} for name in values]:
            value, shown = values[one["name"]], {"name": one["name"], "datatype": "FP32"}
            if one.get("parameters", {}).get("binary_data", usual):
                blobs.append(value.astype(">f4" if self.fault == "big-endian" else "<f4").tobytes())
                shown |= {"parameters": {"binary_data_size": len(blobs[-1])}}
            else:
                shown |= {"data": value.reshape(-1).tolist()}
            told.append({**shown, "shape": list(value.shape)})
        head: dict[str, Any] = {"model_name": _MODEL, "model_version": "1", "outputs": told}
        if "id" in asked and self.fault != "no id":
            head["id"] = asked["id"]
        self._send_tensors(json.dumps(head).encode(), blobs)

    def _send_tensors(self, text: bytes, blobs: list[bytes]) -> None:
        body, length, headers = b"".join([text, *blobs]), len(text), {}
        if self.headers.get("Accept-Encoding") in ("gzip", "deflate"):
            headers["Content-Encoding"] = self.headers["Accept-Encoding"]
            pack = gzip.compress if headers["Content-Encoding"] == "gzip" else zlib.compress
            body = pack(body)
            length = len(pack(text)) if self.fault == "packed length" else length
        if blobs and self.fault != "no length":
            headers["Inference-Header-Content-Length"] = str(length)
        self._send(200, body, **headers)

    def _refuse(self, said: str, status: int) -> None:
        text = said if self.fault == "errors in text" else json.dumps({"error": said})
        self._send(500 if self.fault == "errors are 500" else status, text.encode())

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The core over gRPC."""

    def __init__(self, fault: str):
        self._fault = fault

    def ServerLive(self, _: Any, __: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, _: Any, __: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=True)

    def ModelReady(self, _: Any, __: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=True)

    def ServerMetadata(self, _: Any, __: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name="test", version="1", extensions=["binary_tensor_data"])

    def ModelMetadata(self, asked: Any, context: Any) -> Any:
        if asked.name != _MODEL:
            self._abort(context, grpc.StatusCode.NOT_FOUND, "no such model")
        return service_pb2.ModelMetadataResponse(**_METADATA)

    def ModelInfer(self, asked: Any, context: Any) -> Any:
        if asked.model_name != _MODEL:
            self._abort(context, grpc.StatusCode.NOT_FOUND, "no such model")
        one = asked.inputs[0]
        item: dict[str, Any] = {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
        item["data"] = list(one.contents.fp32_contents)
        wanted = [output.name for output in asked.outputs] or ["twice", "thrice"]
        try:
            values = answered(item, asked.raw_input_contents[0] if asked.raw_input_contents else None)
            values = {name: values[name] for name in wanted}
        except (ValueError, KeyError) as error:
            self._abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        found = service_pb2.ModelInferResponse(model_name=_MODEL, model_version="1", id=asked.id)
        for name, value in values.items():
            output = found.outputs.add(name=name, datatype="FP32", shape=value.shape)
            if self._fault == "typed contents":
                output.contents.fp32_contents.extend(value.reshape(-1).tolist())
            elif self._fault == "a bit of gRPC":
                found.raw_output_contents.append(np.nextafter(value, np.float32(9)).tobytes())
            else:
                found.raw_output_contents.append(value.tobytes())
        return found

    def _abort(self, context: Any, code: Any, said: str) -> None:
        context.abort(grpc.StatusCode.INTERNAL if self._fault == "all INTERNAL" else code, said)


def found_in(fault: str) -> list[str]:
    """The titles of the rows that fail."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), type("Faulty", (Handler,), {"fault": fault}))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    rpc = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(fault), rpc)
    address = f"127.0.0.1:{rpc.add_insecure_port('127.0.0.1:0')}"
    rpc.start()
    try:
        target = Target(http=f"127.0.0.1:{web.server_port}", grpc=address, model=_MODEL)
        look(target)
        return [one["title"] for one in table(target, lambda _: None) if one["verdict"] == FAIL]
    finally:
        rpc.stop(0)
        web.shutdown()
        web.server_close()


def main() -> int:
    """0 where every fault is found and nothing else."""
    wrong = 0
    for fault, title in {"": "", **FAULTS}.items():
        found = found_in(fault)
        good = title in found if fault else not found
        wrong += not good
        verdict = "WRONG" if not good else "found" if fault else "sound"
        print(f"{verdict}  {fault or 'no fault'}: {'; '.join(found)}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
