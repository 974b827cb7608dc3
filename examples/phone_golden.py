"""Writes the golden vectors that the unit tests of the phone samples read: small images, and their pixels as Sortal
prepares them. Run it again after a change of preprocessing:

    python examples/phone_golden.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sortal.core.preprocess import PreprocessSpec, prepare

TARGETS = ("android/app/src/test/resources/golden.json", "ios/Tests/SortalSampleTests/Resources/golden.json")
CASES: tuple[tuple[str, str, tuple[int, int]], ...] = (
    ("crop", "bicubic", (13, 21)),
    ("crop", "bilinear", (40, 9)),
    ("crop", "lanczos", (8, 8)),
    ("crop", "bicubic", (3, 260)),
    ("pad", "bicubic", (17, 29)),
    ("stretch", "hamming", (30, 11)),
    ("stretch", "box", (5, 4)),
)
"""How it is resized, the filter, and the image's height and width."""


def golden() -> dict[str, Any]:
    """The content of the files; pixels are hexadecimal, row by row, channels together."""
    random = np.random.default_rng(20)
    cases = []
    for resize, interpolation, (height, width) in CASES:
        spec = PreprocessSpec(
            size=(9, 10),
            resize="crop" if resize == "crop" else "pad" if resize == "pad" else "stretch",
            interpolation=interpolation,  # type: ignore[arg-type]
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        pixels = {"height": height, "width": width, "channels": 3, "pixels": image.tobytes().hex()}
        cases.append(
            {"spec": spec.model_dump(mode="json"), "image": pixels, "prepared": prepare(spec, image).tobytes().hex()}
        )
    return {"cases": cases}


if __name__ == "__main__":
    text = json.dumps(golden(), indent=1) + "\n"
    for target in TARGETS:
        (Path(__file__).parent / target).write_text(text, encoding="utf-8")
