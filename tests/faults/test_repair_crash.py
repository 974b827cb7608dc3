"""Repairs and undos killed and failed at single system calls: a sample of what benchmarks/repair_crash.py walks."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import need_strace
from sortal.core.errors import DataError, MachineError
from sortal.data.repair import moves
from sortal.data.repair.fix import repair, resume, take_back
from sortal.data.repair.journal import journals, locked
from trees import contents, make, picture, plan_of

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "repair_crash.py"
SAMPLE = [
    ("folders", "mkdir", -1, "signal=KILL"),
    ("folders", "renameat2", 0, "signal=KILL"),
    ("folders", "renameat2", 2, "error=EIO"),
    ("folders", "renameat2", -1, "signal=KILL"),
    ("folders", "write", -3, "error=ENOSPC"),
    ("across", "unlink", -2, "signal=KILL"),
    ("across", "fsync", 20, "error=ENOSPC"),
    ("undo", "renameat2", 1, "signal=KILL"),
    ("undo", "mkdir", 1, "error=ENOSPC"),
    ("undo", "utimensat", 1, "signal=KILL"),
    ("table", "rename", -1, "signal=KILL"),
    ("table", "rename", -1, "error=ENOSPC"),
]
CONTROL = [("naive", "write", 0, "error=ENOSPC")]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """What came of every sampled state. In a process of its own: this one may have threads, and is not forked."""
    need_strace()
    command = [sys.executable, str(BENCHMARK), "--sample", *(_text(*state) for state in (*SAMPLE, *CONTROL))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return {found["state"]: found["outcome"] for found in map(json.loads, done.stdout.splitlines())}


def _text(operation: str, call: str, index: int, fault: str) -> str:
    return f"{operation}/{call}/{index}/{fault}"


@pytest.mark.parametrize("state", SAMPLE, ids=lambda state: "-".join(map(str, state)))
def test_nothing_is_lost_and_the_tree_comes_back(
    outcomes: dict[str, dict[str, Any]], state: tuple[str, str, int, str]
) -> None:
    outcome = outcomes[_text(*state)]
    assert outcome["lost"] == 0
    assert outcome["restored"]
    assert outcome["said"] == ("killed" if state[3] == "signal=KILL" else "failed")


def test_a_careless_repair_is_found_out(outcomes: dict[str, dict[str, Any]]) -> None:
    """The control: the same look does find an image that was lost."""
    assert any(outcomes[_text(*state)]["lost"] for state in CONTROL)


def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the quarantine and every class lay on file systems of their own."""
    inner = moves.rename_to_free

    def refused(source: Path, target: Path) -> None:
        if source.parent != target.parent or source.is_dir():
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))
        inner(source, target)

    monkeypatch.setattr(moves, "rename_to_free", refused)


PLAN = plan_of(
    {"do": "quarantine", "image": "cat/0.png"},
    {"do": "relabel", "image": "cat/1.png", "from": "cat", "to": "dog"},
    {"do": "rename", "from": "dog", "to": "hound"},
)


def test_across_file_systems_images_are_copied_compared_and_then_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "photos", {"cat": 3, "dog/deep": 2, "dog": 1})
    (root / "dog/link.png").symlink_to("0.png")
    os.utime(root / "dog/link.png", ns=(10**18, 10**18), follow_symlinks=False)
    os.utime(root / "dog", ns=(10**18, 10**18))
    before, all_bytes = picture(root), contents(root)
    _elsewhere(monkeypatch)
    repair(root, PLAN)
    assert contents(root) == all_bytes
    assert (root / "hound/deep/1.png").stat().st_mtime_ns < 2 * 10**18
    assert not list(root.rglob(f"{moves.PARTIAL}*"))
    _, undone = take_back(root, do=True)
    assert undone.kept == ()
    assert picture(root) == before


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system is at hand")
def test_a_move_to_another_file_system_for_real(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(b"content")
    os.utime(source, ns=(10**18, 10**18))
    target = Path("/dev/shm") / f"sortal-test-{os.getpid()}.png"
    try:
        moves.move(source, target)
        assert not source.exists()
        assert (target.read_bytes(), target.stat().st_mtime_ns) == (b"content", 10**18)
        source.write_bytes(b"other")
        with pytest.raises(FileExistsError):
            moves.move(source, target)
        assert source.read_bytes() == b"other"
    finally:
        target.unlink(missing_ok=True)


def test_a_full_disk_stops_the_repair_and_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "photos", {"cat": 3, "dog": 2})
    before, all_bytes = picture(root), contents(root)
    inner, count = moves.rename_to_free, iter(range(100))

    def refused(source: Path, target: Path) -> None:
        if next(count) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        inner(source, target)

    monkeypatch.setattr(moves, "rename_to_free", refused)
    with pytest.raises(MachineError) as caught:
        repair(root, PLAN)
    assert "stopped at step" in str(caught.value)
    assert "--resume" in str(caught.value)
    assert "--undo" in str(caught.value)
    assert contents(root) == all_bytes
    (journal,) = journals(root)
    assert journal.state == "broken off"
    assert "No space left" in journal.last("stopped")["reason"]
    take_back(root, do=True)
    assert picture(root) == before


def test_what_somebody_puts_in_the_way_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "photos", {"cat": 3, "dog": 2})
    before = picture(root)
    inner = moves.rename_to_free

    def raced(source: Path, target: Path) -> None:
        if target.name == "1-2.png":
            target.write_bytes(b"somebody's")
        inner(source, target)

    monkeypatch.setattr(moves, "rename_to_free", raced)
    with pytest.raises(DataError, match="put in this place"):
        repair(root, PLAN)
    assert (root / "dog/1-2.png").read_bytes() == b"somebody's"
    (root / "dog/1-2.png").unlink()
    monkeypatch.undo()
    resume(root)
    take_back(root, do=True)
    assert picture(root) == before


def test_two_repairs_at_once_are_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "photos", {"cat": 3, "dog": 2})
    lock = locked(root)
    try:
        with pytest.raises(MachineError, match="being written"):
            repair(root, PLAN)
    finally:
        lock.release()
    repair(root, PLAN)
