"""Small labeled images for the tests of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gratings import gratings
from sortal.data.table import ImageTable


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[..., ImageTable]:
    """`gratings` in a file of their own."""

    def make(**settings: Any) -> ImageTable:
        return gratings(tmp_path / f"set{len(list(tmp_path.iterdir()))}.npz", **settings)

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tests run beside each other; and weights are promised to be equal to the bit for one number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
