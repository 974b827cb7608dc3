"""Conversion in a process of its own: errors come back as they were, crashes and hangs as clear ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from sortal.core.errors import BundleError, InputError
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
