"""A classifier of colors and a server of it, for what is deployed around them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colors import color_bundle
from servers import Server, start_server


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return color_bundle(tmp_path_factory.mktemp("deployed") / "colors")


@pytest.fixture(scope="module")
def red() -> bytes:
    """A PNG file."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[..., 0] = 250
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(bundle, tmp_path_factory.mktemp("server") / "log", "workers=1")
    try:
        running.wait_for("ready")
        yield running
    finally:
        running.end()
