from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gratings import SOURCE
from sortal.core.errors import InputError
from sortal.models.backbones import create
from sortal.models.network import Network
from sortal.train.checkpoint import Checkpoint, load, optimizer_tensors, restore_optimizer, save
from sortal.train.losses import cross_entropy
from sortal.train.optim import adamw
from sortal.train.randomness import generator


def steps(network: Network, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    """Steps whose images come from their number alone."""
    network.train()
    for step in range(first, last):
        images = torch.from_numpy(generator(0, "step", index=step).random((4, 3, 16, 16), dtype="float32"))
        optimizer.zero_grad()
        cross_entropy(network(images)[0], torch.arange(4) % 3).backward()
        optimizer.step()


def test_weights_and_moments_are_all_that_going_on_needs(tmp_path: Path) -> None:
    whole = create(SOURCE, classes=3, size=(16, 16))
    steps(whole, adamw(whole, lr=1e-3, weight_decay=0.05), 0, 6)
    first = create(SOURCE, classes=3, size=(16, 16))
    optimizer = adamw(first, lr=1e-3, weight_decay=0.05)
    steps(first, optimizer, 0, 3)
    save(
        Checkpoint(weights=first.state_dict(), moments=optimizer_tensors(optimizer), progress={"step": 3}),
        tmp_path / "last",
    )
    found = load(tmp_path / "last")
    second = create(SOURCE, classes=3, size=(16, 16), seed=9)
    second.load_state_dict(dict(found.weights))
    optimizer = adamw(second, lr=1e-3, weight_decay=0.05)
    restore_optimizer(optimizer, found.moments)
    steps(second, optimizer, found.progress["step"], 6)
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in second.state_dict().items())


def test_a_new_checkpoint_replaces_the_last_one_whole(tmp_path: Path) -> None:
    for step in (1, 2):
        save(
            Checkpoint(weights={"w": torch.full((2,), float(step))}, moments={}, progress={"step": step}),
            tmp_path / "c",
        )
    found = load(tmp_path / "c")
    assert found.progress == {"step": 2}
    assert found.weights["w"].tolist() == [2.0, 2.0]
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("weights.safetensors", b"\x08"),
        ("progress.json", b"{"),
        ("progress.json", b'{"format": 99}'),
        ("progress.json", b"[]"),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    save(Checkpoint(weights={"w": torch.zeros(2)}, moments={}, progress={}), tmp_path / "c")
    (tmp_path / "c" / name).write_bytes(content)
    with pytest.raises(InputError):
        load(tmp_path / "c")


def test_no_checkpoint_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        load(tmp_path / "none")
