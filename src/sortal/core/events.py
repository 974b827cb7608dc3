"""Event: one answered request as the log of production keeps it. Versioned and append-only; no pixels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["live", "canary", "shadow"]
"""What a bundle was when it answered; a shadow's answer went to nobody."""


class Event(BaseModel):
    """What was asked, what was answered by which bundle, how long it took, and the label that came later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[int, Field(ge=1, le=1)] = 1
    time: str
    """UTC, ISO 8601 with microseconds."""
    request_id: str
    bundle_id: str
    image_sha256: str
    top: tuple[tuple[str, float], ...]
    """(class name, calibrated probability), best first."""
    abstained: bool = False
    unknown_score: float | None = None
    embedding: tuple[float, ...] | None = None
    latency_ms: Annotated[float, Field(ge=0.0)] | None = None
    role: Role = "live"
    label: str | None = None
    """The true class, once somebody said so."""
