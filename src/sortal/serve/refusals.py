"""What an error is in HTTP: its status, its outcome in the account, and the JSON that says what to do."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sortal.core.errors import (
    BundleError,
    ConflictError,
    DeadlineError,
    InputError,
    InternalError,
    MachineError,
    NotFoundError,
    OverloadError,
    SortalError,
)
from sortal.serve.guard.keys import masked
from sortal.serve.guard.ring import RefusedError
from sortal.serve.intake import TooLargeError
from sortal.serve.metrics import Outcome

_STATED: dict[type[SortalError], int] = {NotFoundError: 404, ConflictError: 409, MachineError: 507, BundleError: 507}
"""The status of an error about feedback; 507 is a disk that refuses, or has a damaged workspace."""


def status_of(error: SortalError) -> tuple[int, Outcome]:
    """What a kind of error is in HTTP."""
    if isinstance(error, RefusedError):
        return error.status, "client_error"
    if isinstance(error, OverloadError):
        return 503, "rejected"
    if isinstance(error, DeadlineError):
        return (408, "client_error") if "body" in error.what else (504, "expired")
    if isinstance(error, TooLargeError):
        return 413, "client_error"
    if isinstance(error, InternalError):
        return 500, "failed"
    if isinstance(error, NotFoundError):
        return 404, "client_error"
    return (400, "client_error") if isinstance(error, InputError) else (503, "failed")


def statement_status(error: SortalError) -> int:
    """Of an error about what somebody says of an image."""
    return _STATED.get(type(error), 422 if type(error) is InputError else status_of(error)[0])


def refusal(error: SortalError, status: int, name: str) -> Response:
    """The answer to a request that is refused; `name` is the request's id."""
    told = {"error": error.what, "received": error.received, "hint": error.hint, "request_id": name}
    headers = {}
    if isinstance(error, OverloadError):
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if status in (408, 413):
        headers["connection"] = "close"
    shown = {key: masked(value) for key, value in told.items() if value is not None}
    return JSONResponse(shown, status, headers=headers)


def refused(error: SortalError, name: str) -> tuple[Response, Outcome]:
    """The refusal and the outcome of a request."""
    status, outcome = status_of(error)
    return refusal(error, status, name), outcome


async def not_found(_: Request, __: Exception) -> Response:
    """There is no such address."""
    return JSONResponse({"error": "there is nothing at this address", "hint": "POST /predict"}, 404)


async def not_allowed(request: Request, error: Exception) -> Response:
    """The address is there, and not for this method; `Allow` names those that are."""
    headers = getattr(error, "headers", None)
    return JSONResponse({"error": f"{request.method} is not for this address"}, 405, headers=headers)


async def failed(_: Request, __: Exception) -> Response:
    """A fault of the server."""
    return JSONResponse({"error": "an internal fault; the log of the server says more"}, 500)
