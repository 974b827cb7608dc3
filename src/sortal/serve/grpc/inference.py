"""`inference.GRPCInferenceService`: what the protocol says over gRPC, on top of the same dialogue as over HTTP.

Methods that are not here, such as shared memory and loading models by name, are UNIMPLEMENTED.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from sortal.core.errors import SortalError
from sortal.serve.account import Call
from sortal.serve.answers import is_plain_id
from sortal.serve.grpc.calls import Calls, refuse
from sortal.serve.grpc.messages import INFERENCE, built, message_class, parsed
from sortal.serve.grpc.tensors import read_infer, typed_numbers, write_infer
from sortal.serve.guard.keys import masked
from sortal.serve.metrics import Outcome
from sortal.serve.oip.aside import aside
from sortal.serve.oip.dialogue import Dialogue
from sortal.serve.refusals import status_of

SERVICE = f"{INFERENCE}.GRPCInferenceService"
_OK: Outcome = "ok"
_TEXT = 4
"""Bytes of JSON that take as long to read as one number."""


class Inference:
    """The methods, over one dialogue. `ending` is set when the server ends; streams end then."""

    def __init__(self, dialogue: Dialogue, calls: Calls, ending: asyncio.Event):
        self._dialogue, self._calls, self._ending = dialogue, calls, ending

    def handlers(self) -> dict[str, Any]:
        """By method."""
        dialogue = self._dialogue
        told: dict[str, Callable[[Any], dict[str, Any]]] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": dialogue.is_ready},
            "ModelReady": lambda asked: {"ready": dialogue.is_model_ready(asked.name, asked.version)},
            "ServerMetadata": lambda _: dialogue.server(),
            "ModelMetadata": lambda asked: dialogue.metadata(asked.name, asked.version),
            "ModelConfig": lambda asked: {"config": dialogue.configuration(asked.name, asked.version)},
            "ModelStatistics": self._statistics,
            "RepositoryIndex": lambda asked: {"models": dialogue.index(ready=asked.ready)},
        }
        return {
            "ModelInfer": self._calls.answering(self._path("ModelInfer"), _request("ModelInfer"), self._infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream),
            **{method: self._about(method, tell) for method, tell in told.items()},
        }

    def _about(self, method: str, tell: Callable[[Any], dict[str, Any]]) -> Any:
        name = f"{INFERENCE}.{method}Response"
        return self._calls.about(self._path(method), _request(method), lambda asked: built(name, tell(asked)))

    def _statistics(self, asked: Any) -> dict[str, Any]:
        return {"model_stats": self._dialogue.statistics(asked.name or None, asked.version)}

    async def _infer(self, message: Any, call: Call) -> Any:
        name, version = message.model_name, message.model_version
        call.name = message.id if is_plain_id(message.id) else call.name
        self._dialogue.check(name, version)
        outcome: Outcome = "cancelled"
        try:
            asked = await aside(_TEXT * typed_numbers(message), lambda: read_infer(message))
            inferred = await self._dialogue.infer(call, name, version, asked)
            outcome = _OK
        except SortalError as error:
            outcome = status_of(error)[1]
            raise
        finally:
            self._dialogue.note(name, outcome, call)
        return write_infer(inferred, message.id)

    async def _stream(self, _: Any, context: Any) -> None:
        """Answers in order; one that is refused is a message with `error_message`, and the stream goes on."""
        try:
            self._calls.check(context, self._path("ModelStreamInfer"))
        except SortalError as error:
            await refuse(context, error)
        is_first = True  # the stream was let in with it; a key may end, or ask too often, while a stream goes on
        while (data := await self._next(context)) is not grpc.aio.EOF:
            answer = message_class(f"{INFERENCE}.ModelStreamInferResponse")()
            message = None
            try:
                if not is_first:
                    self._calls.check(context, self._path("ModelStreamInfer"))
                is_first = False
                async with self._calls.accounted(context) as call:
                    message = parsed(_request("ModelInfer"), data)
                    answer.infer_response.CopyFrom(await self._infer(message, call))
            except SortalError as error:
                answer.error_message = masked(str(error))
                answer.infer_response.id = "" if message is None else message.id
            await context.write(answer.SerializeToString())

    async def _next(self, context: Any) -> Any:
        """The next message of a stream; EOF where the client has no more or the server ends."""
        reading, ending = asyncio.ensure_future(context.read()), asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else grpc.aio.EOF
        finally:
            for task in (reading, ending):
                task.cancel()

    @staticmethod
    def _path(method: str) -> str:
        return f"/{SERVICE}/{method}"


def _request(method: str) -> Any:
    return message_class(f"{INFERENCE}.{method}Request")
