"""Damaged messages over gRPC: `python benchmarks/grpc_fuzz.py --http HOST:PORT --grpc HOST:PORT --model NAME`.

Sends `--count` messages (12,500) to ModelInfer, Classify and the methods about models of a running `sortal serve`,
always the same for one `--seed`: bytes flipped, cut out, doubled and spliced, and fields that are well-formed and
wrong. Each has to be answered with a status that says whose fault it was: never INTERNAL, UNKNOWN or UNAVAILABLE.
Afterwards the server is ready, no worker has died, and every request has one outcome. Ends with 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
from PIL import Image

from sortal.serve.grpc.messages import message_class

FORBIDDEN = {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "UNAUTHENTICATED", "DATA_LOSS"}
INFER, CLASSIFY = "/inference.GRPCInferenceService/ModelInfer", "/sortal.v1.Classifier/Classify"
ABOUT = [f"/inference.GRPCInferenceService/Model{name}" for name in ("Ready", "Metadata", "Config", "Statistics")]
_TEXTS = ("", "image", "\0", "../../etc/passwd", "é" * 300, "FP32", "UINT8", "BYTES", "probabilities", "a" * 70_000)
_NUMBERS = (0, 1, -1, 2, 255, 256, 2**31, -(2**31), 2**62, -(2**62))
_AT_ONCE = 16
_PATIENCE_S = 60.0

Message = tuple[str, bytes]


def seeds(model: str, shape: list[int]) -> list[Message]:
    """Messages that are right."""
    pixels = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (2, *shape)).astype(np.uint8)

    def infer(*, typed: bool) -> Message:
        message = message_class("inference.ModelInferRequest")(model_name=model, id="7")
        tensor = message.inputs.add(name="image", datatype="UINT8", shape=pixels.shape)
        if typed:
            tensor.contents.uint_contents.extend(pixels.reshape(-1).tolist())
        else:
            message.raw_input_contents.append(pixels.tobytes())
        message.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
        message.parameters["timeout"].int64_param = 10_000_000
        return INFER, message.SerializeToString()

    def classify(form: str) -> Message:
        file = io.BytesIO()
        Image.fromarray(pixels[0, ..., :3]).save(file, form)
        kind = message_class("sortal.v1.ClassifyRequest")
        return CLASSIFY, kind(images=[file.getvalue()] * 2, top=3, model=model, request_id="7").SerializeToString()

    about = message_class("inference.ModelReadyRequest")(name=model).SerializeToString()
    files = [classify(form) for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
    return [*[infer(typed=False), infer(typed=True)] * 4, *files * 2, *((path, about) for path in ABOUT)]


def damaged(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """Bytes changed at up to four places."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        start = draw.randint(0, len(found))
        end = min(len(found), start + int(2 ** draw.uniform(0, 10)))
        match draw.randrange(7):
            case 0 if found:
                found[start % len(found)] ^= 1 << draw.randrange(8)
            case 1:
                del found[start:end]
            case 2:
                found[start:start] = draw.randbytes(draw.randint(1, 12))
            case 3:
                found[start:start] = found[start:end]
            case 4:
                del found[start:]
            case 5:
                found[start:end] = other[start:end]
            case _:
                found[start:end] = b"\xff" * (end - start)
    return bytes(found)


def wrong(message: Any, draw: random.Random) -> Any:
    """A message that is well-formed, with values in it that nobody meant."""
    for field in draw.sample(list(message.DESCRIPTOR.fields), k=draw.randint(1, len(message.DESCRIPTOR.fields))):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.message_type is not None:
            inner = getattr(message, field.name)
            wrong(inner.add() if field.is_repeated else inner, draw)
            continue
        value = _value(field, draw)
        if value is None:
            message.ClearField(field.name)
        elif field.is_repeated:
            getattr(message, field.name).extend([value] * draw.choice((1, 3, 9)))
        else:
            setattr(message, field.name, value)
    return message


def _value(field: Any, draw: random.Random) -> Any:
    """One that the field can hold; None is none."""
    if field.type in (field.TYPE_STRING, field.TYPE_BYTES):
        text = draw.choice(_TEXTS)
        return text if field.type == field.TYPE_STRING else text.encode()
    if field.type == field.TYPE_BOOL:
        return draw.random() < 0.5
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return draw.choice((0.0, -1.5, float("nan"), float("inf"), 1e300))
    number = draw.choice(_NUMBERS)
    bits = 32 if field.type in (field.TYPE_INT32, field.TYPE_UINT32) else 64
    signed = field.type in (field.TYPE_INT32, field.TYPE_INT64)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return number if low <= number <= high else None


def messages(model: str, shape: list[int], count: int, seed: int) -> Iterator[Message]:
    """`count` of them, the same for the same seed."""
    draw, right = random.Random(seed), seeds(model, shape)
    kinds = {INFER: "inference.ModelInferRequest", CLASSIFY: "sortal.v1.ClassifyRequest"}
    for _ in range(count):
        (path, data), (_, other) = draw.choice(right), draw.choice(right)
        if path in kinds and draw.random() < 0.5:
            data = wrong(message_class(kinds[path]).FromString(data), draw).SerializeToString()
        else:
            data = damaged(data, other, draw)
        yield path, data


async def send(address: str, every: Iterator[Message]) -> Counter[tuple[str, str]]:
    """How often each (path, status) came back."""
    found = Counter[tuple[str, str]]()
    async with grpc.aio.insecure_channel(address) as channel:

        async def some() -> None:
            for path, data in every:
                status = "OK"
                try:
                    await channel.unary_unary(path)(data, timeout=_PATIENCE_S)
                except grpc.RpcError as error:
                    status = error.code().name
                found[path, status] += 1

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
    return found


def told(address: str, path: str) -> bytes:
    """What the server says over HTTP."""
    with urllib.request.urlopen(f"http://{address}{path}", timeout=_PATIENCE_S) as response:
        return bytes(response.read())


def accounted(address: str) -> tuple[float, float]:
    """(requests received over gRPC, their outcomes)."""
    pairs = (line.rpartition(" ") for line in told(address, "/metrics").decode().splitlines() if line[:1] != "#")
    numbers = {name: float(value) for name, _, value in pairs if 'way="grpc"' in name}
    received = sum(value for name, value in numbers.items() if name.startswith("sortal_requests_received_total{"))
    return received, sum(value for name, value in numbers.items() if name.startswith("sortal_requests_total{"))


def main() -> int:
    """0 where nothing was the server's fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--http", required=True, metavar="HOST:PORT")
    parser.add_argument("--grpc", required=True, metavar="HOST:PORT")
    parser.add_argument("--model", required=True)
    parser.add_argument("--count", type=int, default=12_500)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    shape = json.loads(told(asked.http, f"/v2/models/{asked.model}"))["inputs"][0]["shape"][1:]
    before, _ = accounted(asked.http)
    started = time.perf_counter()
    statuses = asyncio.run(send(asked.grpc, messages(asked.model, shape, asked.count, asked.seed)))
    seconds = time.perf_counter() - started
    health = json.loads(told(asked.http, "/health"))
    received, outcomes = accounted(asked.http)
    for path in sorted({path for path, _ in statuses}):
        count = {status: number for (other, status), number in statuses.most_common() if other == path}
        print(f"{path.rpartition('/')[2]:16} {count}")
    bad = sum(number for (_, status), number in statuses.items() if status in FORBIDDEN)
    expected = sum(number for (path, _), number in statuses.items() if path in (INFER, CLASSIFY))
    workers = health["workers_died"]
    print(f"{statuses.total()} messages in {seconds:.1f} s, {bad} the server's fault, {workers} workers died")
    print(f"received: {received - before:.0f} of {expected}; {outcomes:.0f} of {received:.0f} in all have an outcome")
    even = received - before == expected and outcomes == received
    return 0 if bad == 0 and even and health["ready"] and workers == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
