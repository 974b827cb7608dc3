"""Whose key a request came with, for whatever is written about it; empty where nobody had to say it."""

from __future__ import annotations

from contextvars import ContextVar

CALLER: ContextVar[str] = ContextVar("caller", default="")
