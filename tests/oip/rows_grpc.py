"""Rows over gRPC, message by message."""

from __future__ import annotations

from typing import Any

import grpc
from rows import row
from target import NotOfferedError, Target, Tensors, datatype_of, from_raw, raw_of, same
from tritonclient.grpc import service_pb2, service_pb2_grpc

_PATIENCE_S = 60.0
_TYPED = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class Stub:
    """All methods of the service; `with Stub(target) as stub`."""

    def __init__(self, target: Target):
        assert target.grpc is not None
        self._channel = grpc.insecure_channel(target.grpc)

    def __enter__(self) -> Any:
        return service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def __exit__(self, *_: Any) -> None:
        self._channel.close()


def asked(target: Target, *, typed: bool = False, **more: Any) -> Any:
    """A request for all outputs."""
    message = service_pb2.ModelInferRequest(**{"model_name": target.model, **more})
    for name, value in target.tensors().items():
        kind = datatype_of(value)
        tensor = message.inputs.add(name=name, datatype=kind, shape=value.shape)
        if not typed:
            message.raw_input_contents.append(raw_of(value))
        elif kind not in _TYPED:
            raise NotOfferedError(f"{kind} has no typed contents")
        else:
            getattr(tensor.contents, _TYPED[kind]).extend(value.reshape(-1).tolist())
    return message


def outputs(response: Any) -> Tensors:
    """What was answered; clients read bytes alone."""
    assert not any(one.HasField("contents") for one in response.outputs), "typed contents cannot be read by clients"
    assert len(response.raw_output_contents) == len(response.outputs), "an output without bytes"
    return {
        one.name: from_raw(raw, one.datatype, list(one.shape))
        for one, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def code_of(method: Any, message: Any) -> str:
    """The status of a call."""
    try:
        method(message, timeout=_PATIENCE_S)
    except grpc.RpcError as error:
        code, details = error.code().name, error.details()
    else:
        return "OK"
    assert details, "the error says nothing"
    return str(code)


@row("grpc", "live and ready")
def health(target: Target) -> None:
    with Stub(target) as stub:
        assert stub.ServerLive(service_pb2.ServerLiveRequest()).live
        assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
        assert stub.ModelReady(service_pb2.ModelReadyRequest(name=target.model)).ready


@row("grpc", "metadata is that of HTTP", needs=("http", "grpc"))
def metadata(target: Target) -> None:
    with Stub(target) as stub:
        server = stub.ServerMetadata(service_pb2.ServerMetadataRequest())
        assert list(server.extensions) == target.extensions
        told = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=target.model))
    for name, tensors in (("inputs", told.inputs), ("outputs", told.outputs)):
        found = [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in tensors]
        assert found == target.metadata[name], name
    assert list(told.versions) == target.metadata.get("versions", [])


@row("grpc", "infer answers in raw_output_contents, whether inputs were raw or typed")
def infer(target: Target) -> None:
    with Stub(target) as stub:
        found = stub.ModelInfer(asked(target, id="order-7"), timeout=_PATIENCE_S)
        assert (found.model_name, found.id) == (target.model, "order-7")
        same(outputs(stub.ModelInfer(asked(target, typed=True), timeout=_PATIENCE_S)), outputs(found))


@row("grpc", "gzip and deflate of single calls")
def packed(target: Target) -> None:
    with Stub(target) as stub:
        expected = outputs(stub.ModelInfer(asked(target), timeout=_PATIENCE_S))
        for how in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            found = stub.ModelInfer(asked(target), timeout=_PATIENCE_S, compression=how)
            same(outputs(found), expected)


@row("grpc", "statuses: INVALID_ARGUMENT for bad inputs, NOT_FOUND for models that are not there")
def statuses(target: Target) -> None:
    with Stub(target) as stub:
        for change in ("name", "datatype", "shape", "raw"):
            message = asked(target)
            if change == "shape":
                message.inputs[0].shape.append(7)
            elif change == "raw":
                message.raw_input_contents[0] += b"more"
            else:
                setattr(message.inputs[0], change, "none of these")
            assert code_of(stub.ModelInfer, message) == "INVALID_ARGUMENT", change
        for name in ("no-such-model", "../../etc/passwd"):
            assert code_of(stub.ModelInfer, asked(target, model_name=name)) == "NOT_FOUND", name
            assert code_of(stub.ModelMetadata, service_pb2.ModelMetadataRequest(name=name)) == "NOT_FOUND", name
        assert stub.ServerLive(service_pb2.ServerLiveRequest()).live


@row("grpc", "configuration, statistics and repository index, as they are listed")
def extensions(target: Target) -> None:
    with Stub(target) as stub:
        if "model_configuration" in target.extensions:
            config = stub.ModelConfig(service_pb2.ModelConfigRequest(name=target.model)).config
            assert config.name == target.model
        if "statistics" in target.extensions:
            [told] = stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=target.model)).model_stats
            assert told.inference_stats.success.count > 0
        if "model_repository" in target.extensions:
            models = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest()).models
            assert any(one.name == target.model and one.state == "READY" for one in models)


@row("grpc", "shared memory is not offered")
def shared_memory(target: Target) -> None:
    with Stub(target) as stub:
        message = service_pb2.SystemSharedMemoryRegisterRequest(name="x", key="/x", byte_size=8)
        assert code_of(stub.SystemSharedMemoryRegister, message) != "OK"


@row("grpc", "a stream answers in order and goes on after an error")
def stream(target: Target) -> None:
    bad = asked(target, id="bad")
    bad.inputs[0].name = "none of these"
    messages = [asked(target, id="first"), bad, asked(target, id="last")]
    with Stub(target) as stub:
        try:
            found = list(stub.ModelStreamInfer(iter(messages), timeout=_PATIENCE_S))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise NotOfferedError("ModelStreamInfer is UNIMPLEMENTED") from error
            raise AssertionError(f"{error.code().name}: {error.details()}") from error
    assert [bool(one.error_message) for one in found] == [False, True, False]
    assert [one.infer_response.id for one in found][::2] == ["first", "last"]


@row("grpc", "grpc.health.v1 says that the server serves")
def standard_health(target: Target) -> None:
    assert target.grpc is not None
    with grpc.insecure_channel(target.grpc) as channel:
        try:
            found = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=_PATIENCE_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise NotOfferedError("grpc.health.v1 is UNIMPLEMENTED") from error
            raise AssertionError(f"{error.code().name}: {error.details()}") from error
    assert found == b"\x08\x01", "not SERVING"
