"""The addresses of the protocol, over one classifier under one name.

    GET  /v2 /v2/health/live /v2/health/ready /v2/models/NAME[/versions/1][/ready|/config|/stats]
    POST /v2/models/NAME[/versions/1]/infer /v2/repository/index

Any content type is taken, since clients send none or a wrong one; every success is 200 and every error JSON with
`error`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sortal.core.errors import InputError, MachineError, NotFoundError, SortalError
from sortal.serve.batcher import CRASHES
from sortal.serve.frames import PIXELS
from sortal.serve.intake import read_body
from sortal.serve.metrics import Metrics, Outcome
from sortal.serve.oip.tensors import HEADER, Asked, InferRequest, packed, read_request, unpacked, write_response
from sortal.serve.service import Service

VERSION = "1"
INPUT, PROBABILITIES, ANSWER, ABSTAINED = "image", "probabilities", "answer", "abstained"
_EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics")

Refused = Callable[[SortalError, str], tuple[Response, Outcome]]
Finished = Callable[[str, Outcome, int, int, float], None]


class Protocol:
    """The routes for one service; `name` is what clients call the model."""

    def __init__(self, service: Service, metrics: Metrics, name: str, *, refused: Refused, finished: Finished):
        self._service, self._metrics, self._name = service, metrics, name
        self._refused, self._finished = refused, finished
        self._counts = {"inference_count": 0, "success": 0, "fail": 0}
        self._last_ms = 0
        self._spent_ns = 0

    def routes(self) -> list[Route]:
        """For the application."""
        found = [
            Route("/v2", self.server),
            Route("/v2/", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/models/stats", self.statistics),
            Route("/v2/repository/index", self.index, methods=["POST"]),
        ]
        for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            found += [
                Route(prefix, self.model),
                Route(f"{prefix}/ready", self.model_ready),
                Route(f"{prefix}/config", self.configuration),
                Route(f"{prefix}/stats", self.statistics),
                Route(f"{prefix}/infer", self.infer, methods=["POST"]),
            ]
        return found

    async def server(self, _: Request) -> Response:
        """Name, version, and what is spoken beside the core."""
        return JSONResponse({"name": "sortal", "version": version("sortal"), "extensions": list(_EXTENSIONS)})

    async def live(self, _: Request) -> Response:
        """200 while the process answers."""
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        """200 while a request would be answered."""
        return JSONResponse({"ready": self._service.is_ready}, 200 if self._service.is_ready else 503)

    async def model_ready(self, request: Request) -> Response:
        """As `ready`, for a model that is there."""
        return self._about(request, lambda: {"name": self._name, "ready": True})

    async def model(self, request: Request) -> Response:
        """Inputs and outputs; -1 is a free size."""
        return self._about(
            request,
            lambda: {
                "name": self._name,
                "versions": [VERSION],
                "platform": "sortal",
                "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *self._shape()]}],
                "outputs": [
                    {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, len(self._labels())]},
                    {"name": ANSWER, "datatype": "INT64", "shape": [-1]},
                    {"name": ABSTAINED, "datatype": "BOOL", "shape": [-1]},
                ],
            },
        )

    async def configuration(self, request: Request) -> Response:
        """As Triton describes a model; sizes are those of one image."""
        return self._about(
            request,
            lambda: {
                "name": self._name,
                "platform": "sortal",
                "backend": "sortal",
                "max_batch_size": self._service.settings.images,
                "input": [{"name": INPUT, "data_type": "TYPE_UINT8", "dims": self._shape()}],
                "output": [
                    {"name": PROBABILITIES, "data_type": "TYPE_FP32", "dims": [len(self._labels())]},
                    {"name": ANSWER, "data_type": "TYPE_INT64", "dims": [1], "reshape": {"shape": []}},
                    {"name": ABSTAINED, "data_type": "TYPE_BOOL", "dims": [1], "reshape": {"shape": []}},
                ],
                "dynamic_batching": {"preferred_batch_size": [self._service.settings.batch]},
            },
        )

    async def index(self, _: Request) -> Response:
        """The models that are there."""
        state = "READY" if self._service.is_ready else "UNAVAILABLE"
        return JSONResponse([{"name": self._name, "version": VERSION, "state": state, "reason": ""}])

    async def statistics(self, request: Request) -> Response:
        """How many requests, and how long they took, in nanoseconds."""
        if "name" in request.path_params:
            try:
                self._check_name(request)
            except SortalError as error:
                return _told(error)
        seen, measured = self._counts, self._service.measured
        done = {"count": seen["success"], "ns": self._spent_ns}
        queue = {"count": measured.images, "ns": int(1e9 * measured.queue_s)}
        network = {"count": measured.batches, "ns": int(1e9 * measured.answer_s)}
        nothing = {"count": 0, "ns": 0}
        stats = {"success": done, "fail": {"count": seen["fail"], "ns": 0}, "queue": queue, "compute_infer": network}
        stats |= dict.fromkeys(("compute_input", "compute_output", "cache_hit", "cache_miss"), nothing)
        model = {
            "name": self._name,
            "version": VERSION,
            "last_inference": self._last_ms,
            "inference_count": seen["inference_count"],
            "execution_count": measured.batches,
            "inference_stats": stats,
            "batch_stats": [],
        }
        return JSONResponse({"model_stats": [model]})

    async def infer(self, request: Request) -> Response:
        """Answer pixels."""
        self._metrics.received.inc()
        started_s, name = time.monotonic(), ""
        try:
            asked = await self._read(request)
            name = asked.name or ""
            response, outcome, count = await self._answered(asked, request.headers.get("accept-encoding", ""))
        except asyncio.CancelledError:
            self._finished(name, "cancelled", 499, 0, started_s)
            raise
        except SortalError as error:
            response, outcome = self._refused(error, name)
            count = 0
        except Exception:
            self._finished(name, "failed", 500, 0, started_s)
            raise
        self._note(outcome, count, time.monotonic() - started_s)
        self._finished(name, outcome, response.status_code, count, started_s)
        return response

    async def _read(self, request: Request) -> InferRequest:
        self._check_name(request)
        settings = self._service.settings
        body = await read_body(request, settings)
        encoding = request.headers.get("content-encoding", "").strip().lower()
        return read_request(unpacked(body, encoding, int(settings.body_mb * 1e6)), request.headers.get(HEADER))

    async def _answered(self, asked: InferRequest, accepted: str) -> tuple[Response, Outcome, int]:
        pixels = self._pixels(asked)
        outputs = self._outputs(asked)
        description, answers = await self._service.answer([image.tobytes() for image in pixels], what=PIXELS)
        failed = next((answer for answer in answers if "error" in answer), None)
        if failed is not None:
            crashed = failed["code"] == CRASHES
            told = JSONResponse({"error": failed["error"]}, 500 if crashed else 400)
            return told, "failed" if crashed else "client_error", len(pixels)
        values = _values(answers, description["labels"])
        head = {"model_name": self._name, "model_version": VERSION} | ({"id": asked.name} if asked.name else {})
        body, length = write_response(head, [(one, _shown(one, values, description["labels"])) for one in outputs])
        headers = {} if length is None else {HEADER: str(length)}
        body, encoding = packed(body, accepted)
        if encoding is not None:
            headers["content-encoding"] = encoding
        kind = "application/json" if length is None else "application/octet-stream"
        return Response(body, media_type=kind, headers=headers), "ok", len(pixels)

    def _pixels(self, asked: InferRequest) -> NDArray[np.uint8]:
        if list(asked.tensors) != [INPUT]:
            raise InputError(f"the model takes one input, {INPUT}", received=", ".join(asked.tensors)[:80])
        value, shape = asked.tensors[INPUT], self._shape()
        if value.dtype != np.uint8 or list(value.shape[1:]) != shape:
            raise InputError(
                f"{INPUT} is UINT8 of shape [images, {', '.join(map(str, shape))}]",
                received=f"{value.dtype} of shape {list(value.shape)}",
            )
        if not 0 < len(value) <= self._service.settings.images:
            raise InputError(f"a request brings 1 to {self._service.settings.images} images", received=str(len(value)))
        return value

    def _outputs(self, asked: InferRequest) -> tuple[Asked, ...]:
        known = (PROBABILITIES, ANSWER, ABSTAINED)
        if asked.outputs is None:
            return tuple(Asked(name=name, binary=asked.binary) for name in known)
        for one in asked.outputs:
            if one.name not in known:
                raise InputError("no such output", received=one.name[:80], hint=", ".join(known))
            if one.classes and one.name != PROBABILITIES:
                raise InputError(f"only {PROBABILITIES} can be told as classes", received=one.name)
        return asked.outputs

    def _about(self, request: Request, told: Callable[[], dict[str, Any]]) -> Response:
        try:
            self._check_name(request)
            self._description()
        except SortalError as error:
            return _told(error)
        return JSONResponse(told())

    def _check_name(self, request: Request) -> None:
        name, version = request.path_params["name"], request.path_params.get("version", VERSION)
        if name != self._name or version != VERSION:
            hint = f"there is: {self._name}, version {VERSION}"
            raise NotFoundError("no such model", received=f"{name}, version {version}"[:120], hint=hint)

    def _description(self) -> dict[str, Any]:
        if not self._service.description:
            raise MachineError("the classifier is not ready yet")
        return self._service.description

    def _shape(self) -> list[int]:
        size = self._description()["input"]
        return [size["height"], size["width"], size["channels"]]

    def _labels(self) -> list[str]:
        return list(self._description()["labels"])

    def _note(self, outcome: Outcome, images: int, seconds: float) -> None:
        if outcome != "ok":
            self._counts["fail"] += 1
            return
        self._counts["success"] += 1
        self._counts["inference_count"] += images
        self._spent_ns += int(1e9 * seconds)
        self._last_ms = int(1e3 * time.time())


def _values(answers: list[dict[str, Any]], labels: list[str]) -> dict[str, NDArray[Any]]:
    """Each output for all images of a request."""
    chances = np.stack([np.frombuffer(answer["probabilities"], np.float32) for answer in answers])
    if chances.shape[1] != len(labels):
        _changed()
    return {
        PROBABILITIES: chances,
        ANSWER: np.array([answer["index"] for answer in answers], np.int64),
        ABSTAINED: np.array([answer["abstained"] for answer in answers], np.bool_),
    }


def _changed() -> NoReturn:
    raise MachineError("the classifier was exchanged while it answered", hint="ask again")


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


def _told(error: SortalError) -> Response:
    status = 404 if isinstance(error, NotFoundError) else 503 if isinstance(error, MachineError) else 400
    return JSONResponse({"error": str(error)}, status)
