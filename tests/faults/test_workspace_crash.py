"""Changes of a workspace killed and failed at single system calls, a sample of what benchmarks/workspace_crash.py does;
and labels that were acknowledged, which survive their writers.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from scripts import load_benchmark, need_strace

crash = load_benchmark("workspace_crash")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_strace()
    folder = tmp_path_factory.mktemp("workspace-crash")
    crash.prepare(folder)
    return folder


walked = functools.cache(crash.states)

SAMPLE = [
    ("promote", "rename", 0, "signal=KILL"),
    ("promote", "pwrite64", -1, "error=ENOSPC"),
    ("promote", "fdatasync", 0, "signal=KILL"),
    ("rollback", "pwrite64", 0, "error=EIO"),
    ("clear", "rename", 0, "signal=KILL"),
    ("clear", "unlinkat", 0, "signal=KILL"),
    ("image", "rename", 0, "signal=KILL"),
    ("image", "fdatasync", -1, "signal=KILL"),
]


@pytest.mark.parametrize(("operation", "call", "index", "fault"), SAMPLE)
def test_a_change_is_there_or_not(parent: Path, operation: str, call: str, index: int, fault: str) -> None:
    state = [state for state in walked(parent, operation) if (state.call, state.fault) == (call, fault)][index]
    outcome = crash.run_state(parent, state)
    assert outcome.wrong == ""
    assert outcome.said == ("killed" if fault == "signal=KILL" else "failed")


def test_what_was_acknowledged_survives_its_writers(parent: Path) -> None:
    acknowledged, lost = crash.kill_writers(parent, 3, 0.3)
    assert acknowledged >= 3
    assert lost == 0


def test_a_label_that_was_not_synced_would_be_noticed(parent: Path) -> None:
    """The control: the same walk finds a sync at every acknowledged change."""
    calls = [state.call for state in walked(parent, "image") if state.fault == "signal=KILL"]
    assert calls.count("fdatasync") >= 2  # the image's row and the label
    assert calls.count("fsync") >= 2  # the image's file and its folder
