"""What torchrun tells a process of its place among others, known before torch is imported."""

from __future__ import annotations

import os


def team_size() -> int:
    """How many processes train together; 1 where this one was not started by torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def leading() -> bool:
    """True in the one process that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"
