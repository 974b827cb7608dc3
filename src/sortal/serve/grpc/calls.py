"""How every call runs: admitted before its message is read, read within limits, answered in time, and accounted.

Methods are registered as if clients could send several messages, because then the message is ours to read: who may not
ask is refused before it, one that is too large or never comes has an outcome, and one that is damaged is the client's
fault and not ours. On the wire there is no difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc

from sortal.core.errors import DeadlineError, InputError, OverloadError, SortalError
from sortal.serve.account import Account, Call
from sortal.serve.answers import request_id, routing_key
from sortal.serve.grpc.messages import parsed
from sortal.serve.guard.keys import masked
from sortal.serve.guard.ring import RefusedError
from sortal.serve.guard.rpc import Admit
from sortal.serve.intake import TooLargeError
from sortal.serve.metrics import Outcome
from sortal.serve.refusals import status_of
from sortal.serve.settings import ServeSettings
from sortal.serve.telemetry.trace_parent import HEADER as TRACE

_LATE = "not answered within the client's deadline"
PUSHBACK_KEY, CODES_KEY = "grpc-retry-pushback-ms", "sortal-codes"
_STATUSES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What a status of HTTP is in gRPC, so that an error is the same kind of error whatever way a request came."""


class UnreadableError(InputError):
    """No image of a request could be read; `codes` says why, one an image."""

    def __init__(self, what: str, codes: list[str]):
        super().__init__(what)
        self.codes = codes


class Calls:
    """Runs the calls of one server."""

    def __init__(self, settings: ServeSettings, account: Account, admit: Admit | None = None):
        self._settings, self._account, self._admit = settings, account, admit

    def about(self, method: str, kind: Any, told: Callable[[Any], Any]) -> Any:
        """A handler for questions about the server, which are not accounted; `told` raises SortalError."""

        async def run(_: Any, context: Any) -> bytes:
            try:
                async with self.limited(context):
                    self.check(context, method)
                    return bytes(told(await self.read(context, kind)).SerializeToString())
            except SortalError as error:
                await refuse(context, error)

        return grpc.stream_unary_rpc_method_handler(run)

    def answering(self, method: str, kind: Any, answer: Callable[[Any, Call], Awaitable[Any]]) -> Any:
        """A handler for requests for answers; `answer` raises SortalError."""

        async def run(_: Any, context: Any) -> bytes:
            try:
                self.check(context, method)  # what is refused here is no request in the account, as over HTTP
                async with self.accounted(context) as call, self.limited(context):
                    return bytes((await answer(await self.read(context, kind), call)).SerializeToString())
            except SortalError as error:
                await refuse(context, error)

        return grpc.stream_unary_rpc_method_handler(run)

    @asynccontextmanager
    async def accounted(self, context: Any) -> AsyncIterator[Call]:
        """One request for answers. What is raised within is its outcome, and is raised further."""
        metadata = metadata_of(context)
        call = self._account.begin("grpc", request_id(metadata), trace_parent=metadata.get(TRACE, ""))
        call.key = routing_key(metadata)
        try:
            yield call
        except asyncio.CancelledError:
            outcome, status = _gone(context)
            self._account.finish(call, outcome, status.name)
            raise
        except SortalError as error:
            self._account.finish(call, status_of(error)[1], status_in_grpc(error).name)
            raise
        except BaseException:
            self._account.finish(call, "failed", grpc.StatusCode.UNKNOWN.name)
            raise
        self._account.finish(call, "ok", grpc.StatusCode.OK.name)

    @asynccontextmanager
    async def limited(self, context: Any) -> AsyncIterator[None]:
        """Within the time that the client gave. Raises DeadlineError."""
        try:
            async with asyncio.timeout(context.time_remaining()):
                yield
        except TimeoutError as error:
            raise DeadlineError(_LATE) from error

    def check(self, context: Any, method: str) -> None:
        """Raises SortalError where the client may not ask this."""
        if self._admit is not None:
            self._admit(metadata_of(context), context.peer(), method)

    async def read(self, context: Any, kind: Any) -> Any:
        """The message. Raises DeadlineError where it does not come, TooLargeError, InputError for what is none."""
        try:
            async with asyncio.timeout(self._settings.body_s):
                data = await context.read()
        except TimeoutError as error:
            raise DeadlineError(f"the body was not there within {self._settings.body_s:g} s") from error
        if data is grpc.aio.EOF:  # gRPC does not say which: too large, cancelled, out of time, or never sent
            if _is_over(context):
                raise DeadlineError(_LATE)
            raise TooLargeError(f"there is no message, or one of more than {self._settings.body_mb:g} MB")
        return parsed(kind, data)


def metadata_of(context: Any) -> dict[str, str]:
    """What the client sent before its message; binary values are left out."""
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def status_in_grpc(error: SortalError) -> grpc.StatusCode:
    """The status of an error."""
    return _STATUSES[status_of(error)[0]]


async def refuse(context: Any, error: SortalError) -> NoReturn:
    """End a call with an error: what is wrong, what was received, what to do, and when to ask again."""
    trailing = []
    pause_s = _pause_s(error)
    if pause_s is not None:
        trailing.append((PUSHBACK_KEY, str(max(1, round(1e3 * pause_s)))))
    if isinstance(error, UnreadableError):
        trailing.append((CODES_KEY, ",".join(error.codes)))
    await context.abort(status_in_grpc(error), masked(str(error)), tuple(trailing))
    raise AssertionError("a call that was aborted goes on")


def _pause_s(error: SortalError) -> float | None:
    """After how long the client may ask again; None where asking again changes nothing."""
    if isinstance(error, OverloadError):
        return error.retry_after_s
    return (error.refusal.retry_after_s or None) if isinstance(error, RefusedError) else None


def _gone(context: Any) -> tuple[Outcome, grpc.StatusCode]:
    """Why a call was cancelled: its time is over, or the client went away."""
    if _is_over(context):
        return "expired", grpc.StatusCode.DEADLINE_EXCEEDED
    return "cancelled", grpc.StatusCode.CANCELLED


def _is_over(context: Any) -> bool:
    left_s = context.time_remaining()
    return left_s is not None and left_s <= 0
