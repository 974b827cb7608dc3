"""What a stream is asked to do, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortal.stream.recording import What
from sortal.stream.results import Only


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a stream is to do, beside its limits."""

    model: Path
    source: str
    smaller: Sequence[Path] = ()
    """The same task at smaller input sizes, for the policy `resolution`."""
    camera: str | None = None
    """What the camera is called in records; by default its address without secrets."""
    live: bool | None = None
    """Whether frames that are not taken in time are gone; None: as the source is."""
    once: bool = False
    """A folder ends when its files were answered."""
    on_label: Sequence[str] = ()
    only: Only = "all"
    out: Path | None = None
    """None: standard output."""
    record: Path | None = None
    record_what: What = "all"
    record_mb: float = 1000.0
    frames: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a stream ended."""

    why: str
    numbers: dict[str, Any]
    table: Path | None
    """The list of recorded frames."""
