"""How many CPUs this process may use, which is seldom how many the machine has, and what they are.

Containers limit CPUs in two ways: by affinity (`taskset`, cpusets) and by a quota of CPU time (`docker --cpus`,
Kubernetes limits). Inference engines look at neither reliably, so every engine is told the number found here.
"""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_CGROUP_OF_PROCESS = Path("/proc/self/cgroup")


def allowed_cpus() -> int:
    """CPUs that affinity and the cgroup v2 quota leave to this process, at least 1; a part of a CPU counts as one."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(_CGROUP_ROOT, _CGROUP_OF_PROCESS)
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def thread_steps(cpus: int) -> tuple[int, ...]:
    """How many threads are worth a try on so many CPUs: one, half of them, all, each once."""
    return tuple(sorted({1, max(1, cpus // 2), cpus}))


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def cgroup_quota(root: Path, membership: Path) -> float | None:
    """The smallest quota in CPUs from this process's cgroup v2 up to the root, or None where there is no limit.

    `root` is where the hierarchy is mounted; `membership` is the kernel's file that names the cgroup (`0::/path`).
    """
    quotas = [quota for folder in _cgroup_folders(root, membership) if (quota := _quota(folder / "cpu.max"))]
    return min(quotas, default=None)


def _cgroup_folders(root: Path, membership: Path) -> list[Path]:
    """The process's own cgroup and all above it; in a container the own path is often invisible, the root is not."""
    try:
        lines = membership.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return [root]
    path = next((line[3:] for line in lines if line.startswith("0::")), "/").strip("/")
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _quota(file: Path) -> float | None:
    """`max 100000` is no limit; `150000 100000` is 1.5 CPUs. Absent or unreadable files limit nothing."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
