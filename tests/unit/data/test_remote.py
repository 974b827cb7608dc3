"""Remote folders: listed, read on demand, tried again after failures that pass; from memory and from a local server."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import annotated
from sortal.core.errors import DataError, ImageError, MachineError
from sortal.data import remote
from sortal.data.convert import convert
from sortal.data.open import images
from sortal.data.remote import is_remote, read_remote
from sortal.data.scan import scan

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(["cat/1.png", "猫 猫/a b.png", "cat/2.png"]):
        annotated.picture(tmp_path / "photos" / name, number)
    (tmp_path / "photos" / ".hidden").write_text("x")
    return tmp_path / "photos"


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    for path in list(system.store):
        system.store.pop(path, None)


def _upload(system: Any, folder: Path, to: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            system.pipe_file(f"{to}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_what_is_a_url() -> None:
    assert all(map(is_remote, ["s3://b/x", "memory://x", "zip::s3://b/a.zip", "file:///x", "https://h/x"]))
    assert not any(map(is_remote, ["photos", "C:\\photos", "c:/photos", "/x://y", "a::b/c", Path("s3://b")]))


def test_class_folders_in_memory_are_the_same_data_set(photos: Path, memory: Any) -> None:
    _upload(memory, photos, "/bucket/photos")
    table = scan(images("memory://bucket/photos"))
    here = scan(images(photos))
    assert table.content_digest == here.content_digest
    assert sorted(table.names()) == sorted(here.names())
    assert table.listing_digest == here.listing_digest
    assert table.root is None
    with pytest.raises(DataError, match="no file of this machine"):
        table.path(0)


@pytest.mark.parametrize("kind", ["voc", "coco", "cvat", "yolo", "imagefolder"])
def test_annotations_are_read_remotely(kind: str, tmp_path: Path, memory: Any) -> None:
    getattr(annotated, kind)(tmp_path)
    _upload(memory, tmp_path, f"/bucket/{kind}")
    table = scan(images(f"memory://bucket/{kind}"))
    assert table.content_digest == scan(images(tmp_path)).content_digest
    report = convert(table, "csv", tmp_path / "out" / "t.csv")
    assert report.metrics["rows written"].value == len(table)
    assert scan(images(tmp_path / "out" / "t.csv")).content_digest == table.content_digest


def test_a_remote_archive_is_a_chain(photos: Path, memory: Any, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "a"), "zip", photos)
    memory.pipe_file("/bucket/a.zip", Path(packed).read_bytes())
    table = scan(images("zip::memory://bucket/a.zip"))
    assert table.content_digest == scan(images(photos)).content_digest


def test_a_file_url_is_a_path(photos: Path) -> None:
    assert images(photos.as_uri()).root == photos


def test_what_is_gone_is_named(photos: Path, memory: Any) -> None:
    _upload(memory, photos, "/bucket/photos")
    table = images("memory://bucket/photos")
    memory.rm_file("/bucket/photos/cat/1.png")
    memory.pipe_file("/bucket/photos/cat/2.png", b"")
    scanned = scan(table)
    assert sorted(scanned.rejected["code"]) == ["empty", "missing"]
    assert len(scanned) == 1
    with pytest.raises(DataError, match="empty"):
        images("memory://bucket/nothing")
    with pytest.raises(DataError):
        images("nosuchscheme://bucket")


def test_failures_that_pass_are_tried_again(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.0)
    memory.pipe_file("/bucket/a", b"bytes")
    real, failures = memory.__class__.cat_file, [ConnectionError("reset"), TimeoutError("slow")]

    def flaky(self: Any, path: str, **asked: Any) -> bytes:
        if failures:
            raise failures.pop()
        data: bytes = real(self, path, **asked)
        return data

    monkeypatch.setattr(memory.__class__, "cat_file", flaky)
    assert read_remote("memory://bucket", "a") == b"bytes"
    failures[:] = [ConnectionError("reset")] * remote.ATTEMPTS
    with pytest.raises(MachineError, match="does not answer"):
        read_remote("memory://bucket", "a")
    failures[:] = [PermissionError("no")]
    with pytest.raises(ImageError) as told:
        read_remote("memory://bucket", "a")
    assert told.value.code == "permission"
    with pytest.raises(ImageError, match="more than"):
        read_remote("memory://bucket", "a", size=1 << 40)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(photos: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(photos.parent)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_folder_on_a_web_server(photos: Path, served: str) -> None:
    pytest.importorskip("aiohttp")
    table = scan(images(f"{served}/photos/"))
    assert table.content_digest == scan(images(photos)).content_digest
    assert "猫 猫/a b.png" in table.names()
    with pytest.raises(ImageError) as told:
        read_remote(f"{served}/photos", "cat/nothing.png")
    assert told.value.code == "missing"
