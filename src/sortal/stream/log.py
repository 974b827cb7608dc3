"""The log of a stream, as those see it who tell it something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Told = Callable[[dict[str, Any]], None]
"""Receives one event of the log as plain data."""
