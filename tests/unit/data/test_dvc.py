"""DVC's own files read for the version of images, and its program called: with a stand-in for errors, and for real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sortal.core.errors import InputError, MachineError
from sortal.data import dvc
from sortal.data.open import images
from trees import make

PROGRAMS = f"{Path(sys.prefix) / 'programs' / 'dvc' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
"""Where dvc is looked for: in an environment of its own (tools/setup.sh), else anywhere."""
MD5 = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A repository as DVC and Git would leave it."""
    root = tmp_path / "project"
    make(root / "data" / "photos", {"cat": 1, "dog": 1})
    (root / ".dvc").mkdir()
    git = root / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
    (root / "data" / "photos.dvc").write_text(
        f"outs:\n- md5: {MD5}.dir\n  size: 9\n  nfiles: 2\n  hash: md5\n  path: photos\n"
    )
    return root


def _stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    program = folder / "dvc"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_version_of_a_folder_that_was_added(home: Path) -> None:
    expected = {
        "tool": "dvc",
        "outs": [{"path": "data/photos", "file": "data/photos.dvc", "md5": f"{MD5}.dir"}],
        "git_commit": "a" * 40,
    }
    assert dvc.version_of(home / "data" / "photos") == expected
    assert dvc.version_of(home / "data" / "photos" / "cat") == expected
    assert dvc.version_of(home / "data") == expected


def test_the_version_of_a_table_is_that_of_its_images_too(home: Path) -> None:
    make(home / "data" / "others", {"cat": 1})
    (home / "data" / "others.dvc").write_text("outs:\n- md5: 77.dir\n  path: others\n")
    path = home / "data" / "labels.csv"
    path.write_text("path,label\nphotos/cat/0.png,cat\n")
    found = dvc.version_of_table(images(path))
    assert found is not None
    assert [out["path"] for out in found["outs"]] == ["data/photos"]
    (home / "data" / "labels.csv.dvc").write_text("outs:\n- md5: 88\n  path: labels.csv\n")
    found = dvc.version_of_table(images(path))
    assert found is not None
    assert [(out["path"], out["md5"]) for out in found["outs"]] == [
        ("data/labels.csv", "88"),
        ("data/photos", f"{MD5}.dir"),
    ]
    assert dvc.version_of_table(images([path.parent / "photos/cat/0.png"])) is None


def test_what_dvc_does_not_track_has_no_version(home: Path, tmp_path: Path) -> None:
    make(home / "data" / "others", {"cat": 1})
    assert dvc.version_of(home / "data" / "others") is None
    assert dvc.version_of(make(tmp_path / "outside", {"cat": 1})) is None


def test_the_output_of_a_stage_is_in_the_lock_file(home: Path) -> None:
    lines = [
        "schema: '2.0'",
        "stages:",
        "  prepare:",
        "    cmd: x",
        "    outs:",
        "    - path: data/made",
        "      md5: 9f.dir",
    ]
    (home / "dvc.lock").write_text("\n".join(lines) + "\n")
    make(home / "data" / "made", {"cat": 1})
    found = dvc.version_of(home / "data" / "made")
    assert found is not None
    assert found["outs"] == [{"path": "data/made", "file": "dvc.lock", "md5": "9f.dir"}]


def test_a_file_of_dvc_that_is_damaged_says_nothing(home: Path) -> None:
    for text in ("outs: [", "- 1", "outs:\n- path: photos\n", "stages: 3"):
        (home / "data" / "photos.dvc").write_text(text)
        (home / "dvc.lock").write_text(text)
        assert dvc.version_of(home / "data" / "photos") is None


def test_commits_are_read_wherever_git_keeps_them(home: Path, tmp_path: Path) -> None:
    git = home / ".git"
    assert dvc.commit(home / "data") == "a" * 40
    (git / "refs" / "heads" / "main").unlink()
    assert dvc.commit(home) is None
    (git / "packed-refs").write_text(f"# pack-refs\n{'c' * 40} refs/heads/mainline\n{'b' * 40} refs/heads/main\n")
    assert dvc.commit(home) == "b" * 40
    (git / "HEAD").write_text("d" * 40 + "\n")
    assert dvc.commit(home) == "d" * 40
    linked = git / "worktrees" / "w"
    linked.mkdir(parents=True)
    (linked / "HEAD").write_text("ref: refs/heads/main\n")
    (linked / "commondir").write_text("../..\n")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / ".git").write_text(f"gitdir: {linked}\n")
    assert dvc.commit(tmp_path / "w") == "b" * 40
    assert dvc.commit(Path("/")) is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_the_one_that_git_names(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        names = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *names, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    git("init", "-q")
    assert dvc.commit(tmp_path) is None
    git("commit", "-q", "--allow-empty", "-m", "one")
    assert dvc.commit(tmp_path) == git("rev-parse", "HEAD").strip()
    git("pack-refs", "--all")
    assert dvc.commit(tmp_path) == git("rev-parse", "HEAD").strip()


def test_adding_outside_a_repository_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dvc init"):
        dvc.add(make(tmp_path / "photos", {"cat": 1}))


def test_without_the_program_the_error_says_how_to_install_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(MachineError, match="pipx install dvc"):
        dvc.add(home / "data" / "photos")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_what_the_program_says_is_told(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(tmp_path / "bin", 'echo "$PWD: $@"', monkeypatch)
    assert dvc.add(home / "data" / "photos") == f"{home / 'data'}: add photos"
    assert dvc.add(home / "data" / "photos").endswith("add photos")
    assert (home / ".dvcignore").read_text().splitlines() == [".sortal/"]
    assert dvc.status(home / "data" / "photos").endswith(f"status {home / 'data' / 'photos.dvc'}")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_a_failure_of_the_program_is_told(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(tmp_path / "bin", "echo 'ERROR: output is already tracked' >&2; exit 255", monkeypatch)
    with pytest.raises(MachineError, match="already tracked"):
        dvc.add(home / "data" / "photos")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dvc", path=PROGRAMS) is None, reason="the program dvc is not installed")
def test_the_real_program_and_our_reader_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", PROGRAMS)
    root = tmp_path / "project"
    photos = make(root / "photos", {"cat": 2, "dog": 1})
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    dvc.add(photos)
    first = dvc.version_of(photos)
    assert first is not None
    assert first["outs"][0]["file"] == "photos.dvc"
    assert first["outs"][0]["md5"].endswith(".dir")
    (photos / ".sortal").mkdir()
    (photos / ".sortal" / "note").write_text("not part of the data")
    dvc.add(photos)
    assert dvc.version_of(photos) == first
    (photos / "cat" / "0.png").unlink()
    assert "photos" in dvc.status(photos)
    dvc.add(photos)
    assert dvc.version_of(photos) != first
