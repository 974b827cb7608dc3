"""The number of CPUs allowed, from affinity and from the quota of a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sortal.runtime import threads
from sortal.runtime.threads import allowed_cpus, cgroup_quota


@pytest.fixture
def cgroup(tmp_path):
    """Writes quotas for the cgroup /a/b and those above it."""
    membership = tmp_path / "membership"
    membership.write_text("0::/a/b\n")

    def write(**quotas: str) -> tuple[Path, Path]:
        for name, text in quotas.items():
            folder = {"root": tmp_path, "a": tmp_path / "a", "b": tmp_path / "a" / "b"}[name]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cpu.max").write_text(text)
        return tmp_path, membership

    return write


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({}, None),
        ({"root": "max 100000\n"}, None),
        ({"root": "150000 100000\n"}, 1.5),
        ({"b": "50000 100000\n"}, 0.5),
        ({"a": "200000 100000\n", "b": "max 100000\n"}, 2.0),
        ({"a": "200000 100000\n", "b": "400000 100000\n"}, 2.0),
        ({"b": "nonsense"}, None),
        ({"b": "1 0"}, None),
    ],
)
def test_the_smallest_quota_on_the_way_up_counts(quotas, expected, cgroup):
    assert cgroup_quota(*cgroup(**quotas)) == expected


def test_without_a_membership_file_the_root_counts(tmp_path):
    (tmp_path / "cpu.max").write_text("300000 100000\n")
    assert cgroup_quota(tmp_path, tmp_path / "absent") == 3.0


def test_a_part_of_a_cpu_counts_as_one(cgroup, monkeypatch):
    root, membership = cgroup(b="20000 100000\n")
    monkeypatch.setattr(threads, "_CGROUP_ROOT", root)
    monkeypatch.setattr(threads, "_CGROUP_OF_PROCESS", membership)
    assert allowed_cpus() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_is_respected():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert allowed_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert 1 <= allowed_cpus() <= len(before)
