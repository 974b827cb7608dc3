"""What decides a cached pixel or feature beside the image: the settings under which `data.cache` files it.

The program itself is one of them: the sources of every module between an image's bytes and the result are hashed, and
the versions of the libraries that decode and resize. A changed decoder never meets pixels of the old one.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sortal.core.preprocess import PreprocessSpec

_SOURCES = (
    "core/preprocess.py",
    "data/arrays.py",
    "data/decode.py",
    "data/header.py",
    "data/pixels.py",
    "data/table.py",
    "data/fast_jpeg.py",
    "train/fast_pixels.py",
)
_LIBRARIES = {
    "reference": ("pillow", "numpy"),
    "fast": ("pillow", "numpy", "simplejpeg", "torch"),
}


def image_settings(spec: PreprocessSpec, decoding: str) -> dict[str, Any]:
    """For prepared images, which are not normalized: `std` has no part in them, `mean` only as the color of padding."""
    left_out = {"std", "layout"} if spec.resize == "pad" else {"std", "layout", "mean"}
    return {"spec": spec.model_dump(mode="json", exclude=left_out), "decode": decoding, "code": code_digest(decoding)}


def feature_settings(spec: PreprocessSpec, extractor: str) -> dict[str, Any]:
    """For features by the extractor of that digest, of images by the reference."""
    return {"spec": spec.model_dump(mode="json"), "extractor": extractor, "code": code_digest("reference")}


@lru_cache(maxsize=2)
def code_digest(decoding: str) -> str:
    """SHA-256 over the sources and library versions that make pixels."""
    folder = Path(__file__).parents[1]
    files = [*(folder / name for name in _SOURCES), *sorted((folder / "data" / "containers").glob("*.py"))]
    summed = hashlib.sha256()
    for file in files:
        summed.update(file.read_bytes())
    for library in _LIBRARIES[decoding]:
        summed.update(f"{library} {_version(library)}\n".encode())
    return summed.hexdigest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"
