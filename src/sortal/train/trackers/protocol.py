"""What a tracker is, and what rows, recipes and reports look like to one: flat names with plain numbers or texts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = Path | NDArray[np.uint8]
"""An image file, or pixels (height, width, channels)."""

_GROUPS = ("train", "val", "test")


class Tracker(Protocol):
    """Follows one run from beginning to end. May raise anything: `Trackers` catches it."""

    def start(self, run: Path, recipe: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        """The run in folder `run` begins, or goes on; recipe and plan are plain data (JSON types)."""

    def row(self, metrics: Mapping[str, Any], step: int) -> None:
        """A row as in `metrics.jsonl`; what is no number is left out."""

    def image(self, name: str, picture: Picture, step: int) -> None:
        """A picture, for example the first training batch or the confusion matrix."""

    def finish(self, report: Mapping[str, Any] | None) -> None:
        """The run ended with this report (plain data), or without one: stopped, or failed."""


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row under grouped names: `val_accuracy` is `val/accuracy`, `data_s` is `time/data_s`."""
    return {_grouped(name): float(value) for name, value in metrics.items() if _is_number(value)}


def final_values(report: Mapping[str, Any]) -> dict[str, float]:
    """The defined metrics of a report, as `final/<name>`."""
    found = {name: metric.get("value") for name, metric in report.get("metrics", {}).items()}
    return {f"final/{name}": float(value) for name, value in found.items() if _is_number(value)}


def settings(data: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Nested plain data as texts under dotted names: `{"optim": {"lr": 0.1}}` is `<prefix>.optim.lr`."""
    return dict(_leaves(data, prefix))


def pixels_of(picture: Picture) -> NDArray[np.uint8]:
    """(height, width, 3) of a picture; grey pixels are repeated."""
    if isinstance(picture, Path):
        with Image.open(picture) as image:
            return np.asarray(image.convert("RGB"))
    return np.broadcast_to(picture, (*picture.shape[:2], 3))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}")
    else:
        yield name, str(value)


def _grouped(name: str) -> str:
    group, _, rest = name.partition("_")
    if group in _GROUPS and rest:
        return f"{group}/{rest}"
    return f"time/{name}" if name.endswith("_s") and not name.endswith("per_s") else f"run/{name}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)
