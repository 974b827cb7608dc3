"""`sortal.v1.Classifier`: files of images in, decisions out, as `POST /predict` answers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sortal.core.errors import InputError, InternalError, OverloadError
from sortal.serve.account import Call
from sortal.serve.answers import is_plain_id, told, worst
from sortal.serve.grpc.calls import Calls, UnreadableError
from sortal.serve.grpc.messages import CLASSIFIER, built, message_class
from sortal.serve.intake import TooLargeError
from sortal.serve.models import Models
from sortal.serve.oip.dialogue import ENDING_S, Dialogue
from sortal.serve.service import TOP
from sortal.serve.settings import ServeSettings

SERVICE = f"{CLASSIFIER}.Classifier"
_USUAL_TOP = 5
_MOST_TOLD = 5


class Classifier:
    """The methods, over the models of a server."""

    def __init__(self, models: Models, dialogue: Dialogue, calls: Calls, settings: ServeSettings):
        self._models, self._dialogue, self._calls, self._settings = models, dialogue, calls, settings

    def handlers(self) -> dict[str, Any]:
        """By method."""
        kind = message_class(f"{CLASSIFIER}.ClassifyRequest")
        return {"Classify": self._calls.answering(f"/{SERVICE}/Classify", kind, self._classify)}

    async def _classify(self, message: Any, call: Call) -> Any:
        if self._dialogue.is_ending:
            raise OverloadError("the server is ending", retry_after_s=ENDING_S)
        call.name = message.request_id if is_plain_id(message.request_id) else call.name
        top = message.top or _USUAL_TOP
        if top > TOP:
            raise InputError(f"top is a number from 1 to {TOP}", received=str(top))
        served = self._models.find(message.model or None)
        answered = await served.answer(call, self._images(message))
        if worst(answered.answers)[1] != "ok":
            raise _refusal(answered.answers)
        labels = answered.description["labels"]
        return built(
            f"{CLASSIFIER}.ClassifyResponse",
            {
                "request_id": call.name,
                "bundle_id": answered.description["bundle_id"],
                "role": answered.role,
                "predictions": [_prediction(answer, labels, top) for answer in answered.answers],
            },
        )

    def _images(self, message: Any) -> list[bytes]:
        images = list(message.images)
        if not images or not all(images):
            raise InputError("there is no image in the request", hint="images are the bytes of files")
        if len(images) > self._settings.images:
            raise TooLargeError(f"one request may bring {self._settings.images} images", received=str(len(images)))
        return images


def _prediction(answer: dict[str, Any], labels: Sequence[str], top: int) -> dict[str, Any]:
    found = told(answer, labels, top)
    return {"failure": found} if "error" in found else {"decision": {**found, "index": answer["index"]}}


def _refusal(answers: list[dict[str, Any]]) -> InputError | InternalError:
    """Where no image was answered: what is wrong with the first ones."""
    what = "; ".join(f"{answer['code']}: {answer['error']}" for answer in answers[:_MOST_TOLD])
    if worst(answers)[1] == "failed":
        return InternalError(what)
    return UnreadableError(what, [answer["code"] for answer in answers])
