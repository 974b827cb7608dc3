"""Contract: acceptance criteria as plain data. `evaluate` decides whether they are kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A proportion between 0 and 1."""


class Contract(BaseModel):
    """What a classifier promises. Every clause is optional; `confidence` holds for all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_error: Share | None = None
    """Share of wrong answers among the answers given."""
    min_coverage: Share | None = None
    """Share of images that are answered; the rest goes to a person."""
    recall: dict[str, Share] = {}
    """Per class: share of its images answered correctly or sent to a person."""
    costs: dict[str, dict[str, Annotated[float, Field(ge=0.0)]]] = {}
    """`costs[true][answered]`: what that mistake costs, in any one unit."""
    prevalence: dict[str, Share] = {}
    """Share of each class in production; classes left out share the rest in the proportions of the test data."""
    unit: str = "image"
    """`image`, or the name of the group column that one decision is made for."""
    max_latency_ms: Annotated[float, Field(gt=0.0)] | None = None
    """From bytes to decision, 99th percentile, batch 1, on the machine that certifies."""
    max_size_mb: Annotated[float, Field(gt=0.0)] | None = None
    """Files of the artifact that is deployed, in units of 1,000,000 bytes."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
