"""While a server ends, every answer says that its connection ends too.

Without that, a client that asks again at once sends into a connection that is closed at the same moment.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CLOSE = (b"connection", b"close")


class Parting:
    """Around an application."""

    def __init__(self, app: ASGIApp, is_ending: Callable[[], bool]):
        self._app, self._is_ending = app, is_ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and say goodbye where it is time."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and self._is_ending():
                kept = [(name, value) for name, value in message["headers"] if name.lower() != _CLOSE[0]]
                message = {**message, "headers": [*kept, _CLOSE]}
            await send(message)

        await self._app(scope, receive, sent)
