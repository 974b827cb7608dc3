"""One row of a benchmark while it is measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from sortal.benchmark.entries import Entry
from sortal.core.predictions import Predictions

BATCHES = (1, 32)
WHOLE = "whole"
"""The key of times from the bytes of a file to the decision, one image at a time."""


@dataclass(kw_only=True)
class Row:
    """What was found out about an entry so far; `failed` says what went wrong."""

    entry: Entry
    load_s: float | None = None
    ran_on: str = ""
    times_ms: dict[str, list[float]] = field(default_factory=dict)
    """`1`, `32`: the network alone on batches of so many; `WHOLE`: from bytes to decision."""
    peak_mb: float | None = None
    predictions: Predictions | None = None
    failed: str = ""

    @property
    def status(self) -> str:
        """`ok`, `not run` (here) or `failed`."""
        return "not run" if self.entry.why_not else "failed" if self.failed else "ok"
