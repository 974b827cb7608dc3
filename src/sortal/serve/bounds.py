"""What one worker may take of the machine, so that one that takes too much ends alone. Linux; elsewhere nothing."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

_ITSELF = Path("/proc/self")
_FIRST = 500
"""Of 1000: how much more than others a worker is what the system ends where memory runs out; anybody may raise it."""


def bound_memory(more_mb: float) -> None:
    """Take so much more memory than now at most: what needs more fails with MemoryError, which is that image's answer.
    Where the machine has less than that, this process ends before others, and the front starts another."""
    if sys.platform != "linux":
        return
    import resource

    with suppress(OSError):
        (_ITSELF / "oom_score_adj").write_text(str(_FIRST), encoding="ascii")
    lines = (_ITSELF / "status").read_text(encoding="ascii", errors="replace").splitlines()
    taken = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = taken + int(more_mb * 1e6)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
