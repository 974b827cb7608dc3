"""Helpers of the tests of checks: what checks look at, made of arrays, without a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.labels import LabelSet
from sortal.data.checks.material import Limits, Material
from sortal.data.survey import COLUMNS, HASH_BYTES, TINY_PX, Survey
from sortal.data.table import build_table

PLAIN: dict[str, Any] = {"bytes": 20_000, "suffix": "JPEG", "format": "JPEG", "width": 64, "height": 48, "mode": "RGB",
                         "frames": 1, "orientation": 1, "gps": False, "border": 0.0}  # fmt: skip
LOOKS = ("brightness", "dark", "light", "contrast", "sharpness", "entropy", "chroma")


def material(
    labels: list[int] | NDArray[np.int64],
    *,
    classes: tuple[str, ...],
    parents: tuple[str, ...] | None = None,
    uri: list[str] | None = None,
    columns: dict[str, Any] | None = None,
    survey: dict[str, Any] | None = None,
    features: NDArray[np.float32] | None = None,
    probabilities: NDArray[np.float32] | None = None,
    limits: Limits | None = None,
    root: Path | None = None,
    seed: int = 0,
) -> Material:
    """Rows `images/<number>.jpg` with digests of their own; the survey is ordinary but for the columns given."""
    count = len(labels)
    names = uri or [f"images/{row:05d}.jpg" for row in range(count)]
    frame = {
        "uri": names,
        "label": np.asarray(labels),
        "digest": [f"{row:064x}" for row in range(count)],
        **(columns or {}),
    }
    random = np.random.default_rng(seed)
    found = {name: [PLAIN.get(name)] * count for name in COLUMNS}
    found |= {name: random.normal(0.5, 0.1, count).clip(0, 1).tolist() for name in LOOKS}
    found |= survey or {}
    return Material(
        table=build_table(
            pl.DataFrame(frame), labels=LabelSet(names=classes, parents=parents), source="memory", root=root
        ),
        survey=Survey(
            frame=pl.DataFrame(found, schema=COLUMNS, strict=False),
            hashes=np.zeros((count, HASH_BYTES), np.uint8),
            tiny=np.zeros((count, TINY_PX, TINY_PX, 3), np.uint8),
        ),
        features=features,
        probabilities=probabilities,
        limits=limits or Limits(),
    )


def blobs(labels: NDArray[np.int64], *, width: int = 32, spread: float = 0.35, seed: int = 0) -> NDArray[np.float32]:
    """(N, width) features of unit length around a direction for each class."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(int(labels.max()) + 1, width))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    x = centers[labels] + spread * random.normal(size=(len(labels), width)) / np.sqrt(width)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
