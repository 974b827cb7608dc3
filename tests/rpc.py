"""A client of gRPC in a process of its own: a process that has imported grpc must not fork, and other tests do.

The test makes messages with `sortal.serve.grpc.messages`; what goes between the two processes is JSON, line by line.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sortal.serve.grpc.messages import message_class

PATIENCE_S = 60.0
INFERENCE, CLASSIFIER, HEALTH = "inference.GRPCInferenceService", "sortal.v1.Classifier", "grpc.health.v1.Health"


@dataclass(kw_only=True)
class Reply:
    """The end of a call, and the messages before it."""

    code: str
    details: str = ""
    trailing: dict[str, str] = field(default_factory=dict)
    messages: list[bytes] = field(default_factory=list)

    def message(self, kind: str) -> Any:
        """The only one."""
        assert self.code == "OK", (self.code, self.details)
        [data] = self.messages
        return message_class(kind).FromString(data)


class Rpc:
    """A channel to one address."""

    def __init__(self, address: str):
        command = [sys.executable, __file__, address]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._open: dict[int, Future[Reply]] = {}
        self._count = 0
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def begin(
        self,
        service: str,
        method: str,
        *requests: Any,
        timeout: float = PATIENCE_S,
        packed: bool = False,
        metadata: dict[str, str] | None = None,
        cancel_s: float | None = None,
        open_s: float = 0.0,
    ) -> Future[Reply]:
        """A call. It is cancelled after `cancel_s`, and the client has more to say, and does not, for `open_s`."""
        self._count += 1
        texts = [
            base64.b64encode(one if isinstance(one, bytes) else one.SerializeToString()).decode() for one in requests
        ]
        asked = {"call": self._count, "path": f"/{service}/{method}", "requests": texts, "timeout": timeout}
        asked |= {"packed": packed, "metadata": metadata or {}, "cancel_s": cancel_s, "open_s": open_s}
        future = self._open[self._count] = Future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return future

    def ask(self, service: str, method: str, *requests: Any, **how: Any) -> Reply:
        """The reply to a call."""
        return self.begin(service, method, *requests, **how).result(2 * PATIENCE_S)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._listener.join(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            messages = [base64.b64decode(one) for one in told.pop("messages")]
            self._open.pop(told.pop("call")).set_result(Reply(**told, messages=messages))


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


def classify(rpc: Rpc, *images: bytes, **more: Any) -> Reply:
    return rpc.ask(CLASSIFIER, "Classify", message_class("sortal.v1.ClassifyRequest")(images=images, **more))


def _answer(channel: Any, asked: dict[str, Any]) -> dict[str, Any]:
    import grpc

    def said() -> Any:
        yield from (base64.b64decode(one) for one in asked["requests"])
        time.sleep(asked["open_s"])

    call = channel.stream_stream(asked["path"])(
        said(),
        timeout=asked["timeout"],
        metadata=tuple(asked["metadata"].items()),
        compression=grpc.Compression.Gzip if asked["packed"] else None,
    )
    if asked["cancel_s"] is not None:
        threading.Timer(asked["cancel_s"], call.cancel).start()
    messages = []
    with suppress(grpc.RpcError):
        for one in call:
            messages.append(base64.b64encode(one).decode())  # noqa: PERF401 - those before an error count
    trailing = {key: value for key, value in call.trailing_metadata() or () if isinstance(value, str)}
    told = {"code": call.code().name, "details": call.details() or "", "trailing": trailing}
    return {"call": asked["call"], "messages": messages, **told}


def main(address: str) -> None:
    """Answer lines until there are no more."""
    import grpc

    sizes = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    lock = threading.Lock()

    def answer(line: str) -> None:
        told = json.dumps(_answer(channel, json.loads(line)))
        with lock:
            print(told, flush=True)

    with grpc.insecure_channel(address, options=sizes) as channel, ThreadPoolExecutor(64) as threads:
        for line in sys.stdin:
            threads.submit(answer, line)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
    main(sys.argv[1])
