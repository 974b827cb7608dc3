"""Publishing as a whole: what a caller sees when all goes well, and when it does not."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from sortal.core import publish
from sortal.core.errors import InputError, MachineError
from sortal.core.publish import machine_error, publish_file, publish_folder


def put(text: str, name: str = "a.txt"):
    def write(folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / name).write_text(text)

    return write


def read(folder: Path) -> str:
    return (folder / "sub" / "a.txt").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_as_a_whole_with_its_parents(tmp_path: Path) -> None:
    target = publish_folder(tmp_path / "deep" / "er" / "thing", put("1"))
    assert read(target) == "1"
    assert names(target.parent) == ["thing"]


def test_an_existing_folder_is_refused_and_kept(tmp_path: Path) -> None:
    target = publish_folder(tmp_path / "thing", put("1"))
    with pytest.raises(InputError, match="already exists"):
        publish_folder(target, put("2"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("empty", "dangling"):
        with pytest.raises(InputError, match="already exists"):
            publish_folder(tmp_path / name, put("2"))
    assert read(target) == "1"


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(publish, "_renameat2", lambda: None)
    target = publish_folder(tmp_path / "thing", put("1"))
    publish_folder(target, put("2"), replace=True)
    assert read(target) == "2"
    assert names(tmp_path) == ["thing"]


@pytest.mark.skipif(publish._renameat2() is None, reason="this system cannot exchange two names")
def test_a_reader_never_misses_a_folder_that_is_being_replaced(tmp_path: Path) -> None:
    target = publish_folder(tmp_path / "thing", put("0"))
    stop = threading.Event()
    missed = 0

    def look() -> None:
        nonlocal missed
        while not stop.is_set():
            missed += not target.is_dir()

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(30):
        publish_folder(target, put(str(number)), replace=True)
    stop.set()
    reader.join()
    assert missed == 0
    assert read(target) == "29"


def test_a_writer_that_fails_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    target = publish_folder(tmp_path / "thing", put("1"))

    def broken(folder: Path) -> None:
        put("half")(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_folder(target, broken, replace=True)
    assert read(target) == "1"
    assert names(tmp_path) == ["thing"]


def test_a_full_disk_becomes_an_error_that_names_the_target_and_not_a_hidden_name(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "weights"))

    with pytest.raises(MachineError, match="No space left on device") as caught:
        publish_folder(tmp_path / "thing", full)
    assert caught.value.where == str(tmp_path / "thing")
    assert caught.value.hint is not None
    assert names(tmp_path) == []


def test_an_error_about_another_file_names_that_one(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="No such file") as caught:
        publish_folder(tmp_path / "thing", lambda folder: (tmp_path / "absent").read_bytes() and None)
    assert caught.value.where == str(tmp_path / "absent")


def test_an_error_without_a_number_keeps_its_words(tmp_path: Path) -> None:
    assert "3 requested and 0 written" in str(machine_error(OSError("3 requested and 0 written"), tmp_path))


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "状态.json"
    publish_file(path, b"one")
    publish_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["状态.json"]


def test_a_link_is_replaced_and_never_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"keep")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    publish_file(tmp_path / "link", b"new")
    assert (tmp_path / "precious").read_bytes() == b"keep"
    assert not (tmp_path / "link").is_symlink()


def test_a_file_cannot_take_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "thing").mkdir()
    with pytest.raises(MachineError):
        publish_file(tmp_path / "thing", b"x")
    assert names(tmp_path) == ["thing"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        target = publish_folder(tmp_path / "thing", put("1"))
        publish_file(tmp_path / "file", b"1")
    finally:
        os.umask(old)
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_names_of_any_length_and_letters(tmp_path: Path) -> None:
    for name in ("n" * 255, "牌" * 80, "a*[b]?", "line\nbreak", "-rf", " "):
        assert read(publish_folder(tmp_path / name, put(name))) == name
        publish_folder(tmp_path / name, put("again"), replace=True)
    publish_file(tmp_path / ("f" * 255), b"x")


def _remains(folder: Path, machine: str, pid: int) -> Path:
    path = folder / f".tmp-thing-{machine}-{pid}-0123abcd"
    path.mkdir()
    (path / "half").write_bytes(b"x")
    return path


@pytest.mark.skipif(os.name == "nt", reason="processes are not looked up there")
def test_remains_of_dead_processes_are_swept_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    dead = _remains(tmp_path, publish._machine(), 2**22 + 12345)
    living = _remains(tmp_path, publish._machine(), os.getppid())
    elsewhere = _remains(tmp_path, "ffffffff", 2**22 + 12345)
    long_ago = _remains(tmp_path, "eeeeeeee", 2**22 + 12345)
    os.utime(long_ago, (0, time.time() - 100_000))
    foreign = tmp_path / ".tmp-mine"
    foreign.mkdir()
    os.utime(foreign, (0, 0))
    publish_folder(tmp_path / "other", put("1"))
    assert not dead.exists()
    assert not long_ago.exists()
    assert living.exists()
    assert elsewhere.exists()
    assert foreign.exists()


def test_a_replacement_broken_off_between_its_renames_is_mended_even_if_the_next_one_fails(tmp_path: Path) -> None:
    target = publish_folder(tmp_path / "thing", put("1"))
    target.rename(tmp_path / ".old-thing")
    with pytest.raises(InputError, match="already exists"):
        publish_folder(target, put("2"))
    assert read(target) == "1"


def test_two_publishers_of_one_name_do_not_mix(tmp_path: Path) -> None:
    done: list[str] = []

    def run(text: str) -> None:
        try:
            publish_folder(tmp_path / "thing", put(text))
            done.append(text)
        except (InputError, MachineError):
            pass

    threads = [threading.Thread(target=run, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    assert read(tmp_path / "thing") == done[0]
    assert names(tmp_path) == ["thing"]
