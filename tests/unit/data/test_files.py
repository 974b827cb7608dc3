"""Reading files: names of every kind, and special files that are never opened."""

from __future__ import annotations

import errno
import json
import os
import socket
import unicodedata
from pathlib import Path

import pytest

from corpus.craft import HEIGHT, WIDTH, picture, saved
from sortal.core.errors import ImageError, MachineError
from sortal.data.decode import decode
from sortal.data.files import read_file, shown

PHOTO = saved(picture(), "PNG")
NAMES = [
    b"line\nbreak.png",
    b"tab\there.png",
    unicodedata.normalize("NFC", "é.png").encode(),
    unicodedata.normalize("NFD", "é.png").encode(),
    "\u202egnp.exe".encode(),
    "\U0001f469\u200d\U0001f52c.png".encode(),
    b"x" * 251 + b".png",
    b"-rf.png",
    b" leading space.png",
    b".hidden.png",
    b"$(touch x).png",
    b"\xff\xfe\x80.png",
    b"Cat.JPG",
    b"cat.jpg",
    b"quote\"'.png",
    b"\x1b[31m.png",
]


def code_of(path: Path, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        read_file(path, **options)
    return caught.value.code


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_read_and_shown_on_one_line(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(PHOTO)
    assert decode(read_file(path), where=shown(path)).shape == (HEIGHT, WIDTH, 3)
    text = shown(path)
    assert text.isprintable()
    assert json.loads(json.dumps({"path": text}).encode("utf-8"))["path"] == text
    path.write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        read_file(path)
    assert caught.value.where == text


def test_names_that_look_alike_stay_apart(tmp_path: Path) -> None:
    shown_names = {shown(os.fsdecode(name)) for name in NAMES}
    assert len(shown_names) == len(NAMES)


def test_fifos_sockets_devices_and_folders_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise AssertionError("opened")

    fifo, link = tmp_path / "fifo.jpg", tmp_path / "link.jpg"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    monkeypatch.chdir(tmp_path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket.jpg")
    monkeypatch.setattr(os, "open", refuse)
    try:
        for path in (fifo, link, tmp_path / "socket.jpg", tmp_path, Path("/dev/null"), Path("/dev/zero")):
            assert code_of(path) == "not_a_file"
    finally:
        listener.close()


def test_a_file_that_becomes_a_fifo_after_the_check_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fifo = tmp_path / "a.jpg", tmp_path / "fifo"
    path.write_bytes(PHOTO)
    os.mkfifo(fifo)
    real = os.open
    monkeypatch.setattr(os, "open", lambda _, flags: real(fifo, flags))
    assert code_of(path) == "not_a_file"


def test_links_that_lead_somewhere_are_read_and_others_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PHOTO)
    (tmp_path / "soft.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "hard.png").hardlink_to(tmp_path / "a.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone")
    assert read_file(tmp_path / "soft.png") == read_file(tmp_path / "hard.png") == PHOTO
    assert code_of(tmp_path / "loop.png") == "not_a_file"
    assert code_of(tmp_path / "dangling.png") == "missing"


def test_missing_empty_and_large_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PHOTO)
    (tmp_path / "empty.png").write_bytes(b"")
    with (tmp_path / "sparse.png").open("wb") as stream:
        stream.truncate(2**40)
    assert code_of(tmp_path / "gone.png") == "missing"
    assert code_of(tmp_path / "a.png" / "below") == "missing"
    assert code_of(tmp_path / ("y" * 300)) == "missing"
    assert code_of(tmp_path / "nul\0byte") == "missing"
    assert code_of(tmp_path / "empty.png") == "empty"
    assert code_of(tmp_path / "sparse.png") == "too_large"
    assert code_of(tmp_path / "a.png", max_bytes=len(PHOTO) - 1) == "too_large"
    assert read_file(tmp_path / "a.png", max_bytes=len(PHOTO)) == PHOTO


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no user ids here")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    """As another user where the tests run as root, who may read everything."""
    locked, folder = tmp_path / "locked.png", tmp_path / "folder"
    locked.write_bytes(PHOTO)
    folder.mkdir()
    (folder / "inside.png").write_bytes(PHOTO)
    locked.chmod(0)
    folder.chmod(0)
    parents = [
        path for path in (tmp_path, *tmp_path.parents) if path.stat().st_uid == os.geteuid() and path != Path("/")
    ]
    modes = {path: path.stat().st_mode for path in parents}
    root = os.geteuid() == 0
    try:
        if root:
            assert read_file(locked) == PHOTO
            for path in parents:
                path.chmod(modes[path] | 0o005)
            os.seteuid(65534)
        assert code_of(locked) == "permission"
        assert code_of(folder / "inside.png") == "permission"
    finally:
        if root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)
        folder.chmod(0o700)


def test_running_out_of_handles_is_not_the_files_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(PHOTO)

    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(MachineError, match="Too many open files"):
        read_file(tmp_path / "a.png")
