"""The classifiers of one server, by the names that clients use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from secrets import token_hex
from typing import Any

from sortal.core.errors import MachineError, NotFoundError
from sortal.core.events import Role
from sortal.serve.account import Call
from sortal.serve.frames import FILES
from sortal.serve.recorder import Recorder
from sortal.serve.rollout.arms import Canary, Given, Shadow
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
    role: Role = "live"
    """Of the classifier that answered."""


class Served:
    """One classifier under one name, those that stand beside it, and what is remembered of their answers."""

    def __init__(self, name: str, service: Service, recorder: Recorder | None = None):
        self.name, self.service, self.recorder = name, service, recorder
        self.canary: Canary | None = None
        self.shadow: Shadow | None = None

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

    def refuse_overload(self) -> None:
        """Raises OverloadError where no image would be taken, so that nobody reads a request in vain."""
        if self.canary is None:
            self.service.refuse_overload()

    async def answer(self, call: Call, images: list[bytes], *, what: str = FILES) -> Answered:
        """Answers to the images of a request, each `what` the frames say. Raises as `Service.answer`."""
        call.arrived()
        call.model = self.name
        role, given = await self._given(call, images, what)
        call.images = len(images)
        self._note(call.name, images, given, what, call.seconds, role)
        if self.shadow is not None:
            self.shadow.offer(
                self.service,
                images,
                given,
                what=what,
                told=lambda found, seconds: self._note(call.name, images, found, what, seconds, "shadow"),
            )
        description, answers = given
        return Answered(description=description, answers=answers, role=role)

    def services(self) -> list[tuple[Role, Service]]:
        """All that answer under this name, by their roles."""
        found: list[tuple[Role, Service]] = [("live", self.service)]
        found += [] if self.canary is None else [("canary", self.canary.service)]
        return found + ([] if self.shadow is None else [("shadow", self.shadow.service)])

    def health(self) -> dict[str, Any]:
        """Whether it answers, and everybody under this name."""
        roles = {role: _state(service) for role, service in self.services()}
        if self.canary is not None:
            canary = self.canary
            roles["canary"] |= {"share": canary.share, "answered": canary.answered, "fell_back": canary.fell_back}
        if self.shadow is not None:
            roles["shadow"] |= asdict(self.shadow.counts)
        return {"ready": self.is_ready, "roles": roles}

    async def _given(self, call: Call, images: list[bytes], what: str) -> tuple[Role, Given]:
        if self.canary is None:
            return "live", await self.service.answer(images, what=what, went=call.went)
        key = call.key or call.name or token_hex(16)
        return await self.canary.answer(self.service, key, images, what=what, went=call.went)

    def _note(self, name: str, images: list[bytes], given: Given, what: str, seconds: float, role: Role) -> None:
        if self.recorder is not None and what == FILES:
            description, answers = given
            self.recorder.note(name, images, answers, description, milliseconds=1e3 * seconds, role=role)


def _state(service: Service) -> dict[str, Any]:
    told = {"workers": service.workers, "workers_died": service.deaths, "waiting": service.waiting}
    return {**told, "classifier": service.in_short} | ({"trouble": service.trouble} if service.trouble else {})


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

    @property
    def trouble(self) -> str:
        """Why those that are not ready cannot start, with their names where there are several; empty where nothing is
        known."""
        told = [(one.name, one.service.trouble) for one in self if not one.is_ready and one.service.trouble]
        return "; ".join(trouble if len(self._served) == 1 else f"{name}: {trouble}" for name, trouble in told)
