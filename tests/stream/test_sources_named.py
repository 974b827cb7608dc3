"""What may be a source, and what of an address nobody may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from sortal.core.errors import InputError
from sortal.stream.sources import SOURCES
from sortal.stream.sources.address import masked, named, scrubbed, secrets_of
from sortal.stream.sources.pace import Pace
from sortal.stream.sources.simulated import script


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd", "FILE:///etc/passwd", "concat:a.mp4|b.mp4", "concatf:list", "subfile:,,start,0,,:a.mp4",
        "-i", "",
        "gopher://127.0.0.1/x", "data:image/png;base64,AAAA", "pipe:0", "tcp://127.0.0.1:1", "hls+http://h/x",
        "crypto:file",
        "rtsp:host", "rtsp:///x", "http://", "http://user:geheim@/x", "http://[::1/x", "http://h:99999/",
        "camera:", "camera:-1",
        "camera:/dev/video0", "nowhere.mp4", "nowhere/", "rtsp://host/\n-i", "simulated:stall", "simulated:fps=nan",
        "simulated:fps=0", "simulated:size=1x1",
    ],
)  # fmt: skip
def test_what_is_no_source_is_refused_without_its_secrets(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError) as refused:
        named(text)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("rtsp://10.0.0.1/a", "rtsp"), ("RTSPS://10.0.0.1:322/a", "rtsp"), ("http://h/x", "http"),
        ("https://h", "http"),
        ("camera:0", "camera"), ("simulated:", "simulated"), ("simulated:fps=5,stall@3,end@9", "simulated"),
    ],
)  # fmt: skip
def test_what_is_a_source(text: str, kind: str) -> None:
    assert named(text).kind == kind


def test_what_lies_on_the_disk_is_a_file_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "concat:a").write_bytes(b"x")
    (tmp_path / "-i").mkdir()
    assert named("concat:a").address == str(tmp_path / "concat:a")
    assert named("-i").kind == "folder"
    assert named("-i").address.startswith("/")


def test_an_address_can_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "camera").write_text("rtsp://admin:geheim@10.0.0.7/stream?token=abc\nanything\n")
    found = named(f"@{tmp_path / 'camera'}")
    assert found.address == "rtsp://admin:geheim@10.0.0.7/stream?token=abc"
    assert found.shown == "rtsp://***@10.0.0.7/stream?token=***"
    with pytest.raises(InputError, match="cannot be read"):
        named("@/nowhere/at/all")


def test_nothing_of_a_secret_is_shown() -> None:
    url = "http://ad%40min:ge%23heim@cam:8080/v?user=admin&pwd=ge%26heim#part"
    assert masked(url) == "http://***@cam:8080/v?user=***&pwd=***"
    told = scrubbed(f"cannot open {url}: ge#heim, ge%23heim, ge&heim, ad%40min", secrets_of(url))
    for secret in ("ge#heim", "ge%23heim", "ge&heim", "ge%26heim", "ad%40min:"):
        assert secret not in told
    assert masked("http://cam/?secrettoken") == "http://cam/?***"
    in_path = "rtsp://cam/user=admin_password=geheim&channel=1/live"
    assert "geheim" not in masked(in_path)
    assert "geheim" not in scrubbed(in_path, secrets_of(in_path))


def test_every_source_of_the_table_can_be_loaded_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SOURCES.table:
        member = SOURCES.get(name)
        assert isinstance(member.live, bool)
        assert callable(member.shots)


def test_the_pace_takes_as_many_frames_as_were_asked_for() -> None:
    pace = Pace(10)
    assert sum(pace.is_due(number / 30) for number in range(300)) == pytest.approx(100, abs=1)
    late = Pace(10)
    late.is_due(0.0)
    assert late.is_due(60.0)
    assert sum(late.is_due(60.0 + number / 1000) for number in range(1, 101)) == 1  # a pause is not made up for
    assert all(Pace(None).is_due(0.0) for _ in range(5))


def test_a_script_of_a_simulated_camera_is_read() -> None:
    told = script("size=320x240,fps=12.5,parts=3,half@7,end@9")
    assert (told.size, told.fps, told.parts, told.faults) == ((320, 240), 12.5, 3, {7: "half", 9: "end"})
