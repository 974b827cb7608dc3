"""Survey: what one pass over the bytes of every image finds, beside its digest and header.

Shapes: N rows of the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

TINY_PX = 16
HASH_BYTES = 32

COLUMNS: dict[str, pl.DataType] = {
    "bytes": pl.Int64(),
    "suffix": pl.String(),
    "format": pl.String(),
    "width": pl.Int64(),
    "height": pl.Int64(),
    "mode": pl.String(),
    "frames": pl.Int64(),
    "orientation": pl.Int64(),
    "camera": pl.String(),
    "taken": pl.Datetime("us"),
    "gps": pl.Boolean(),
    "brightness": pl.Float64(),
    "dark": pl.Float64(),
    "light": pl.Float64(),
    "contrast": pl.Float64(),
    "sharpness": pl.Float64(),
    "entropy": pl.Float64(),
    "chroma": pl.Float64(),
    "border": pl.Float64(),
}
"""Of `Survey.frame`. `bytes` of the file; `suffix` is the format that the file's name says, null where it says none;
`format`, `width`, `height` (upright), `mode`, `frames`, `orientation` from the header; `camera` (make and model),
`taken` and `gps` (whether there is a position) from EXIF. The rest is measured on pixels, 0..1: mean luma, its 99th and
5th percentile, its standard deviation, sharpness and entropy scores, mean chroma (0: no color), share of the sides that
is a uniform border."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """One pass over N images."""

    frame: pl.DataFrame
    """N rows of `COLUMNS`."""
    hashes: NDArray[np.uint8]
    """(N, HASH_BYTES) perceptual hash of 256 bits: near duplicates differ in few bits."""
    tiny: NDArray[np.uint8]
    """(N, TINY_PX, TINY_PX, 3) the image stretched to 16 px, RGB."""

    def __len__(self) -> int:
        return self.frame.height
