"""What is around a stream: a log that nobody reads, terminals that close, options that cannot be, videos cut off."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cameras import RED, camera, wait_for_the_other_side
from streaming import Start, read_terminal

from sortal.stream.sources import Asked, CaptureError, Shot
from sortal.stream.sources.motion_jpeg import HTTP
from sortal.stream.sources.opencv import VIDEO
from worlds import refused, sortal

cv2 = pytest.importorskip("cv2", reason="needs the extra stream")

CAMERA = ("--source", "simulated:size=64x64,fps=25,parts=1")
SOON = (*CAMERA, "--frames", "20", "max_age_ms=60000", "buffer=64", "frame_mb=1")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a source tells OpenCV, as it does in a process of its own, is not told to the tests after this one."""
    for name in ("OPENCV_FFMPEG_CAPTURE_OPTIONS", "OPENCV_LOG_LEVEL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def video(path: Path, frames: int = 60, *, code: str = "MJPG") -> Path:
    """Red frames, 25 a second."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), 25, (64, 48))
    for _ in range(frames):
        writer.write(np.full((48, 64, 3), (10, 10, 240), np.uint8))
    writer.release()
    return path


def answered(lines: str) -> int:
    return sum(json.loads(line)["kind"] == "frame" for line in lines.splitlines())


def test_a_log_that_cannot_be_written_costs_no_result(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sortal", "stream", str(bundle), *SOON]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, cwd=tmp_path, text=True)
    assert (done.returncode, answered(done.stdout)) == (0, 20)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writing, cwd=tmp_path, text=True)
    os.close(writing)
    assert (done.returncode, answered(done.stdout)) == (0, 20)


def test_a_log_that_nobody_reads_costs_no_result(bundle: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, b"x" * 4096):
            pass
    os.set_blocking(writing, True)  # whoever writes here now waits for ever
    command = [sys.executable, "-m", "sortal", "stream", str(bundle), *SOON]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writing, cwd=tmp_path, text=True, timeout=90)
    os.close(writing)
    os.close(reading)
    assert (done.returncode, answered(done.stdout)) == (0, 20)


def test_streams_that_were_closed_before_it_began(bundle: Path, tmp_path: Path) -> None:
    def run(closed: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "sortal", "stream", str(bundle)]
        return subprocess.run([*command, *SOON, *arguments], capture_output=True, cwd=tmp_path, text=True)

    silent = run("2>&-")
    assert (silent.returncode, answered(silent.stdout), silent.stderr) == (0, 20, "")
    nowhere = run(">&-")
    assert nowhere.returncode == 3
    assert "standard output is closed" in nowhere.stderr
    assert run(">&-", "--out", "results.jsonl").returncode == 0
    assert answered((tmp_path / "results.jsonl").read_text()) == 20


def test_the_log_says_names_as_they_are_written(stream: Start) -> None:
    run = stream(*SOON, "--camera", "产线四号")
    assert run.process.wait(90) == 0
    assert '"camera": "产线四号"' in run.err.read_text(encoding="utf-8")


def test_a_terminal_sees_sentences_and_each_result_in_a_line_of_its_own(bundle: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sortal", "stream", str(bundle), *SOON, "pause_s=0.1"]
    command[command.index(CAMERA[1])] += ",end@10"
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=tmp_path):
        os.close(theirs)
        said = read_terminal(ours)
    shown = [line.rpartition("\r\x1b[K")[2] for line in said.decode().replace("\r\n", "\n").split("\n")]
    records = [json.loads(line) for line in shown if line.startswith("{")]
    assert {"began", "ended", "camera"} == {record["kind"] for record in records}  # changes, and no event of the log
    text = "\n".join(shown)
    assert "ready: 1 worker, onnxruntime, images of 16x16" in text
    assert "sends frames of 64x64" in text
    assert "is lost: the camera ended the stream; tried again in" in text
    assert "ended (frames): 2" in text
    assert "careful: losses of the camera: 1" in text


def test_a_terminal_that_is_closed_ends_it_in_order(stream: Start, tmp_path: Path) -> None:
    line = tmp_path / "line"
    run = stream(*CAMERA, *(word for name in ("red", "green", "blue", "abstained", "rejected")
                            for word in ("--on-label", f"{name}=SET simulated:{line}")))  # fmt: skip
    run.wait_until(lambda: line.exists() and line.read_text().endswith("1\n"))
    assert run.end(signal.SIGHUP)["why"] == "interrupted"
    assert line.read_text().split()[-1] == "0"


def test_a_job_of_a_script_ends_by_ctrl_c_and_nohup_keeps_it_from_the_end_of_a_terminal(
    bundle: Path, tmp_path: Path
) -> None:
    """A shell that is no terminal's has SIGINT ignored in what it starts beside itself."""
    command = ["sh", "-c", 'trap "" HUP INT; exec "$@"', "sh", sys.executable, "-m", "sortal", "stream", str(bundle)]
    with subprocess.Popen([*command, *CAMERA], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        for _ in range(30):
            process.stdout.readline()  # more comes than was on its way
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(log.splitlines()[-1])["why"] == "interrupted"


def test_a_signal_to_the_whole_group_is_no_loss_of_the_camera(stream: Start) -> None:
    run = stream(*CAMERA)
    run.wait_until(lambda: len(run.results("frame")) > 3)
    (capture,) = run.children("sortal.stream.capture")
    os.kill(capture, signal.SIGTERM)
    os.kill(capture, signal.SIGHUP)
    count = len(run.results("frame"))
    run.wait_until(lambda: len(run.results("frame")) > count + 10)
    assert run.end()["camera_starts"] == 1
    assert run.events("camera lost") == []


def test_options_that_cannot_be(bundle: Path, tmp_path: Path) -> None:
    def typed(*arguments: object) -> Any:
        return sortal(tmp_path, "stream", bundle, *arguments)

    refused(typed(*CAMERA, "--source", "simulated:"), "a stream has one source", "start one for each camera")
    for fps in ("0", "-1", "nan", "inf", "1e-300"):
        refused(typed(*CAMERA, "--fps", fps), "fps")
    for setting in ("drain_s=.inf", "max_age_ms=.inf", "stall_s=1e300", "delay_ms=.nan", "hang_ms=0"):
        refused(typed(*CAMERA, setting), setting.partition("=")[0])
    for megabytes in ("nan", "-1"):
        assert typed(*CAMERA, "--record", "kept", "--record-mb", megabytes).code == 2
    assert not (tmp_path / "kept").exists()


def test_memory_that_there_is_not_is_said_in_words(bundle: Path, tmp_path: Path) -> None:
    command = ["sh", "-c", 'ulimit -f 20; exec "$@"', "sh", sys.executable, "-m", "sortal", "stream", str(bundle)]
    done = subprocess.run([*command, *CAMERA, "--frames", "1"], capture_output=True, cwd=tmp_path, text=True)
    assert done.returncode == 3
    assert "no memory for 7 frames of 32 MB" in done.stderr


@pytest.mark.parametrize("code", ["MJPG", "mp4v"])
@pytest.mark.parametrize("live", [False, True])
def test_a_video_that_is_cut_off_is_told(stream: Start, tmp_path: Path, code: str, *, live: bool) -> None:
    whole = video(tmp_path / ("whole.avi" if code == "MJPG" else "whole.mkv"), code=code)
    cut = whole.with_stem("cut")
    cut.write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])
    for path, reason in ((whole, None), (cut, "short")):
        run = stream("--source", path, *(["--live"] if live else []))
        assert run.process.wait(90) == 0
        assert run.results("camera")[-1].get("reason") == reason
        told = run.events("ended early")
        assert len(told) == (reason is not None)
        assert all("and says 60" in event["message"] for event in told)
        assert (run.events("ended")[0]["received"] + run.events("ended")[0]["missed"] == 60) == (reason is None)


def test_a_video_that_cannot_be_opened_or_holds_nothing(stream: Start, tmp_path: Path) -> None:
    for name in ("empty.avi", "zero.avi"):
        video(tmp_path / name, 0)
    (tmp_path / "empty.avi").write_bytes(b"")
    for name, said in (("empty.avi", "cut off, damaged, or of a kind"), ("zero.avi", "holds no frame that decodes")):
        run = stream("--source", tmp_path / name)
        assert run.process.wait(90) == 3
        assert said in run.err.read_text()


def test_a_frame_of_a_video_that_does_not_decode_is_rejected_and_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)

    class Capture:
        """As OpenCV's, of three frames."""

        def __init__(self) -> None:
            self.left = [pixels, None, pixels]

        def open(self, *_: object) -> bool:
            return True

        def isOpened(self) -> bool:
            return True

        def get(self, _: int) -> float:
            return 3.0

        def grab(self) -> bool:
            return bool(self.left)

        def retrieve(self) -> tuple[bool, Any]:
            found = self.left.pop(0)
            return found is not None, found

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    for live in (False, True):
        shots = [shot for shot in VIDEO.shots("x.avi", Asked(live=live)) if shot is not None]
        assert [shot.reason for shot in shots] == ["", "corrupt", ""]
        assert [shot.shape for shot in shots] == [(6, 4), None, (6, 4)]


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "image/jpeg"])
def test_an_address_that_shows_no_video_is_told_as_that(kind: str) -> None:
    def serve(peer: socket.socket, number: int) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(RED)}\r\n\r\n"
        peer.sendall(head.encode() + RED)

    with (
        camera(serve) as fake,
        pytest.raises(CaptureError, match=r"answers with (text/html|image/jpeg), which") as lost,
    ):
        list(HTTP.shots(fake.url(), Asked()))
    assert lost.value.reason == "garbage"


def test_other_video_without_opencv_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(peer: socket.socket, number: int) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nContent-Length: 0\r\n\r\n")

    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with camera(serve) as fake, pytest.raises(CaptureError, match=r'pip install "sortal\[stream\]"') as lost:
        list(HTTP.shots(fake.url(), Asked()))
    assert lost.value.reason == "extra"


def test_a_camera_that_has_one_connection_for_all_shows_its_other_video(tmp_path: Path) -> None:
    path = video(tmp_path / "a.ts", code="mp2v")
    ended: list[int] = []

    def serve(peer: socket.socket, number: int) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        if number == 0:
            wait_for_the_other_side(peer)
        elif ended:
            peer.sendall(path.read_bytes())
        ended.append(number)

    shots: list[Shot | None] = []
    with camera(serve) as fake, suppress(CaptureError):  # it ends by one, too
        shots.extend(HTTP.shots(fake.url(), Asked(open_s=5.0)))
    assert len(shots) > 50


def test_a_video_of_two_sizes_is_answered_to_its_end(stream: Start, tmp_path: Path) -> None:
    video(tmp_path / "a.ts", code="mp2v")
    writer = cv2.VideoWriter(str(tmp_path / "b.ts"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp2v"), 25, (128, 96))
    for _ in range(60):
        writer.write(np.full((96, 128, 3), (240, 10, 10), np.uint8))
    writer.release()
    with (tmp_path / "two.ts").open("wb") as file:
        for name in ("a.ts", "b.ts"):
            with (tmp_path / name).open("rb") as part:
                shutil.copyfileobj(part, file)
    run = stream("--source", tmp_path / "two.ts")
    assert run.process.wait(90) == 0
    assert [one["name"] for one in run.results("began")] == ["red", "blue"]
    assert run.events("ended early") == []
