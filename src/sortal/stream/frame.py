"""A frame on its way to its result, and the count of what became of frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sortal.serve.pool import Answer

ANSWERED, ABSTAINED, UNKNOWN, REJECTED = "answered", "abstained", "unknown", "rejected"
STATES = (ANSWERED, ABSTAINED, UNKNOWN, REJECTED)
DROPPED, LATE = "dropped", "late"


@dataclass(kw_only=True, eq=False)
class Frame:
    """One frame on its way."""

    number: int
    time_s: float
    """When it was taken, as people count; for records only."""
    taken_s: float
    """When it was taken, by the clock that nobody sets."""
    slot: int | None = None
    size: int = 0
    name: str | None = None
    data: bytes | None = None
    """The image file, once it left its slot."""
    kills: int = 0
    answer: Answer | None = None
    reason: str = ""
    """Why it was rejected; empty where it was answered, or is not decided yet."""
    done_s: float = 0.0
    pixels: str = ""
    """Which input size answered, where there are several."""
    afterwards: list[Callable[[], None]] = field(default_factory=list)
    """Called when its result has left."""

    @property
    def is_decided(self) -> bool:
        """Whether it has its result."""
        return self.answer is not None or bool(self.reason)

    @property
    def state(self) -> str:
        """One of `STATES`."""
        if self.answer is None or self.reason:
            return REJECTED
        if self.answer.get("unknown"):
            return UNKNOWN
        return ABSTAINED if self.answer["abstained"] else ANSWERED

    @property
    def age_ms(self) -> float:
        """From being taken to being decided."""
        return 1e3 * (self.done_s - self.taken_s)

    @property
    def time(self) -> str:
        """When it was taken: UTC, ISO 8601."""
        return datetime.fromtimestamp(self.time_s, UTC).isoformat(timespec="milliseconds")


@dataclass(kw_only=True)
class Counts:
    """What became of frames."""

    received: int = 0
    missed: int = 0
    """Found no free memory in the capturing process, and were never taken."""
    states: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    reasons: dict[str, int] = field(default_factory=dict)
    batches: int = 0
