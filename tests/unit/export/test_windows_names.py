"""Artifacts are copied to Windows machines, where this suite was not run: no file of theirs may have a name that
Windows does not take, and manifests name files with forward slashes."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import pytest

from sortal.core.manifest import list_files
from sortal.export.artifacts import ARTIFACTS, FROM_WEIGHTS, member, tensorrt, triton

FORBIDDEN = set('<>:"|?*\\')
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


def fits(name: str) -> bool:
    """Whether every part of a relative path is a name that Windows takes."""
    path = PureWindowsPath(name)
    parts = [part.lower() for part in path.parts]
    good = all(part.partition(".")[0] not in DEVICES and part == part.rstrip(". ") for part in parts)
    return good and not path.is_absolute() and not FORBIDDEN & set(name) and len(name) < 200


@pytest.mark.parametrize("name", [*ARTIFACTS.table, *FROM_WEIGHTS.table])
def test_artifacts_and_their_model_files_have_names_that_windows_takes(name):
    assert fits(name)
    assert fits(member(name).DETAILS["model"])


@pytest.mark.parametrize("artifact", [tensorrt, triton])
def test_every_file_of_nested_artifacts_does(artifact, exported: Path, tmp_path: Path):
    artifact.convert(exported, tmp_path)
    names = list_files(tmp_path)
    assert len({name.lower() for name in names}) == len(names)
    assert all(fits(name) for name in names)
    assert artifact.DETAILS["model"] in names


@pytest.mark.parametrize("name", ["aux/model.onnx", "a:b", "a\\b", "nul.txt", "trailing.", "C:/model.onnx"])
def test_what_windows_does_not_take_is_known(name):
    assert not fits(name)
