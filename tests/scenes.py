"""Colorful pictures that look alike to nobody, and their bytes in any format."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def scene(seed: int, width: int = 200, height: int = 150) -> Image.Image:
    """Smooth patches of color with shapes on them."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    patches = rng.integers(0, 256, (7, 9, 3), np.uint8)
    image = Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)
    for _ in range(6):
        color = tuple(int(level) for level in rng.integers(0, 256, 3))
        x, y, w, h = (int(n) for n in rng.integers(10, 90, 4))
        image.paste(color, (x, y, x + w, y + h))
    return image


def saved(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()
