"""Freed memory is kept for the next step instead of being given back to the system.

glibc takes large blocks from the system with mmap and returns them when they are freed, so every activation of every
training step is mapped, zeroed page by page and unmapped again. Kept blocks make a step on a CPU up to several times
faster where layers are wide and cheap (see benchmarks/step_time.py). Other C libraries do this by themselves.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3), from malloc.h."""
_NEVER = 2**31 - 1
_STEP_BYTES = 256 << 20
"""The heap grows by so much at once."""


@cache
def keep_freed_memory() -> bool:
    """Set it for this process, once. False where the C library is not glibc."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _STEP_BYTES))
    return all(library.mallopt(name, value) == 1 for name, value in settings)
