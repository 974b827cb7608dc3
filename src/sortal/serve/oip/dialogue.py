"""What the protocol says, whatever carries it: about the server and its models, and answers to tensors.

`routes` puts it into HTTP and `sortal.serve.grpc` into gRPC; so both say the same.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DeadlineError, InputError, InternalError, MachineError, OverloadError
from sortal.serve.account import Call
from sortal.serve.batcher import FAILURES, Went
from sortal.serve.frames import PIXELS
from sortal.serve.metrics import Outcome
from sortal.serve.models import VERSION, Answered, Models, Served
from sortal.serve.oip.tensors import Asked, InferRequest
from sortal.serve.settings import ServeSettings

INPUT, PROBABILITIES, ANSWER, ABSTAINED = "image", "probabilities", "answer", "abstained"
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics")
PARTS = ("compute_input", "queue", "compute_infer", "compute_output")
"""Of a request, in the order of time; clients expect as many of each as there were requests."""
ENDING_S = 5.0
"""When a client that a server refuses at its end should ask another one."""


@dataclass(kw_only=True)
class Seen:
    """What is counted under one name since the server began, whatever classifiers answer under it."""

    success: int = 0
    fail: int = 0
    images: int = 0
    batches: int = 0
    counted: WeakSet[Went] = field(default_factory=WeakSet)
    """Batches that are counted and whose other requests may still come; they hold them until then."""
    spent_ns: int = 0
    parts_ns: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    """Where the time of those that succeeded went."""
    last_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """The answer to an infer request: each output that was asked for, with its values."""

    model: str
    outputs: list[tuple[Asked, NDArray[Any]]] = field(default_factory=list)


class Dialogue:
    """Over the models of a server."""

    def __init__(self, models: Models, settings: ServeSettings):
        self._models, self._settings = models, settings
        self._seen: dict[str, Seen] = {}
        self.is_ending = False

    @property
    def is_ready(self) -> bool:
        """Whether every model would answer now."""
        return self._models.is_ready and not self.is_ending

    def check(self, name: str, version: str = "") -> None:
        """Raises NotFoundError where there is no such model, OverloadError where the server is ending."""
        self._models.find(name, version)
        if self.is_ending:
            raise OverloadError("the server is ending", retry_after_s=ENDING_S)

    def server(self) -> dict[str, Any]:
        """Name, version, and what is spoken beside the core."""
        return {"name": "sortal", "version": version("sortal"), "extensions": list(EXTENSIONS)}

    def index(self, *, ready: bool = False) -> list[dict[str, Any]]:
        """The models that are there; with `ready`, only those that answer."""
        return [
            {
                "name": one.name,
                "version": VERSION,
                "state": "READY" if one.is_ready else "UNAVAILABLE",
                "reason": one.service.trouble,
            }
            for one in self._models
            if one.is_ready or not ready
        ]

    def metadata(self, name: str, version: str = "") -> dict[str, Any]:
        """Inputs and outputs of a model; -1 is a free size. Raises NotFoundError, MachineError before it is ready."""
        served = self._models.find(name, version)
        return {
            "name": served.name,
            "versions": [VERSION],
            "platform": "sortal",
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *_shape(served)]}],
            "outputs": [
                {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, len(served.description["labels"])]},
                {"name": ANSWER, "datatype": "INT64", "shape": [-1]},
                {"name": ABSTAINED, "datatype": "BOOL", "shape": [-1]},
            ],
        }

    def configuration(self, name: str, version: str = "") -> dict[str, Any]:
        """As Triton describes a model; sizes are those of one image. Raises as `metadata`."""
        served = self._models.find(name, version)
        own = served.service.settings
        return {
            "name": served.name,
            "platform": "sortal",
            "backend": "sortal",
            "max_batch_size": self._settings.images,
            "input": [{"name": INPUT, "data_type": "TYPE_UINT8", "dims": _shape(served)}],
            "output": [
                {"name": PROBABILITIES, "data_type": "TYPE_FP32", "dims": [len(served.description["labels"])]},
                {"name": ANSWER, "data_type": "TYPE_INT64", "dims": [1], "reshape": {"shape": []}},
                {"name": ABSTAINED, "data_type": "TYPE_BOOL", "dims": [1], "reshape": {"shape": []}},
            ],
            "dynamic_batching": {
                "preferred_batch_size": list(own.preferred or (own.batch,)),
                "max_queue_delay_microseconds": int(1e3 * own.delay_ms),
            },
        }

    def is_model_ready(self, name: str, version: str = "") -> bool:
        """Raises NotFoundError."""
        return self._models.find(name, version).is_ready and not self.is_ending

    def statistics(self, name: str | None = None, version: str = "") -> list[dict[str, Any]]:
        """How many requests of one model or all, and how long they took, in nanoseconds. Raises NotFoundError."""
        chosen = list(self._models) if name is None else [self._models.find(name, version)]
        return [_statistics(one, self._seen.get(one.name, Seen())) for one in chosen]

    async def infer(self, call: Call, name: str, version: str, asked: InferRequest) -> Inferred:
        """Answer pixels. Raises NotFoundError, InputError for tensors that do not fit, DeadlineError where the client
        waits no longer, and as `Served.answer`."""
        served = self._models.find(name, version)
        pixels, wanted = self._pixels(served, asked), _wanted(asked)
        try:
            async with asyncio.timeout(asked.timeout_s):
                answered = await served.answer(call, [image.tobytes() for image in pixels], what=PIXELS)
        except TimeoutError as error:
            raise DeadlineError(f"not answered within the {asked.timeout_s:g} s that were asked for") from error
        failed = next((answer for answer in answered.answers if "error" in answer), None)
        if failed is not None:
            raise (InternalError if failed["code"] in FAILURES else InputError)(failed["error"])
        labels = answered.description["labels"]
        values = _values(answered)
        return Inferred(model=served.name, outputs=[(one, _shown(one, values, labels)) for one in wanted])

    def whole(self, name: str, version: str, body: bytes) -> InferRequest:
        """A body that is one tensor and nothing else. Raises as `metadata`, and InputError for what is none."""
        shape = _shape(self._models.find(name, version))
        size = math.prod(shape)
        if not body or len(body) % size:
            raise InputError(f"one image takes {size} bytes", received=f"{len(body)} bytes")
        pixels = np.frombuffer(body, np.uint8).reshape(-1, *shape)
        return InferRequest(name=None, tensors={INPUT: pixels}, outputs=None, binary=True)

    def note(self, name: str, outcome: Outcome, call: Call) -> None:
        """Count a request for a model that is there."""
        seen = self._seen.setdefault(name, Seen())
        if outcome != "ok":
            seen.fail += 1
            return
        seen.success += 1
        seen.images += call.images
        seen.spent_ns += int(1e9 * call.seconds)
        seen.batches += sum(one not in seen.counted for one in call.went)
        seen.counted.update(call.went)
        for part, seconds in _parts(call).items():
            seen.parts_ns[part] += int(1e9 * seconds)
        seen.last_ms = int(1e3 * time.time())

    def _pixels(self, served: Served, asked: InferRequest) -> NDArray[np.uint8]:
        if list(asked.tensors) != [INPUT]:
            raise InputError(f"the model takes one input, {INPUT}", received=", ".join(asked.tensors)[:80])
        value, shape = asked.tensors[INPUT], _shape(served)
        if value.dtype != np.uint8 or list(value.shape[1:]) != shape:
            raise InputError(
                f"{INPUT} is UINT8 of shape [images, {', '.join(map(str, shape))}]",
                received=f"{value.dtype} of shape {list(value.shape)}",
            )
        if not 0 < len(value) <= self._settings.images:
            raise InputError(f"a request brings 1 to {self._settings.images} images", received=str(len(value)))
        return value


def _wanted(asked: InferRequest) -> Sequence[Asked]:
    known = (PROBABILITIES, ANSWER, ABSTAINED)
    if asked.outputs is None:
        return [Asked(name=name, binary=asked.binary) for name in known]
    for one in asked.outputs:
        if one.name not in known:
            raise InputError("no such output", received=one.name[:80], hint=", ".join(known))
        if one.classes and one.name != PROBABILITIES:
            raise InputError(f"only {PROBABILITIES} can be told as classes", received=one.name)
    return asked.outputs


def _shape(served: Served) -> list[int]:
    size = served.description["input"]
    return [size["height"], size["width"], size["channels"]]


def _statistics(served: Served, seen: Seen) -> dict[str, Any]:
    stats = {"success": {"count": seen.success, "ns": seen.spent_ns}, "fail": {"count": seen.fail, "ns": 0}}
    stats |= {part: {"count": seen.success, "ns": seen.parts_ns[part]} for part in PARTS}
    stats |= {name: {"count": 0, "ns": 0} for name in ("cache_hit", "cache_miss")}
    return {
        "name": served.name,
        "version": VERSION,
        "last_inference": seen.last_ms,
        "inference_count": seen.images,
        "execution_count": seen.batches,
        "inference_stats": stats,
        "batch_stats": [],
    }


def _parts(call: Call) -> dict[str, float]:
    """Where the seconds of a request went: reading it, waiting, the workers, and writing the answer."""
    if not call.went or call.body_s is None:
        return dict.fromkeys(PARTS, 0.0)
    arrived_s = call.started_s + call.body_s
    begun_s, ended_s = min(one.started_s for one in call.went), max(one.ended_s for one in call.went)
    told_s = call.started_s + call.seconds
    return dict(zip(PARTS, (call.body_s, begun_s - arrived_s, ended_s - begun_s, told_s - ended_s), strict=True))


def _values(answered: Answered) -> dict[str, NDArray[Any]]:
    """Each output for all images of a request."""
    chances = np.stack([np.frombuffer(answer["probabilities"], np.float32) for answer in answered.answers])
    if chances.shape[1] != len(answered.description["labels"]):
        raise MachineError("the classifier was exchanged while it answered", hint="ask again")
    return {
        PROBABILITIES: chances,
        ANSWER: np.array([answer["index"] for answer in answered.answers], np.int64),
        ABSTAINED: np.array([answer["abstained"] for answer in answered.answers], np.bool_),
    }


def _shown(one: Asked, values: dict[str, NDArray[Any]], labels: list[str]) -> NDArray[Any]:
    """An output as it was asked for; with classes, texts such as `0.98:3:washer` (images, classes)."""
    value = values[one.name]
    if not one.classes:
        return value
    order = np.argsort(-value, axis=1, kind="stable")[:, : one.classes]
    texts = [
        [f"{row[index]:f}:{index}:{labels[index]}" for index in best] for row, best in zip(value, order, strict=True)
    ]
    return np.array(texts, dtype=object)
