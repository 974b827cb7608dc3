"""Whose key a request came with, for whatever is written about it and told to it."""

from __future__ import annotations

from contextvars import ContextVar

CALLER: ContextVar[str] = ContextVar("caller", default="")
"""The name; empty where nobody had to say it."""
STRANGER: ContextVar[bool] = ContextVar("stranger", default=False)
"""Whether the server asks for keys and this request needs none: it is told no more than it has to be."""
