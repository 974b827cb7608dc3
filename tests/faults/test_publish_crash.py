"""Publications killed and failed at single system calls: a sample of what benchmarks/publish_crash.py walks in full."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import load_benchmark, need_strace

crash = load_benchmark("publish_crash")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_strace()
    folder = tmp_path_factory.mktemp("crash")
    crash.prepare(folder)
    return folder


SAMPLE = [
    ("folder", "mkdir", 0, "error=ENOSPC"),
    ("folder", "sendfile", 3, "signal=KILL"),
    ("folder", "fsync", 0, "error=EIO"),
    ("folder", "fsync", -2, "signal=KILL"),
    ("folder", "rename", 0, "signal=KILL"),
    ("folder", "rename", 0, "error=ENOSPC"),
    ("folder", "fsync", -1, "signal=KILL"),
    ("replace", "mkdir", 0, "error=EIO"),
    ("replace", "renameat2", 0, "signal=KILL"),
    ("replace", "unlinkat", 0, "signal=KILL"),
    ("aside", "rename", 1, "signal=KILL"),
    ("aside", "rename", 1, "error=ENOSPC"),
    ("file", "write", 0, "error=ENOSPC"),
    ("file", "rename", 0, "signal=KILL"),
]


@pytest.mark.parametrize(("operation", "call", "index", "fault"), SAMPLE)
def test_a_reader_finds_the_old_or_the_new_thing(
    parent: Path, operation: str, call: str, index: int, fault: str
) -> None:
    state = [state for state in crash.states(parent, operation, [fault]) if state.call == call][index]
    outcome = crash.run_state(parent, state)
    allowed = {"old", "new"}
    if (operation, call, index, fault) == ("aside", "rename", 1, "signal=KILL"):
        allowed = {"nothing"}  # the window that core.publish documents
    assert outcome.found in allowed
    assert outcome.said == ("killed" if fault == "signal=KILL" else "failed")
    assert outcome.said == "killed" or outcome.hidden == 0
    assert outcome.mended


def test_a_publisher_without_rename_is_found_broken(parent: Path) -> None:
    """The control: the same reader and the same faults do find a bundle that was written in place."""
    state = [state for state in crash.states(parent, "naive", ["signal=KILL"]) if state.call == "sendfile"][3]
    assert crash.run_state(parent, state).found == "broken"


def _sync_faults(log: str, target: Path) -> list[str]:
    """What is wrong with the order of writes, syncs and the rename of one published folder."""
    last_write: dict[str, int] = {}
    synced: dict[str, int] = {}
    renamed = -1
    for position, (name, line, inside) in enumerate(crash.calls(log)):
        path = re.search(r"<(/[^>]*)>", line)
        if not inside:
            continue
        if name in ("write", "sendfile") and path and ".tmp-" in path[1]:
            last_write[path[1]] = position
        elif name == "mkdir" and ".tmp-" in line:
            last_write[re.search(r'"([^"]*)"', line)[1]] = position  # type: ignore[index]
        elif name == "fsync" and path:
            synced[path[1]] = position
        elif name == "rename":
            renamed = position
    wrong = [
        f"{path} not synced between its last write and the rename"
        for path, written in last_write.items()
        if not written < synced.get(path, -1) < renamed
    ]
    if synced.get(str(target.parent), -1) < renamed:
        wrong.append("the parent folder is not synced after the rename")
    return wrong if last_write else ["nothing was written"]


@pytest.mark.parametrize(("operation", "sound"), [("folder", True), ("unsynced", False)])
def test_everything_is_on_the_disk_before_the_rename(parent: Path, operation: str, *, sound: bool) -> None:
    """`unsynced` is the control: a publisher that flushes nothing must be noticed."""
    scene = crash.Scene(parent, operation)
    code, log = crash.trace(scene)
    assert code == 0
    faults = _sync_faults(log, scene.target)
    assert (faults == []) is sound
    if not sound:
        assert len(faults) >= 7
