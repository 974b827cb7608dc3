"""Conversion in a process of its own: errors come back as they were, crashes and hangs as clear ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sortal.core.errors import BundleError, InputError, MachineError
from sortal.export import conversion
from sortal.export.conversion import convert_apart


def interpreter(folder: Path, script: str) -> str:
    """Stands where Python does and behaves as a bad converter."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_artifact_is_in_the_folder(exported, tmp_path):
    convert_apart("onnx-uint8", exported, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_errors_come_back_with_their_kind_and_hint(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match="not an ONNX model"):
        convert_apart("onnx", tmp_path / "model.onnx", tmp_path)
    with pytest.raises(InputError, match="did you mean onnx-fp16") as refused:
        convert_apart("onnx-fp61", tmp_path / "model.onnx", tmp_path)
    assert type(refused.value) is InputError


def test_a_crash_is_told_with_its_signal(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion.sys, "executable", interpreter(tmp_path, "kill -SEGV $$"))
    with pytest.raises(BundleError, match="the converter crashed: signal 11; nothing was changed"):
        convert_apart("onnx", exported, tmp_path)


def test_a_crash_is_told_with_its_last_line(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion.sys, "executable", interpreter(tmp_path, "echo no space left >&2; exit 7"))
    with pytest.raises(BundleError, match="the converter crashed: no space left"):
        convert_apart("onnx", exported, tmp_path)


def test_a_hang_is_ended(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion.sys, "executable", interpreter(tmp_path, "exec sleep 60"))
    with pytest.raises(BundleError, match=r"did not end within 0.3 s") as refused:
        convert_apart("onnx", exported, tmp_path, time_limit_s=0.3)
    assert "--time-limit" in str(refused.value)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_that_is_none_is_refused(limit, exported, tmp_path):
    with pytest.raises(InputError, match="seconds above 0"):
        convert_apart("onnx", exported, tmp_path, time_limit_s=limit)


@pytest.mark.parametrize("name", ["onnx-uint8", "openvino", "torch"])
def test_a_full_disk_is_told_whatever_the_converter_says_of_it(name, exported, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(MachineError, match=r"no room to convert in|No space left|OpenVINO cannot write") as refused:
            convert_apart(name, exported, disk)
        assert refused.value.hint is not None
    finally:
        subprocess.run(["umount", disk], check=True)
