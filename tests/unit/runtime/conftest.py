"""A bundle whose classifier can be checked by eye, see `colors`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from colors import color_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return color_bundle(tmp_path_factory.mktemp("run") / "bundle")


@pytest.fixture
def halves() -> np.ndarray:
    """(20, 40, 3): red on the left, blue on the right; turned wrongly it is answered otherwise."""
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :20, 0] = 250
    image[:, 20:, 2] = 250
    return image
