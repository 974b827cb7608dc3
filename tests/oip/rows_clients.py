"""Rows with tritonclient as it is: http, http.aio, grpc and grpc.aio have to work, and to be told the same bits."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from rows import row
from target import NotOfferedError, Target, Tensors, datatype_of, same
from tritonclient.utils import InferenceServerException

_MODULES: dict[str, Any] = {
    "http": tritonclient.http,
    "http.aio": tritonclient.http.aio,
    "grpc": tritonclient.grpc,
    "grpc.aio": tritonclient.grpc.aio,
}
_CLIENTS = tuple(_MODULES)


class Client:
    """One of the four, asked alike; what it gives to be awaited is awaited."""

    def __init__(self, target: Target, name: str):
        self._target, self._name, self._module = target, name, _MODULES[name]
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Client:
        address = self._target.http if self._name.startswith("http") else self._target.grpc

        async def opened() -> Any:
            return self._module.InferenceServerClient(address)

        aio = self._name.endswith("aio")
        self._client = self._loop.run_until_complete(opened()) if aio else self._module.InferenceServerClient(address)
        return self

    def __exit__(self, *_: Any) -> None:
        self._done(self._client.close())
        self._loop.close()

    def call(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Whatever the client has."""
        return self._done(getattr(self._client, method)(*arguments, **more))

    def infer(self, *, binary: bool = True, classes: int = 0, names: list[str] | None = None, **more: Any) -> Any:
        """The client's own result."""
        is_http = self._name.startswith("http")
        inputs, outputs = [], []
        for name, value in self._target.tensors().items():
            tensor = self._module.InferInput(name, list(value.shape), datatype_of(value))
            tensor.set_data_from_numpy(value, **({"binary_data": binary} if is_http else {}))
            inputs.append(tensor)
        for name in names or self._names():
            how = {"class_count": classes} | ({"binary_data": binary} if is_http else {})
            outputs.append(self._module.InferRequestedOutput(name, **how))
        return self.call("infer", self._target.model, inputs, outputs=outputs, **more)

    def tensors(self, **how: Any) -> Tensors:
        """As arrays."""
        result = self.infer(**how)
        return {name: result.as_numpy(name) for name in self._names()}

    def _names(self) -> list[str]:
        return [one["name"] for one in self._target.metadata["outputs"]]

    def _done(self, found: Any) -> Any:
        return self._loop.run_until_complete(found) if inspect.isawaitable(found) else found


def _rows(name: str) -> None:
    needs = (name.partition(".")[0],)

    @row(f"tritonclient {name}", "health, metadata, configuration, statistics, index", needs=needs)
    def about(target: Target) -> None:
        with Client(target, name) as client:
            for method in ("is_server_live", "is_server_ready"):
                assert client.call(method) is True, method
            assert client.call("is_model_ready", target.model) is True
            if name.startswith("http"):
                assert client.call("is_model_ready", "no-such-model") is False
            client.call("get_server_metadata")
            client.call("get_model_metadata", target.model)
            for extension, method in (
                ("model_configuration", "get_model_config"),
                ("statistics", "get_inference_statistics"),
            ):
                if extension in target.extensions:
                    client.call(method, target.model)
            if "model_repository" in target.extensions:
                client.call("get_model_repository_index")

    @row(f"tritonclient {name}", "infer: id, version, gzip, deflate, JSON", needs=needs)
    def infer(target: Target) -> None:
        with Client(target, name) as client:
            expected = client.tensors()
            result = client.infer(request_id="order-7")
            response = result.get_response()
            assert (response["id"] if isinstance(response, dict) else response.id) == "order-7"
            for version in target.metadata.get("versions", []):
                same(client.tensors(model_version=version), expected)
            for how in ("gzip", "deflate"):
                keys = ("request_compression_algorithm", "response_compression_algorithm")
                packed = dict.fromkeys(keys, how) if name.startswith("http") else {"compression_algorithm": how}
                same(client.tensors(**packed), expected)
            if name.startswith("http") and all(value.dtype != np.float16 for value in target.tensors().values()):
                same(client.tensors(binary=False), expected, exact=False)

    @row(f"tritonclient {name}", "class_count", needs=needs)
    def classes(target: Target) -> None:
        target.need("classification")
        fitting = [one for one in target.metadata["outputs"] if one["datatype"] == "FP32" and len(one["shape"]) == 2]
        if not fitting or int(fitting[0]["shape"][1]) < 2:
            raise NotOfferedError("no output of classes")
        chosen = fitting[0]["name"]
        with Client(target, name) as client:
            found = client.infer(classes=2, names=[chosen]).as_numpy(chosen)
        assert found.shape[1] == 2, found.shape
        assert all(one.count(b":") >= 1 for one in found.reshape(-1)), found

    @row(f"tritonclient {name}", "an error is one that says something", needs=needs)
    def errors(target: Target) -> None:
        with Client(target, name) as client:
            said = None
            try:
                client.infer(names=["no such output"])
            except InferenceServerException as error:
                said = str(error.message())
            assert said is not None, "an output that is not there was answered"
            assert said, "an error without a text"
            assert "an exception occurred in the client" not in said, said
            assert client.call("is_server_live") is True


for _name in _CLIENTS:
    _rows(_name)


@row("tritonclient", "all four are told the same, bit for bit", needs=("http", "grpc"))
def four(target: Target) -> None:
    found = []
    for name in _CLIENTS:
        with Client(target, name) as client:
            found.append(client.tensors())
    for other in found[1:]:
        same(other, found[0])
