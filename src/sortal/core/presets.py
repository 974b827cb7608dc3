"""Presets: three ready answers to "how much effort", as plain recipe data under whatever else is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

PresetName = Literal["fast", "balanced", "best"]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"train": {"epochs": 0}},
    "balanced": {"train": {"freeze": "none"}},
    "best": {"model": {"views": "mirror"}, "train": {"freeze": "none", "average": 0.25}},
}
"""fast: a linear head on frozen features. balanced: the backbone is trained too. best: also the average of the last
weights, and answers averaged over an image and its mirror image, at twice the cost of an answer."""
