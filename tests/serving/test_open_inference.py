"""The Open Inference Protocol over HTTP, byte by byte, as its clients send it."""

from __future__ import annotations

import gzip
import json
import os
import signal
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servers import PATIENCE_S, Server, Start
from sortal.core.bundle import open_bundle
from sortal.runtime.classifier import open_classifier
from sortal.workspace.deployment import promote
from sortal.workspace.folder import create_workspace

MODEL = "/v2/models/one"


def pixels(count: int = 3) -> np.ndarray:
    """(count, 16, 16, 3): red, green, blue in turn."""
    found = np.zeros((count, 16, 16, 3), np.uint8)
    for row in range(count):
        found[row, ..., row % 3] = 200
    return found


def asked(images: np.ndarray, **more: Any) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.reshape(-1).tolist()}
        ],
        **more,
    }


def binary(images: np.ndarray, **more: Any) -> tuple[bytes, dict[str, str]]:
    raw = images.tobytes()
    item = {"name": "image", "datatype": "UINT8", "shape": list(images.shape)}
    head = json.dumps({"inputs": [item | {"parameters": {"binary_data_size": len(raw)}}], **more}).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head))}


def infer(server: Server, body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> tuple[int, Any]:
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    status, _, text = server.ask("POST", f"{MODEL}/infer", data, headers)
    return status, json.loads(text)


def until(server: Server, number: str, value: float) -> None:
    """Until a number of the server's metrics is so large."""
    end = time.monotonic() + PATIENCE_S
    while server.numbers()[number] != value:
        assert time.monotonic() < end, server.log.read_text(encoding="utf-8")
        time.sleep(0.05)


def expected(bundles: tuple[Path, Path], images: np.ndarray) -> Any:
    with open_classifier(bundles[0]) as model:
        return model.predict_prepared(images)


def test_what_is_asked_before_the_first_question(shared: Server) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/1/ready"):
        assert shared.ask("GET", path)[0] == 200, path
    for path in ("/v2", "/v2/"):
        told = json.loads(shared.ask("GET", path)[2])
        assert (told["name"], "binary_tensor_data" in told["extensions"]) == ("sortal", True)
    metadata = json.loads(shared.ask("GET", MODEL)[2])
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 16, 16, 3]}]
    assert metadata["outputs"][0] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
    config = json.loads(shared.ask("GET", f"{MODEL}/config")[2])
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (8, [16, 16, 3])
    assert json.loads(shared.ask("POST", "/v2/repository/index")[2])[0]["state"] == "READY"


def test_numbers_in_json_are_answered_in_json(shared: Server, bundles: tuple[Path, Path]) -> None:
    status, found = infer(shared, asked(pixels(), id="7"))
    assert (status, found["id"], found["model_name"], found["model_version"]) == (200, "7", "one", "1")
    outputs = {one["name"]: one for one in found["outputs"]}
    answers = expected(bundles, pixels())
    assert outputs["probabilities"]["shape"] == [3, 3]
    assert np.allclose(np.reshape(outputs["probabilities"]["data"], (3, 3)), answers.probabilities, atol=1e-6)
    assert outputs["answer"] == {"name": "answer", "datatype": "INT64", "shape": [3], "data": [0, 1, 2]}
    assert outputs["abstained"]["data"] == answers.abstained.tolist()


@pytest.mark.parametrize("kind", ["", "application/octet-stream", "application/json", "text/plain"])
def test_bytes_behind_the_json_are_answered_alike(shared: Server, bundles: tuple[Path, Path], kind: str) -> None:
    body, headers = binary(pixels(), parameters={"binary_data_output": True})
    headers |= {"Content-Type": kind} if kind else {}
    status, told, text = shared.ask("POST", f"{MODEL}/infer", body, headers)
    assert status == 200
    length = int(told["inference-header-content-length"])
    head = json.loads(text[:length])
    sizes = [one["parameters"]["binary_data_size"] for one in head["outputs"]]
    assert sizes == [36, 24, 3]
    assert len(text) == length + sum(sizes)
    found = np.frombuffer(text[length : length + 36], "<f4").reshape(3, 3)
    assert np.allclose(found, expected(bundles, pixels()).probabilities, atol=1e-6)
    assert np.frombuffer(text[length + 36 : length + 60], "<i8").tolist() == [0, 1, 2]


def test_one_output_as_bytes_and_one_as_numbers(shared: Server) -> None:
    outputs = [
        {"name": "answer", "parameters": {"binary_data": True}},
        {"name": "abstained", "parameters": {"binary_data": False}},
    ]
    status, told, text = shared.ask("POST", f"{MODEL}/infer", json.dumps(asked(pixels(2), outputs=outputs)).encode())
    length = int(told["inference-header-content-length"])
    assert status == 200
    assert [one["name"] for one in json.loads(text[:length])["outputs"]] == ["answer", "abstained"]
    assert np.frombuffer(text[length:], "<i8").tolist() == [0, 1]


def test_classes_are_told_by_name(shared: Server) -> None:
    outputs = [{"name": "probabilities", "parameters": {"classification": 2, "binary_data": True}}]
    _, told, text = shared.ask("POST", f"{MODEL}/infer", json.dumps(asked(pixels(2), outputs=outputs)).encode())
    length = int(told["inference-header-content-length"])
    [output] = json.loads(text[:length])["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    rest, texts = text[length:], []
    while rest:
        (size,) = struct.unpack("<I", rest[:4])
        texts.append(rest[4 : 4 + size].decode())
        rest = rest[4 + size :]
    assert [one.partition(":")[2] for one in texts[::2]] == ["0:red", "1:green"]
    assert float(texts[0].partition(":")[0]) > float(texts[1].partition(":")[0])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bodies_may_be_compressed_both_ways(shared: Server, encoding: str) -> None:
    squeeze, open_up = (gzip.compress, gzip.decompress) if encoding == "gzip" else (zlib.compress, zlib.decompress)
    body, headers = binary(pixels(), parameters={"binary_data_output": True})
    headers |= {"Content-Encoding": encoding, "Accept-Encoding": encoding}
    status, told, text = shared.ask("POST", f"{MODEL}/infer", squeeze(body), headers)
    assert (status, told["content-encoding"]) == (200, encoding)
    plain = open_up(text)
    head = json.loads(plain[: int(told["inference-header-content-length"])])
    assert len(plain) == int(told["inference-header-content-length"]) + sum(
        one["parameters"]["binary_data_size"] for one in head["outputs"]
    )


def _changed(**item: Any) -> dict[str, Any]:
    found = asked(pixels(1))
    found["inputs"][0] |= item
    return found


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (b"[]", "list of inputs"),
        ({"inputs": []}, "takes one input"),
        (_changed(name="pixels"), "takes one input"),
        (_changed(datatype="FP32"), "is UINT8 of shape"),
        (_changed(datatype="BYTES"), "no such datatype"),
        (_changed(datatype=["UINT8"]), "no such datatype"),
        (_changed(shape=[1, 16, 16]), "values"),
        (_changed(shape=[1, 3, 16, 16]), "is UINT8 of shape"),
        (_changed(shape=[-1, 16, 16, 3]), "list of sizes"),
        (_changed(shape=[2**60, 16, 16, 3]), "list of sizes"),
        (_changed(shape=[True, 16, 16, 3]), "list of sizes"),
        (_changed(shape="big"), "list is missing"),
        (_changed(data=None), "has data, or bytes"),
        (_changed(data=[256] * 768), "outside its datatype"),
        (_changed(data=[0.5] * 768), "outside its datatype"),
        (_changed(data=["a"] * 768), "no numbers"),
        (_changed(data=[[1], [2, 3]]), "no numbers"),
        (_changed(data=[1e400] * 768), ""),
        (_changed(shape=[0, 16, 16, 3], data=[]), "1 to 8 images"),
        (_changed(parameters={"binary_data_size": 5}), "takes 768 bytes"),
        (_changed(parameters=3), "parameters are an object"),
        (asked(pixels(9)), "1 to 8 images"),
        (asked(pixels(1), outputs=[{"name": "logits"}]), "no such output"),
        (asked(pixels(1), outputs=[{"name": "answer", "parameters": {"classification": 2}}]), "told as classes"),
        (asked(pixels(1), outputs=[{"name": "probabilities", "parameters": {"classification": -1}}]), "is a number"),
        (asked(pixels(1), outputs={"name": "answer"}), "list is missing"),
    ],
)
def test_what_the_protocol_does_not_allow_is_said(shared: Server, body: bytes | dict[str, Any], said: str) -> None:
    status, found = infer(shared, body)
    assert status == 400
    assert said in found["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Inference-Header-Content-Length": "many"}, 400),
        ({"Inference-Header-Content-Length": "99999999999999999999"}, 400),
        ({"Inference-Header-Content-Length": "9" * 9000}, 400),
        ({"Inference-Header-Content-Length": "0"}, 400),
        ({"Inference-Header-Content-Length": "-3"}, 400),
        ({"Content-Encoding": "br"}, 400),
        ({"Content-Encoding": "gzip"}, 400),
    ],
)
def test_headers_that_lie_are_refused(shared: Server, headers: dict[str, str], status: int) -> None:
    body, own = binary(pixels())
    found, answer = infer(shared, body, own | headers)
    assert found == status
    assert answer["error"]


def test_a_small_body_does_not_become_a_large_one(shared: Server) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    status, answer = infer(shared, bomb, {"Content-Encoding": "gzip"})
    assert status == 413
    assert "unpacked" in answer["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/other/infer",
        f"{MODEL}/versions/2/infer",
        "/v2/models/../../etc/passwd/infer",
        "/v2/models/%2e%2e%2fetc/infer",
    ],
)
def test_other_models_are_not_there(shared: Server, path: str) -> None:
    status, _, text = shared.ask("POST", path, json.dumps(asked(pixels(1))).encode())
    assert status == 404
    assert json.loads(text)["error"]


def test_statistics_count_what_was_asked(shared: Server) -> None:
    before = json.loads(shared.ask("GET", f"{MODEL}/stats")[2])["model_stats"][0]
    infer(shared, asked(pixels(2)))
    infer(shared, b"{")
    after = json.loads(shared.ask("GET", f"{MODEL}/stats")[2])["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 2
    for name, more in (("success", 1), ("fail", 1)):
        assert after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"] == more
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    shared.account()


def test_statistics_outlive_the_classifiers_that_answer_under_a_name(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    """One after the other is live, then one is a canary and takes over; files are no business of the protocol."""
    one, two = (open_bundle(path) for path in bundles)
    body, headers = binary(pixels(2))
    with create_workspace(tmp_path / "line4") as workspace:
        promote(workspace, one)
        server = start(workspace.path, "workers=1", "name=one", "canary_requests=100000")

        def asked_six_times() -> tuple[int, int, int, int]:
            for _ in range(6):
                assert infer(server, body, headers)[0] == 200
                assert server.predict(colors["red"])[0] == 200
            assert infer(server, b"{")[0] == 400
            [told] = json.loads(server.ask("GET", f"{MODEL}/versions/1/stats")[2])["model_stats"]
            counts = (told["inference_stats"][name]["count"] for name in ("success", "fail"))
            return (*counts, told["inference_count"], told["execution_count"])

        assert asked_six_times() == (6, 1, 12, 6)
        promote(workspace, two)
        server.wait_for("exchanged")
        assert asked_six_times() == (12, 2, 24, 12)
        promote(workspace, one, canary=0.9)
        server.wait_for_workers(2)
        assert asked_six_times() == (18, 3, 36, 18)
        promote(workspace, one)
        server.wait_for("exchanged", 2)
        assert asked_six_times() == (24, 4, 48, 24)


def test_the_configuration_tells_how_batches_are_made(start: Start, bundles: tuple[Path, Path]) -> None:
    server = start(bundles[0], "workers=1", "name=one", "warm=false", "delay_ms=1.5", "preferred=[2, 4]")
    config = json.loads(server.ask("GET", f"{MODEL}/config")[2])
    assert config["dynamic_batching"] == {"preferred_batch_size": [2, 4], "max_queue_delay_microseconds": 1500}


def test_requests_that_were_answered_together_were_one_execution(start: Start, bundles: tuple[Path, Path]) -> None:
    server = start(bundles[0], "workers=1", "name=one", "hang_s=60", "answer_s=60")
    [worker] = server.workers()
    body, headers = binary(pixels(2))
    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor(5) as clients:
        first = clients.submit(infer, server, body, headers)
        until(server, "sortal_workers_busy", 1)
        others = [clients.submit(infer, server, body, headers) for _ in range(4)]
        until(server, "sortal_queue_images", 8)
        os.kill(worker, signal.SIGCONT)
        assert {one.result()[0] for one in (first, *others)} == {200}
    [told] = json.loads(server.ask("GET", "/v2/models/stats")[2])["model_stats"]
    assert (told["inference_count"], told["execution_count"]) == (10, 2)
