"""The classifiers of one server, by the names that clients use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sortal.core.errors import MachineError, NotFoundError
from sortal.serve.account import Call
from sortal.serve.frames import FILES
from sortal.serve.recorder import Recorder
from sortal.serve.service import Service

VERSION = "1"
"""Of every model, for clients of the Open Inference Protocol; the bundle's id says which one it is."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What came back for the images of one request."""

    description: dict[str, Any]
    """Of the classifier that answered, see `worker.description`."""
    answers: list[dict[str, Any]]
    """One an image, see `worker.answers`."""


class Served:
    """One classifier under one name, and what is remembered of its answers."""

    def __init__(self, name: str, service: Service, recorder: Recorder | None = None):
        self.name, self.service, self.recorder = name, service, recorder

    @property
    def is_ready(self) -> bool:
        """Whether a request would be answered now."""
        return self.service.is_ready

    @property
    def description(self) -> dict[str, Any]:
        """Of the classifier. Raises MachineError until a worker was ready."""
        if not self.service.description:
            raise MachineError("the classifier is not ready yet", hint="ask /readyz")
        return self.service.description

    async def answer(self, call: Call, images: list[bytes], *, what: str = FILES) -> Answered:
        """Answers to the images of a request, each `what` the frames say. Raises as `Service.answer`."""
        call.arrived()
        description, answers = await self.service.answer(images, what=what, went=call.went)
        call.images = len(images)
        if self.recorder is not None and what == FILES:
            self.recorder.note(call.name, images, answers, description, milliseconds=1e3 * call.seconds)
        return Answered(description=description, answers=answers)


class Models:
    """All of them. The first one answers where nobody names one."""

    def __init__(self, served: Sequence[Served]):
        self._served = {one.name: one for one in served}

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def find(self, name: str | None = None, version: str = "") -> Served:
        """By name; the first one without. Raises NotFoundError."""
        if name is None:
            return next(iter(self))
        if name not in self._served or version not in ("", VERSION):
            received = f"{name}, version {version}" if version else name
            there = ", ".join(list(self._served)[:10])
            raise NotFoundError("no such model", received=received[:120], hint=f"there is: {there}, version {VERSION}")
        return self._served[name]

    @property
    def is_ready(self) -> bool:
        """Whether every one of them would answer now."""
        return all(one.is_ready for one in self)
