"""What a request asks for in its query, read and checked."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from sortal.core.errors import InputError

_SHOWN = 40


def model_name(request: Request) -> str | None:
    """The model that the address or the query names; None for the default one."""
    return request.path_params.get("name") or request.query_params.get("model")


def number(request: Request, name: str, *, default: int, most: int) -> int:
    """A number from 1 to `most`. Raises InputError."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise InputError(f"{name} is a number from 1 to {most}", received=text[:_SHOWN])
    return int(text)


def switch(request: Request, name: str) -> bool:
    """Whether it is switched on; by default not. Raises InputError."""
    return choice(request, name, ("false", "true")) == "true"


def choice(request: Request, name: str, known: Sequence[str]) -> str:
    """One of some words; the first by default. Raises InputError."""
    text = request.query_params.get(name, known[0])
    if text not in known:
        raise InputError(f"{name} is {' or '.join(known)}", received=text[:_SHOWN])
    return text
