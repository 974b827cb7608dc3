"""Golden pixels of preprocessing: `python tests/golden/preprocess.py` prints what `preprocess.json` holds.

The file was written once from the reference and is not to be written again: a difference means that classifiers
trained before would see other pixels. Small outputs are stored whole, so that a difference can be looked at.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from corpus.build import CASES
from sortal.core.preprocess import PreprocessSpec, prepare
from sortal.data.decode import decode

STORED = Path(__file__).with_suffix(".json")
SOURCES: dict[str, tuple[int, int]] = {"wide": (13, 29), "tall": (31, 11), "tiny": (2, 3), "long": (1, 400)}
"""(height, width) of the noise images that are prepared."""
DECODED = [
    "palette-trns.png",
    "palette.png",
    "grey-trns.png",
    "two-bit-trns.png",
    "rgba.png",
    "grey-alpha.png",
    "one-bit.png",
    "interlaced.png",
    "grey-16.png",
    "rgb-16.png",
    "rgba-16.png",
    "grey-alpha-16.png",
    "cmyk.tif",
    "exif-6.png",
    "exif-6.tif",
    "grey-16-white-is-zero.tif",
    "rgb-16-big-endian.tif",
    "grey-12.pgm",
]
"""Files of the corpus whose decoding is lossless and the same in every version of every library."""


def source(name: str, channels: int, depth: int) -> np.ndarray:
    """Noise over the full range, the same everywhere: (height, width, channels)."""
    height, width = SOURCES[name]
    raw = np.random.Generator(np.random.Philox(key=len(name))).bytes(height * width * channels * 2)
    samples = np.frombuffer(raw, "<u2").reshape(height, width, channels).astype(np.uint16)
    return samples if depth == 16 else (samples >> 8).astype(np.uint8)


def cases() -> dict[str, dict[str, Any]]:
    """Name to {image, spec}: every resize rule, interpolation, depth, channel count, region and window."""
    found: dict[str, dict[str, Any]] = {}
    for resize in ("crop", "pad", "stretch"):
        for interpolation in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"):
            for image in ("wide", "tall"):
                found[f"{resize} {interpolation} {image}"] = _case(image, resize=resize, interpolation=interpolation)
    for image in ("wide", "tiny"):
        for depth in (8, 16):
            for channels in (1, 3):
                found[f"{channels} x {depth} bits {image}"] = _case(image, channels=channels, depth=depth)
    found["region"] = _case("wide", region=(0.1, 0.25, 0.65, 0.9))
    found["window 8"] = _case("tall", window=(100.0, 50.0), channels=1)
    found["window 16"] = _case("tall", window=(30000.0, 20000.0), channels=1, depth=16)
    found["pad tiny"] = _case("tiny", resize="pad")
    found["crop 1.0"] = _case("wide", crop=1.0)
    found["long crop"] = _case("long", interpolation="bilinear")
    found["long pad"] = _case("long", resize="pad", interpolation="bilinear")
    return found


def _case(image: str, **options: Any) -> dict[str, Any]:
    channels = options.get("channels", 3)
    spec = {
        "size": [5, 7],
        "mean": [0.485, 0.456, 0.406][:channels],
        "std": [0.229, 0.224, 0.225][:channels],
        **options,
    }
    return {"image": image, "spec": spec}


def prepared(case: dict[str, Any]) -> np.ndarray:
    """What the reference makes of a case."""
    spec = PreprocessSpec.model_validate(case["spec"])
    return prepare(spec, source(case["image"], spec.channels, spec.depth))


def decoded(name: str, channels: int, depth: int) -> str:
    """SHA-256 of what becomes of a file of the corpus: shape, type and little-endian samples."""
    array = decode(CASES[name][1](), channels=channels, depth=depth)
    head = f"{array.shape} {array.dtype.name} ".encode()
    return hashlib.sha256(head + array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()


def current() -> dict[str, Any]:
    """What the code of today yields, in the form of the stored file."""
    return {
        "prepared": {name: {**case, "pixels": prepared(case).tolist()} for name, case in cases().items()},
        "decoded": {
            f"{name} {channels} x {depth}": decoded(name, channels, depth)
            for name in DECODED
            for channels in (1, 3)
            for depth in (8, 16)
        },
    }


if __name__ == "__main__":
    rows = current()
    print("{")
    for index, (part, entries) in enumerate(rows.items()):
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
        print(f' "{part}": {{\n{lines}\n }}' + ("," if index == 0 else ""))
    print("}")
