"""Work on a large body, done beside the loop that everyone waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

_Found = TypeVar("_Found")
LARGE = 64 * 1024
"""Bytes of what is read beside the loop; at once is what takes some milliseconds."""


async def aside(size: int, work: Callable[[], _Found]) -> _Found:
    """What `work` finds in so many bytes: at once where they are few, else in a thread. Raises as `work`."""
    return await asyncio.to_thread(work) if size > LARGE else work()
