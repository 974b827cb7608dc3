"""Checkpoints killed and failed at single system calls, on full disks and in closed folders.

Whatever happens while a checkpoint is saved, the newest whole one is found: the new one or the one before.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nursery import kill_resume
from sortal.train.checkpoint import Checkpoint, Shelf

CALLS = ("mkdir", "openat", "write", "fsync", "rename", "renameat2", "unlinkat", "rmdir")

CHILD = """
import os, resource, sys
from pathlib import Path
import torch
from safetensors.torch import save
from sortal.core.errors import MachineError
from sortal.train.checkpoint import Checkpoint, Shelf
step, epoch, limit, user, folder = {step}, {epoch}, {limit}, {user}, Path({folder!r})
weights = {{"w": torch.full((60_000,), float(step))}}
progress = {{"step": step, "best_epoch": epoch, "best": {{"loss": 1.0}}, "spent_s": 1.0}}
checkpoint = Checkpoint(weights=weights, moments={{"0.m": weights["w"]}}, progress=progress)
save(weights)  # imports what it needs
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
if user:
    os.setgroups([]); os.setgid(user); os.setuid(user)
os.access("/save-begins", os.F_OK)
try:
    Shelf(folder).save(checkpoint, best=(epoch, {{"w": torch.full((60_000,), -float(epoch))}}))
except MachineError as error:
    print(error, flush=True)
    os._exit(3)
finally:
    os.access("/save-ends", os.F_OK)
"""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = kill_resume.Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()


def _save(
    nursery: Any,
    folder: Path,
    *,
    step: int = 30,
    epoch: int = 3,
    limit: int = 0,
    user: int = 0,
    strace: tuple[str, ...] = (),
) -> Any:
    code = CHILD.format(step=step, epoch=epoch, limit=limit, user=user, folder=str(folder))
    return nursery.run(folder.parent, code=code, strace=strace)


def _filled(folder: Path) -> Path:
    shelf = Shelf(folder)
    for step, epoch in ((10, 1), (20, 2)):
        weights = {"w": torch.full((60_000,), float(step))}
        progress = {"step": step, "best_epoch": epoch, "best": {"loss": 1.0}, "spent_s": 1.0}
        checkpoint = Checkpoint(weights=weights, moments={"0.m": weights["w"]}, progress=progress)
        shelf.save(checkpoint, best=(epoch, {"w": torch.full((60_000,), -float(epoch))}))
    return folder


def _found(folder: Path) -> int:
    """The step of the checkpoint that one would go on from; its tensors and its best weights have to be its own."""
    said: list[str] = []
    found = Shelf(folder).newest(say=said.append)
    assert found is not None, said
    step, epoch = found.checkpoint.progress["step"], found.checkpoint.progress["best_epoch"]
    assert found.checkpoint.weights["w"].unique().tolist() == [float(step)]
    assert found.best["w"].unique().tolist() == [-float(epoch)]
    return int(step)


def _next_start(folder: Path) -> None:
    """What going on does: what could not be used and what a dead process left is cleared away."""
    shelf = Shelf(folder)
    shelf.forget_after(shelf.newest(say=lambda _: None))
    assert not [path for path in folder.rglob(".*") if path.name.startswith((".tmp-", ".old-"))]


def _need_strace() -> None:
    tried = shutil.which("strace") and subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True)
    if not tried or tried.returncode != 0:
        reason = "strace is not installed or may not trace processes here"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


def _strace(log: Path, *more: str) -> tuple[str, ...]:
    return ("-o", str(log), "-e", f"trace=access,faccessat,faccessat2,{','.join(CALLS)}", *more)


@pytest.fixture(scope="module")
def places(nursery: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """Which calls, counted by name, an undisturbed save makes."""
    _need_strace()
    folder = tmp_path_factory.mktemp("undisturbed")
    log = folder / "strace.log"
    assert _save(nursery, _filled(folder / "checkpoints"), strace=_strace(log)).code == 0
    counts: Counter[str] = Counter()
    found: dict[str, list[int]] = {}
    inside = False
    for line in log.read_text(errors="replace").splitlines():
        called = re.match(r"(\w+)\(", line)
        if "/save-begins" in line or "/save-ends" in line:
            inside = "/save-begins" in line
        elif called and called[1] in CALLS:
            counts[called[1]] += 1
            if inside:
                found.setdefault(called[1], []).append(counts[called[1]])
    return found


SAMPLE = [
    ("mkdir", 0, "error=ENOSPC"),
    ("openat", 3, "error=EIO"),
    ("write", 0, "signal=KILL"),
    ("write", -1, "error=ENOSPC"),
    ("fsync", 2, "error=EIO"),
    ("fsync", -1, "signal=KILL"),
    ("rename", 0, "signal=KILL"),
    ("rename", -1, "error=ENOSPC"),
    ("rename", -1, "signal=KILL"),
    ("unlinkat", 0, "signal=KILL"),
]


def _disturb(nursery: Any, folder: Path, places: dict[str, list[int]], call: str, index: int, fault: str) -> None:
    checkpoints = _filled(folder / "checkpoints")
    rule = f"inject={call}:{fault}:when={places[call][index]}"
    done = _save(nursery, checkpoints, strace=_strace(folder / "strace.log", "-e", rule))
    if fault != "signal=KILL":
        assert "INJECTED" in (folder / "strace.log").read_text(errors="replace")
    assert done.code in ({-signal.SIGKILL} if fault == "signal=KILL" else {0, 3}), done.err
    found = _found(checkpoints)
    assert found in (20, 30)
    assert found == 30 or done.code != 0
    if done.code == 3:
        assert str(checkpoints) in done.out
    _next_start(checkpoints)
    assert _found(checkpoints) == found


@pytest.mark.parametrize(("call", "index", "fault"), SAMPLE)
def test_a_checkpoint_that_fails_on_its_way(
    nursery: Any, tmp_path: Path, places: dict[str, list[int]], call: str, index: int, fault: str
) -> None:
    _disturb(nursery, tmp_path, places, call, index, fault)


@pytest.mark.slow
def test_a_checkpoint_that_fails_anywhere_on_its_way(
    nursery: Any, tmp_path: Path, places: dict[str, list[int]]
) -> None:
    states = 0
    for fault in ("signal=KILL", "error=ENOSPC", "error=EIO"):
        for call, numbers in places.items():
            for index in range(len(numbers)):
                folder = tmp_path / f"{states}"
                folder.mkdir()
                _disturb(nursery, folder, places, call, index, fault)
                shutil.rmtree(folder)
                states += 1
    assert states > 80


def test_a_checkpoint_that_may_not_grow(nursery: Any, tmp_path: Path) -> None:
    folder = _filled(tmp_path / "checkpoints")
    done = _save(nursery, folder, limit=100_000)
    assert done.code == 3, done.err
    assert "File too large" in done.out
    assert str(folder) in done.out
    _next_start(folder)
    assert _found(folder) == 20


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_of_one_and_a_half_checkpoints(nursery: Any, tmp_path: Path) -> None:
    """A checkpoint here is 480 kB, the best weights beside it 240 kB: the first fits, the second does not."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1100k", "tmpfs", disk], capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        assert _save(nursery, disk / "checkpoints", step=20, epoch=2).code == 0
        done = _save(nursery, disk / "checkpoints")
        assert done.code == 3, done.err
        assert "No space left on device" in done.out
        assert str(disk / "checkpoints") in done.out
        _next_start(disk / "checkpoints")
        assert _found(disk / "checkpoints") == 20
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become somebody else")
def test_a_closed_folder(nursery: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("closed")
    for parent in home.parents:
        if parent.name.startswith(("pytest", "popen")):
            parent.chmod(0o755)
    home.chmod(0o755)
    folder = _filled(home / "checkpoints")
    done = _save(nursery, folder, user=65534)
    assert done.code == 3, done.err
    assert "Permission denied" in done.out
    assert str(folder) in done.out
    assert _found(folder) == 20
    assert _save(nursery, folder).code == 0, "the control: only the permission stops it"
