"""Cameras that FFmpeg captures: RTSP, and video over HTTP that is no motion JPEG."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cameras import camera
from rtspcamera import rtsp
from streaming import Start, command_line

cv2 = pytest.importorskip("cv2", reason="needs the extra stream")

COLORS = [(240, 10, 10)] * 20 + [(10, 240, 10)] * 20 + [(10, 10, 240)] * 20


def test_an_rtsp_camera_is_answered_and_its_password_shown_to_nobody(stream: Start) -> None:
    with camera(rtsp(COLORS, user="YWRtaW46Z2VoZWlt"), reads_first=False) as fake:
        run = stream(
            "--source", f"rtsp://admin:geheim@127.0.0.1:{fake.port}/live?channel=verborgen", "--camera", "station 7",
            "pause_s=0.2", "stall_s=3", "open_s=6", "max_age_ms=5000",
        )  # fmt: skip
        run.wait_until(lambda: len(run.results("frame")) > 3)
        processes = [run.process.pid, *run.children()]
        seen = "".join(command_line(pid) for pid in processes)
        run.wait_for("camera live", 2)  # it ended, and was found again
        run.end()
    answers = [one["label"] for one in run.results("frame") if one["state"] == "answered"]
    assert set(answers) == {"red", "green", "blue"}
    assert run.events("camera live")[0]["size"] == [64, 48]
    for secret in ("geheim", "verborgen", "YWRtaW46Z2VoZWlt"):
        assert secret not in run.out.read_text() + run.err.read_text() + seen


def test_other_video_over_http_goes_through_ffmpeg_and_a_playlist_does_not(stream: Start, tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp2v"), 25, (64, 48))
    for color in COLORS:
        writer.write(np.full((48, 64, 3), color[::-1], np.uint8))
    writer.release()
    kind: dict[str, Any] = {"body": path.read_bytes(), "type": "video/mp2t"}

    def serve(peer: socket.socket, number: int) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n"
        peer.sendall(head.format(kind["type"], len(kind["body"])).encode() + bytes(kind["body"]))

    with camera(serve) as fake:
        run = stream("--source", f"http://127.0.0.1:{fake.port}/a", "pause_s=0.2", "max_age_ms=10000", "buffer=64")
        run.wait_for("camera lost")
        run.end()
        answers = {one["label"] for one in run.results("frame") if one["state"] == "answered"}
        assert answers == {"red", "green", "blue"}

        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\nfile://{path}\n#EXT-X-ENDLIST\n"
        kind["body"] = playlist.encode()
        kind["type"] = "application/vnd.apple.mpegurl"
        evil = stream("--source", f"http://127.0.0.1:{fake.port}/a.m3u8", "pause_s=0.2")
        assert evil.wait_for("camera lost")["reason"] == "connection"
        evil.end()
        assert evil.results("frame") == []
