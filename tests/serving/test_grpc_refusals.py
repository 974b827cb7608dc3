"""gRPC: what is refused, with a status that says whose fault it was and a text that says what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from rpc import CLASSIFIER, INFERENCE, Rpc, asked, classify, infer, pixels
from servers import Server
from sortal.serve.grpc.messages import message_class
from traversals import IN_MESSAGES


@pytest.fixture(scope="module")
def rpc(shared: Server) -> Iterator[Rpc]:
    client = Rpc(shared.grpc)
    yield client
    client.close()


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


def test_strange_names_are_no_models(shared: Server, rpc: Rpc) -> None:
    assert len(IN_MESSAGES) > 40
    for name in IN_MESSAGES:
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
