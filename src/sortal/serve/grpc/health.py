"""`grpc.health.v1.Health`, true at every moment: it asks the workers and remembers nothing.

"" and the names of services are the whole server; any other name is a model.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from sortal.core.errors import NotFoundError, OverloadError, SortalError
from sortal.serve.grpc.calls import Calls, refuse
from sortal.serve.models import Models, Served
from sortal.serve.oip.dialogue import Dialogue

SERVICE = "grpc.health.v1.Health"
_LOOK_S = 0.25
_MOST_WATCHERS, _PAUSE_S = 256, 5.0
"""Who watches asks for no key and costs a look now and then."""
_Status = health_pb2.HealthCheckResponse


class Health:
    """The methods. `ending` is set when the server ends; watchers are told and sent away then."""

    def __init__(self, models: Models, dialogue: Dialogue, calls: Calls, services: list[str], ending: asyncio.Event):
        self._models, self._dialogue, self._calls, self._ending = models, dialogue, calls, ending
        self._services = ["", SERVICE, *services]
        self._watchers = 0

    def handlers(self) -> dict[str, Any]:
        """By method."""
        return {
            "Check": self._calls.about(f"/{SERVICE}/Check", health_pb2.HealthCheckRequest, self._checked),
            "List": self._calls.about(f"/{SERVICE}/List", health_pb2.HealthListRequest, self._listed),
            "Watch": grpc.stream_stream_rpc_method_handler(self._watch),
        }

    def _checked(self, asked: Any) -> Any:
        return _Status(status=self._status(asked.service))

    def _listed(self, _: Any) -> Any:
        names = [*self._services, *(one.name for one in self._models)]
        return health_pb2.HealthListResponse(statuses={name: _Status(status=self._status(name)) for name in names})

    async def _watch(self, _: Any, context: Any) -> None:
        """The status now and whenever it has changed."""
        try:
            self._calls.check(context, f"/{SERVICE}/Watch")
            if self._watchers >= _MOST_WATCHERS:
                raise OverloadError("too many watch already", retry_after_s=_PAUSE_S)
            asked = await self._calls.read(context, health_pb2.HealthCheckRequest)
        except SortalError as error:
            await refuse(context, error)
        self._watchers += 1
        try:
            await self._watched(asked.service, context)
        finally:
            self._watchers -= 1

    async def _watched(self, name: str, context: Any) -> None:
        before = None
        while True:
            ending = self._ending.is_set()
            try:
                now = self._status(name)
            except NotFoundError:
                now = _Status.SERVICE_UNKNOWN
            if now != before:
                await context.write(_Status(status=now).SerializeToString())
                before = now
            if ending:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _LOOK_S)

    def _status(self, name: str) -> int:
        """Raises NotFoundError."""
        if name in self._services:
            ready = self._dialogue.is_ready
        else:
            ready = self._found(name).is_ready and not self._dialogue.is_ending
        return int(_Status.SERVING if ready else _Status.NOT_SERVING)

    def _found(self, name: str) -> Served:
        """Raises NotFoundError, which tells strangers no name of a model."""
        try:
            return self._models.find(name)
        except NotFoundError:
            raise NotFoundError("no such service") from None
