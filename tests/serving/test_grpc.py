"""gRPC: the same answers as over HTTP, and errors that say what kind they are."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.json_format import MessageToDict

from corpus.hostile import hostile
from corpus.odd import odd
from rpc import CLASSIFIER, HEALTH, INFERENCE, Reply, Rpc
from servers import Server
from sortal.serve.grpc.messages import message_class

OUTPUTS = ("probabilities", "answer", "abstained")


@pytest.fixture(scope="module")
def rpc(shared: Server) -> Iterator[Rpc]:
    client = Rpc(shared.grpc)
    yield client
    client.close()


def pixels(count: int = 3) -> np.ndarray:
    """(count, 16, 16, 3): red, green, blue in turn."""
    found = np.zeros((count, 16, 16, 3), np.uint8)
    for row in range(count):
        found[row, ..., row % 3] = 200
    return found


def asked(images: np.ndarray, *, typed: bool = False, **more: Any) -> Any:
    message = message_class("inference.ModelInferRequest")(**{"model_name": "one", **more})
    tensor = message.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    if typed:
        tensor.contents.uint_contents.extend(images.reshape(-1).tolist())
    else:
        message.raw_input_contents.append(images.tobytes())
    return message


def infer(rpc: Rpc, message: Any, **how: Any) -> Reply:
    return rpc.ask(INFERENCE, "ModelInfer", message, **how)


def about(rpc: Rpc, method: str, **asked: Any) -> dict[str, Any]:
    reply = rpc.ask(INFERENCE, method, message_class(f"inference.{method}Request")(**asked))
    found = reply.message(f"inference.{method}Response")
    return MessageToDict(found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def classify(rpc: Rpc, *images: bytes, **more: Any) -> Reply:
    return rpc.ask(CLASSIFIER, "Classify", message_class("sortal.v1.ClassifyRequest")(images=images, **more))


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


def changed(**more: Any) -> Any:
    message = asked(pixels(1))
    for key, value in more.items():
        if key == "shape":
            message.inputs[0].shape[:] = value
        elif key == "raw":
            message.raw_input_contents[:] = value
        else:
            setattr(message.inputs[0], key, value)
    return message


def with_parameter(where: str, name: str, **value: Any) -> Any:
    message = asked(pixels(1))
    holder = message if where == "request" else message.outputs.add(name=where)
    for field, one in value.items():
        setattr(holder.parameters[name], field, one)
    return message


def mixed() -> Any:
    message = asked(pixels(1), typed=True)
    message.raw_input_contents.append(pixels(1).tobytes())
    return message


def typed(field: str, values: list[Any]) -> Any:
    message = asked(pixels(1), typed=True)
    message.inputs[0].ClearField("contents")
    getattr(message.inputs[0].contents, field).extend(values)
    return message


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        (b"", "NOT_FOUND", "no such model"),
        (b"\xff\xff", "INVALID_ARGUMENT", "no ModelInferRequest"),
        (asked(pixels(1), model_name="../../etc/passwd"), "NOT_FOUND", "no such model"),
        (asked(pixels(1), model_version="2"), "NOT_FOUND", "no such model"),
        (changed(name="pixels"), "INVALID_ARGUMENT", "takes one input"),
        (changed(datatype="FP32"), "INVALID_ARGUMENT", "takes 3072 bytes"),
        (changed(datatype="BYTES"), "INVALID_ARGUMENT", "no such datatype"),
        (changed(shape=[1, 3, 16, 16]), "INVALID_ARGUMENT", "is UINT8 of shape"),
        (changed(shape=[-1, 16, 16, 3]), "INVALID_ARGUMENT", "list of sizes"),
        (changed(shape=[2**60, 16, 16, 3]), "INVALID_ARGUMENT", "list of sizes"),
        (changed(shape=[2, 16, 16, 3]), "INVALID_ARGUMENT", "takes 1536 bytes"),
        (changed(shape=[0, 16, 16, 3], raw=[b""]), "INVALID_ARGUMENT", "1 to 8 images"),
        (changed(raw=[]), "INVALID_ARGUMENT", "shape [1, 16, 16, 3] has 768 values"),
        (changed(raw=[b"", b""]), "INVALID_ARGUMENT", "one entry an input"),
        (mixed(), "INVALID_ARGUMENT", "contents, or bytes"),
        (typed("fp32_contents", [1.0] * 768), "INVALID_ARGUMENT", "UINT8 comes in uint_contents"),
        (typed("uint_contents", [256] * 768), "INVALID_ARGUMENT", "outside its datatype"),
        (typed("uint_contents", [1] * 767), "INVALID_ARGUMENT", "has 768 values"),
        (asked(pixels(9)), "INVALID_ARGUMENT", "1 to 8 images"),
        (with_parameter("logits", "classification", int64_param=1), "INVALID_ARGUMENT", "no such output"),
        (with_parameter("answer", "classification", int64_param=1), "INVALID_ARGUMENT", "told as classes"),
        (with_parameter("probabilities", "classification", int64_param=-1), "INVALID_ARGUMENT", "is a number"),
        (with_parameter("probabilities", "classification", string_param="2"), "INVALID_ARGUMENT", "is a number"),
        (with_parameter("request", "timeout", string_param="soon"), "INVALID_ARGUMENT", "number of microseconds"),
        (with_parameter("request", "timeout", int64_param=1), "DEADLINE_EXCEEDED", "were asked for"),
    ],
)
def test_what_the_protocol_does_not_allow_is_said(rpc: Rpc, message: Any, code: str, said: str) -> None:
    reply = infer(rpc, message)
    assert reply.code == code
    assert said in reply.details


STRANGE = (
    *(
        "..",
        "../one",
        "../../etc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "one/../one",
        "./one",
        "one/",
        "/one",
        "one/.",
    ),
    *(
        "..\\one",
        "..\\..\\etc",
        "%2e%2e",
        "%2e%2e%2fone",
        "..%2fone",
        "..%5cone",
        "%252e%252e",
        "one%00",
        "one\0",
        "\0",
    ),
    *(
        "one#",
        "one?",
        "one?version=1",
        "#",
        "?",
        " ",
        "   ",
        " one",
        "one ",
        "\t",
        "\n",
        "one\n",
        " ..",
        ".. ",
        "~",
        "~root",
    ),
    *(
        "//proc/self/root",
        "file:///etc/passwd",
        "\uff0e\uff0e",
        "\u2024\u2024",
        "\u202eeno",
        "ONE",
        "onе",
        "$(id)",
        "a" * 5000,
    ),
)
"""Names that are not the model's, the way people try to reach other files by them."""


def test_strange_names_are_no_models(shared: Server, rpc: Rpc) -> None:
    assert len(STRANGE) > 40
    for name in STRANGE:
        for message in (asked(pixels(1), model_name=name), asked(pixels(1), model_version=name)):
            assert infer(rpc, message).code == "NOT_FOUND", name
        for method in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"):
            message = message_class(f"inference.{method}Request")(name=name)
            assert rpc.ask(INFERENCE, method, message).code == "NOT_FOUND", (method, name)
        request = message_class("sortal.v1.ClassifyRequest")(images=[b"1"], model=name)
        assert rpc.ask(CLASSIFIER, "Classify", request).code == "NOT_FOUND", name
        for path in (f"/v2/models/{quote(name)}/ready", f"/v2/models/one/versions/{quote(name)}/ready"):
            status, _, text = shared.ask("GET", path)
            assert (status, bool(json.loads(text)["error"])) == (404, True), path
    shared.account()


def test_other_methods_are_not_there(rpc: Rpc) -> None:
    for service, method in (
        (INFERENCE, "SystemSharedMemoryRegister"),
        (INFERENCE, "RepositoryModelLoad"),
        ("x.Y", "Z"),
    ):
        assert rpc.ask(service, method, b"").code == "UNIMPLEMENTED"


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
    assert told == expected["predictions"]
    assert len(classify(rpc, colors["red"]).message("sortal.v1.ClassifyResponse").request_id) == 32


def test_a_request_for_nothing_good_is_refused(rpc: Rpc, colors: dict[str, bytes]) -> None:
    for reply, code, said in (
        (classify(rpc), "INVALID_ARGUMENT", "no image in the request"),
        (classify(rpc, b""), "INVALID_ARGUMENT", "no image in the request"),
        (classify(rpc, *[colors["red"]] * 9), "RESOURCE_EXHAUSTED", "may bring 8 images"),
        (classify(rpc, colors["red"], top=21), "INVALID_ARGUMENT", "from 1 to 20"),
        (classify(rpc, colors["red"], model="two"), "NOT_FOUND", "there is: one"),
        (rpc.ask(CLASSIFIER, "Classify", b"\x0a\xff"), "INVALID_ARGUMENT", "no ClassifyRequest"),
    ):
        assert (reply.code, said in reply.details) == (code, True), reply
    reply = classify(rpc, colors["red"][:40], b"no image")
    assert (reply.code, reply.trailing["sortal-codes"]) == ("INVALID_ARGUMENT", "truncated,not_an_image")


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


def test_messages_are_limited_also_when_they_are_packed(shared: Server, rpc: Rpc, colors: dict[str, bytes]) -> None:
    before = shared.numbers()["process_resident_memory_bytes"]
    for packed, size in ((False, 2_000_000), (True, 50_000_000)):
        message = message_class("sortal.v1.ClassifyRequest")(images=[bytes(size)])
        reply = rpc.ask(CLASSIFIER, "Classify", message, packed=packed)
        assert (reply.code, "larger than max" in reply.details) == ("RESOURCE_EXHAUSTED", True)
    assert shared.numbers()["process_resident_memory_bytes"] - before < 20e6
    message = message_class("sortal.v1.ClassifyRequest")(images=[colors["green"]])
    reply = rpc.ask(CLASSIFIER, "Classify", message, packed=True)
    assert reply.message("sortal.v1.ClassifyResponse").predictions[0].decision.label == "green"
    shared.account()


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
