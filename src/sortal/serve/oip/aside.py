"""Work on a large body, done beside the loop that everyone waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

_Found = TypeVar("_Found")
_LARGE = 64 * 1024


async def aside(size: int, work: Callable[[], _Found]) -> _Found:
    """What `work` finds in so many bytes: at once where they are few, else in a thread. Raises as `work`."""
    return await asyncio.to_thread(work) if size > _LARGE else work()
