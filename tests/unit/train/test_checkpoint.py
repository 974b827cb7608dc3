from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gratings import SOURCE
from sortal.core.errors import InputError
from sortal.core.sections import OptimSection
from sortal.models.backbones import create
from sortal.models.network import Network
from sortal.train.checkpoint import Checkpoint, Shelf, load, optimizer_tensors, restore_optimizer, save
from sortal.train.losses import cross_entropy
from sortal.train.optim import make_optimizer
from sortal.train.randomness import generator


def adamw(network: Network) -> torch.optim.Optimizer:
    return make_optimizer(network, OptimSection(), lr=1e-3, backbone_lr=1e-3, layer_decay=1.0)


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
    steps(whole, adamw(whole), 0, 6)
    first = create(SOURCE, classes=3, size=(16, 16))
    optimizer = adamw(first)
    steps(first, optimizer, 0, 3)
    save(
        Checkpoint(weights=first.state_dict(), moments=optimizer_tensors(optimizer), progress={"step": 3}),
        tmp_path / "last",
    )
    found = load(tmp_path / "last")
    second = create(SOURCE, classes=3, size=(16, 16), seed=9)
    second.load_state_dict(dict(found.weights))
    optimizer = adamw(second)
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
    with pytest.raises(InputError, match="no whole checkpoint"):
        load(tmp_path / "none")


def moment(step: int, *, best_epoch: int = 0, best: bool = False) -> Checkpoint:
    progress = {"step": step, "best_epoch": best_epoch, "best": {"loss": 1.0} if best else None}
    return Checkpoint(weights={"w": torch.full((3,), float(step))}, moments={}, progress=progress)


def filled(folder: Path) -> Shelf:
    shelf = Shelf(folder)
    for step, epoch in ((10, 1), (20, 1), (30, 3)):
        shelf.save(moment(step, best_epoch=epoch, best=True), best=(epoch, {"w": torch.full((3,), -float(epoch))}))
    return shelf


def test_a_shelf_keeps_two_checkpoints_and_the_best_weights_they_refer_to(tmp_path: Path) -> None:
    said: list[str] = []
    found = filled(tmp_path).newest(say=said.append)
    assert found is not None
    assert found.checkpoint.progress["step"] == 30
    assert found.best["w"].tolist() == [-3.0] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-1", "best-3", "step-20", "step-30"]
    assert said == []
    assert Shelf(tmp_path / "nothing").newest(say=said.append) is None


def test_any_changed_byte_and_any_cut_falls_back_to_the_checkpoint_before(tmp_path: Path) -> None:
    """200 single bits over all files of the newest checkpoint and of its best weights, and 20 cuts."""
    shelf = filled(tmp_path)
    files = sorted([*(tmp_path / "step-30").iterdir(), *(tmp_path / "best-3").iterdir()])
    random, said = np.random.default_rng(0), list[str]()
    for trial in range(220):
        path = files[trial % len(files)]
        raw = path.read_bytes()
        place = int(random.integers(len(raw)))
        changed = bytearray(raw)
        changed[place] ^= 1 << int(random.integers(8))
        path.write_bytes(raw[:place] if trial >= 200 else bytes(changed))
        found = shelf.newest(say=said.append)
        assert found is not None
        assert found.checkpoint.progress["step"] == 20, path
        assert found.best["w"].tolist() == [-1.0] * 3
        path.write_bytes(raw)
    assert len(said) == 220
    assert all(text.startswith("warning: ") for text in said)


def test_a_shelf_with_nothing_whole_has_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.save(moment(5), best=(0, {}))
    (tmp_path / "step-5" / "progress.json").unlink()
    said: list[str] = []
    assert shelf.newest(say=said.append) is None
    assert len(said) == 1
