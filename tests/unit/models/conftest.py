"""No test of this folder may see the zoo, cache or network settings of the person who runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SORTAL_ZOO", "SORTAL_MIRROR", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SORTAL_OFFLINE", "1")
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_card(tmp_path: Path) -> Callable[..., Path]:
    """Write a weights file and its card; keyword arguments change or (None) remove fields of the card."""

    def make(folder: str = "zoo", stem: str = "net.v1", state: dict[str, torch.Tensor] | None = None, **fields: Any):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        weights = place / f"{stem}.safetensors"
        save_file(state or {"x": torch.arange(3.0)}, weights)
        card = {
            "architecture": "sortal_tiny",
            "weights": weights.name,
            "sha256": sha256(weights.read_bytes()).hexdigest(),
            "input": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3},
            "licence": "Apache-2.0",
            "source": "made in a test",
            **fields,
        }
        path = place / f"{stem}.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in card.items() if value is not None}))
        return path

    return make
