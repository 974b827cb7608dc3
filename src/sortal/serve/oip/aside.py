"""Work on a large body, done beside the loop that everyone waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Found = TypeVar("_Found")
LARGE = 64 * 1024
"""Bytes of what is read beside the loop; at once is what takes some milliseconds."""
_THREADS = ThreadPoolExecutor(2, "aside")
"""Few: most of this work holds the interpreter, so that more threads are no quicker and the loop has its turn later.
And of its own: who writes events or asks a workspace does not wait for bodies."""


async def aside(size: int, work: Callable[[], _Found]) -> _Found:
    """What `work` finds in so many bytes: at once where they are few, else in a thread. Raises as `work`."""
    if size <= LARGE:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)
