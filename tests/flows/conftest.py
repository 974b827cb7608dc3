"""One small world for all flows: photographs of three colors, a classifier trained on them, and images to answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worlds import COLORS, TINY, World, class_folders, sortal, spoil


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    home = tmp_path_factory.mktemp("world")
    class_folders(home / "photos", dict.fromkeys(COLORS, 14), seed=1)
    class_folders(home / "other", dict.fromkeys(COLORS, 3), seed=2)
    class_folders(home / "inbox", {"red": 2, "blue": 1}, seed=3)
    spoil(home / "inbox" / "red")
    return World(home=home, train=sortal(home, "train", "photos", *TINY, "seed=7", "--json"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tests run beside each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
