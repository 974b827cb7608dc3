"""gRPC: the same answers as over HTTP, and errors that say what kind they are."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.json_format import MessageToDict

from corpus.hostile import hostile
from corpus.odd import odd
from rpc import CLASSIFIER, HEALTH, INFERENCE, Rpc, asked, classify, infer, pixels
from servers import Server, Start
from sortal.core.bundle import open_bundle
from sortal.serve.grpc.messages import message_class
from sortal.workspace.deployment import promote
from sortal.workspace.folder import create_workspace

OUTPUTS = ("probabilities", "answer", "abstained")


@pytest.fixture(scope="module")
def rpc(shared: Server) -> Iterator[Rpc]:
    client = Rpc(shared.grpc)
    yield client
    client.close()


def about(rpc: Rpc, method: str, **asked: Any) -> dict[str, Any]:
    reply = rpc.ask(INFERENCE, method, message_class(f"inference.{method}Request")(**asked))
    found = reply.message(f"inference.{method}Response")
    return MessageToDict(found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def over_http(server: Server, images: np.ndarray) -> list[bytes]:
    """The raw outputs of the same question."""
    raw = images.tobytes()
    item: dict[str, Any] = {"name": "image", "datatype": "UINT8", "shape": list(images.shape)}
    item["parameters"] = {"binary_data_size": len(raw)}
    text = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
    _, told, body = server.ask(
        "POST", "/v2/models/one/infer", text + raw, {"Inference-Header-Content-Length": str(len(text))}
    )
    length = int(told["inference-header-content-length"])
    sizes = [one["parameters"]["binary_data_size"] for one in json.loads(body[:length])["outputs"]]
    ends = [length + sum(sizes[: position + 1]) for position in range(len(sizes))]
    return [body[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def plain(value: Any) -> Any:
    """As protobuf writes JSON: numbers of 64 bits are texts."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_what_is_asked_before_the_first_question_is_what_http_says(shared: Server, rpc: Rpc) -> None:
    assert (about(rpc, "ServerLive"), about(rpc, "ServerReady")) == ({"live": True}, {"ready": True})
    assert about(rpc, "ModelReady", name="one") == about(rpc, "ModelReady", name="one", version="1") == {"ready": True}
    for method, path in (("ServerMetadata", "/v2"), ("ModelMetadata", "/v2/models/one")):
        more = {} if method == "ServerMetadata" else {"name": "one"}
        assert about(rpc, method, **more) == plain(json.loads(shared.ask("GET", path)[2]))
    told = json.loads(shared.ask("GET", "/v2/models/one/config")[2])
    config = about(rpc, "ModelConfig", name="one")["config"]
    assert config["max_batch_size"] == told["max_batch_size"]
    assert config["input"] == plain(told["input"])
    assert [one["name"] for one in config["output"]] == list(OUTPUTS)
    assert about(rpc, "RepositoryIndex")["models"] == json.loads(shared.ask("POST", "/v2/repository/index")[2])


@pytest.mark.parametrize("form", ["raw", "typed"])
def test_pixels_are_answered_as_over_http_bit_for_bit(shared: Server, rpc: Rpc, form: str) -> None:
    found = infer(rpc, asked(pixels(), typed=form == "typed", id="7")).message("inference.ModelInferResponse")
    assert (found.id, found.model_name, found.model_version) == ("7", "one", "1")
    assert [(one.name, one.datatype, list(one.shape)) for one in found.outputs] == [
        ("probabilities", "FP32", [3, 3]),
        ("answer", "INT64", [3]),
        ("abstained", "BOOL", [3]),
    ]
    assert not any(one.HasField("contents") for one in found.outputs)
    assert list(found.raw_output_contents) == over_http(shared, pixels())
    assert np.frombuffer(found.raw_output_contents[1], "<i8").tolist() == [0, 1, 2]


def test_outputs_are_chosen_and_told_as_classes(rpc: Rpc) -> None:
    message = asked(pixels(2))
    message.outputs.add(name="answer")
    message.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    found = infer(rpc, message).message("inference.ModelInferResponse")
    assert [(one.name, one.datatype, list(one.shape)) for one in found.outputs] == [
        ("answer", "INT64", [2]),
        ("probabilities", "BYTES", [2, 2]),
    ]
    texts = re.findall(rb"[0-9.]+:\d:[a-z]+", found.raw_output_contents[1])
    assert [one.partition(b":")[2] for one in texts[::2]] == [b"0:red", b"1:green"]


def test_a_stream_answers_in_order_and_goes_on_after_an_error(rpc: Rpc) -> None:
    bad = asked(pixels(1), id="bad")
    bad.inputs[0].name = "pixels"
    reply = rpc.ask(INFERENCE, "ModelStreamInfer", asked(pixels(1), id="a"), bad, b"\xff", asked(pixels(2), id="c"))
    found = [message_class("inference.ModelStreamInferResponse").FromString(one) for one in reply.messages]
    assert reply.code == "OK"
    assert [one.infer_response.id for one in found] == ["a", "bad", "", "c"]
    assert [one.error_message.split("\n")[0] for one in found] == [
        "",
        "the model takes one input, image",
        "this is no ModelInferRequest",
        "",
    ]


def test_classify_answers_as_predict_does(shared: Server, rpc: Rpc, colors: dict[str, bytes]) -> None:
    files_sent = [colors["blue"], b"no image", colors["red"]]
    texts = [base64.b64encode(one).decode() for one in files_sent]
    _, expected = shared.predict(
        json.dumps({"images": texts}).encode(), "/predict?top=2", Content_Type="application/json"
    )
    found = classify(rpc, *files_sent, top=2, request_id="order-7").message("sortal.v1.ClassifyResponse")
    assert (found.request_id, found.bundle_id) == ("order-7", expected["bundle_id"])
    assert [one.WhichOneof("outcome") for one in found.predictions] == ["decision", "failure", "decision"]
    told = [
        MessageToDict(
            getattr(one, one.WhichOneof("outcome")),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        for one in found.predictions
    ]
    assert [one.pop("index", None) for one in told] == [2, None, 0]
    for one in expected["predictions"]:
        one.pop("index", None)
    assert told == expected["predictions"]
    assert len(classify(rpc, colors["red"]).message("sortal.v1.ClassifyResponse").request_id) == 32


def test_classify_says_who_answered_as_predict_does(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    one, two = (open_bundle(path) for path in bundles)
    with create_workspace(tmp_path / "line4") as workspace:
        promote(workspace, one)
        promote(workspace, two, canary=0.5)
        server = start(workspace.path, "workers=1")
        server.wait_for_workers(2)
    client, message = Rpc(server.grpc), message_class("sortal.v1.ClassifyRequest")(images=[colors["red"]])
    told = dict[str, tuple[str, str]]()
    for key in (f"part-{number}" for number in range(24)):
        reply = client.ask(CLASSIFIER, "Classify", message, metadata={"x-routing-key": key})
        answer = reply.message("sortal.v1.ClassifyResponse")
        told[key] = (answer.role, answer.bundle_id)
    client.close()
    assert set(told.values()) == {("live", one.id), ("canary", two.id)}
    over_http = {key: server.predict(colors["red"], X_Routing_Key=key)[1] for key in told}
    assert told == {key: (answer["role"], answer["bundle_id"]) for key, answer in over_http.items()}


def test_the_hostile_files_get_the_verdict_of_http(shared: Server, rpc: Rpc) -> None:
    cases = [(name, make()) for name, _, make in [*hostile(), *odd()]]
    cases = [(name, data) for name, data in cases if len(data) < 900_000]
    assert len(cases) > 60
    for name, data in cases:
        status, expected = shared.predict(data)
        reply = classify(rpc, data)
        if status == 200:
            [found] = reply.message("sortal.v1.ClassifyResponse").predictions
            [answer] = expected["predictions"]
            decision = found.decision
            assert (decision.label, decision.probability) == (answer["label"], answer["probability"]), name
        else:
            assert reply.code == "INVALID_ARGUMENT", name
            [answer] = expected.get("predictions", [{"code": ""}])  # a file of no bytes is no image in the request
            assert reply.trailing.get("sortal-codes", "") == answer["code"], name
    assert json.loads(shared.ask("GET", "/health")[2])["workers_died"] == 0


def test_health_names_services_and_models(rpc: Rpc) -> None:
    from grpc_health.v1 import health_pb2

    for name in ("", INFERENCE, CLASSIFIER, "one"):
        reply = rpc.ask(HEALTH, "Check", health_pb2.HealthCheckRequest(service=name))
        assert health_pb2.HealthCheckResponse.FromString(reply.messages[0]).status == 1
    assert rpc.ask(HEALTH, "Check", health_pb2.HealthCheckRequest(service="two")).code == "NOT_FOUND"
    reply = rpc.ask(HEALTH, "Watch", health_pb2.HealthCheckRequest(service="two"), timeout=2.0)
    assert [health_pb2.HealthCheckResponse.FromString(one).status for one in reply.messages] == [3]


def test_statistics_are_one_whatever_way_a_request_came(shared: Server, rpc: Rpc) -> None:
    before = about(rpc, "ModelStatistics", name="one")["model_stats"][0]
    over_http(shared, pixels(2))
    infer(rpc, asked(pixels(1)))
    infer(rpc, asked(pixels(9)))
    after = about(rpc, "ModelStatistics")["model_stats"][0]
    assert int(after["inference_count"]) - int(before["inference_count"]) == 3
    counts = [
        int(after["inference_stats"][name]["count"]) - int(before["inference_stats"][name]["count"])
        for name in ("success", "fail")
    ]
    assert counts == [2, 1]
    shared.account()


def test_the_compiled_descriptors_are_those_of_the_protos() -> None:
    protos = files("sortal.serve.grpc").joinpath("protos")
    compiled = descriptor_pb2.FileDescriptorSet.FromString(protos.joinpath("descriptors.binpb").read_bytes())
    for file in compiled.file:
        found = {(field.name, field.number) for message in _messages(file.message_type) for field in message.field}
        found |= {(value.name, value.number) for enum in file.enum_type for value in enum.value}
        methods = {(method.name, method.input_type.rpartition(".")[2]) for one in file.service for method in one.method}
        text = re.sub(r"//.*", "", protos.joinpath(file.name).read_text(encoding="utf-8"))
        written = re.findall(r"(\w+) = (\d+);", text)
        assert {(name, int(number)) for name, number in written} == found
        assert set(re.findall(r"rpc (\w+)\((?:stream )?(\w+)\)", text)) == methods
    assert {file.name for file in compiled.file} == {
        one.name for one in protos.iterdir() if one.name.endswith(".proto")
    }


def _messages(messages: Any) -> Iterator[Any]:
    """With those inside; entries of maps are written otherwise."""
    for message in messages:
        if not message.options.map_entry:
            yield message
        yield from _messages(message.nested_type)
