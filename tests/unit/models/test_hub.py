"""Downloads, from servers on the loopback interface that speak as the hub and as a plain mirror do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sortal.core.errors import MachineError, WeightsError
from sortal.models.hub import fetch
from sortal.models.resolve import resolve

HUB_ID = "timm/resnet18.a1_in1k"
CONTENT = b"\x02\x00\x00\x00\x00\x00\x00\x00{}"


@dataclass
class Server:
    """Serves `files` (path -> content), tagged with `tags` or their SHA-256, and writes down every request."""

    files: dict[str, bytes]
    tags: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    requests: list[str] = field(default_factory=list)
    address: str = ""


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, served: Server, *args: object):
        self.served = served
        super().__init__(*args)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        self.served.requests.append(f"{self.command} {self.path}")
        content = self.served.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{self.served.tags.get(self.path, hashlib.sha256(content).hexdigest())}"')
        self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
        self.end_headers()
        if body:
            self.wfile.write(content[:-1] if self.served.cut else content)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.delenv("SORTAL_OFFLINE")
    served = Server(files={})
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, served))
    served.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    close_session()
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    server.files[f"/{HUB_ID}/resolve/main/model.safetensors"] = CONTENT
    return server


@pytest.fixture
def mirror(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("SORTAL_MIRROR", server.address)
    server.files[f"/{HUB_ID}/model.safetensors"] = CONTENT
    return server


@pytest.mark.parametrize("kind", ["hub", "mirror"])
def test_size_and_licence_are_told_and_the_cache_is_used_offline(kind: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(kind)
    told: list[str] = []
    source = resolve("resnet18", say=told.append)
    assert source.weights_path is not None
    assert source.weights_path.read_bytes() == CONTENT
    assert source.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert source.licence == "apache-2.0"
    assert source.input is not None
    assert HUB_ID in source.source
    assert len(told) == 1
    assert "0.0 MB" in told[0]
    assert "licence apache-2.0" in told[0]
    before = len(server.requests)
    again = resolve("resnet18", offline=True, say=told.append)
    assert again.weights_path == source.weights_path
    assert (len(told), len(server.requests)) == (1, before)


@pytest.mark.parametrize("kind", ["hub", "mirror"])
def test_a_download_that_differs_from_its_digest_is_refused_and_not_kept(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(kind)
    server.tags = dict.fromkeys(server.files, "0" * 64)
    with pytest.raises(WeightsError, match="SHA-256 differs"):
        fetch(HUB_ID, licence="MIT", offline=False, say=lambda message: None)
    with pytest.raises(WeightsError, match="SORTAL_OFFLINE"):
        fetch(HUB_ID, licence="MIT", offline=True)


@pytest.mark.parametrize("kind", ["hub", "mirror"])
def test_what_is_not_there_is_said_with_the_ways_out(kind: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(kind)
    server.files.clear()
    with pytest.raises(WeightsError, match="404") as caught:
        fetch(HUB_ID, licence="MIT", offline=False, say=lambda message: None)
    assert "SORTAL_ZOO" in str(caught.value)


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "SORTAL_MIRROR"])
def test_a_server_that_does_not_answer_is_an_error_of_ours(
    name: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match="cannot download"):
        fetch(HUB_ID, licence="MIT", offline=False, say=lambda message: None)


def test_a_cut_download_leaves_nothing(mirror: Server, tmp_path: Path) -> None:
    mirror.cut = True
    with pytest.raises(WeightsError, match="cannot download"):
        fetch(HUB_ID, licence="MIT", offline=False, say=lambda message: None)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_cache_that_cannot_be_written_is_the_machines_fault(
    mirror: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "file"))
    with pytest.raises(MachineError, match="file"):
        fetch(HUB_ID, licence="MIT", offline=False, say=lambda message: None)


def test_a_mirror_is_a_web_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTAL_MIRROR", "file:///etc")
    with pytest.raises(WeightsError, match="http"):
        fetch(HUB_ID, licence="MIT", offline=False)
