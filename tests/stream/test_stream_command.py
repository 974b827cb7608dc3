"""`sortal stream` as people and services run it: real processes, real sources, every way to end."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import typer
from cameras import BLUE, GREEN, RED, camera, frames
from streaming import PATIENCE_S, Start, Streaming, command_line, read_terminal

from colors import color_bundle
from sortal.cli.app import build
from sortal.core.bundle import open_bundle
from sortal.workspace.deployment import promote
from sortal.workspace.folder import create_workspace
from worlds import refused, sortal

cv2 = pytest.importorskip("cv2", reason="needs the extra stream")


def video(path: Path, colors: list[tuple[int, int, int]], *, each: int = 10, code: str = "MJPG") -> Path:
    """Frames of plain colors in RGB, 25 a second."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), 25, (64, 48))
    assert writer.isOpened()
    for color in colors:
        for _ in range(each):
            writer.write(np.full((48, 64, 3), color[::-1], np.uint8))
    writer.release()
    return path


def balanced(numbers: dict[str, Any]) -> None:
    """Every frame that was received has one outcome."""
    states = sum(numbers[state] for state in ("answered", "abstained", "unknown", "rejected"))
    assert numbers["received"] == states
    assert numbers["rejected"] == sum(numbers["reasons"].values())


def until_still(process: subprocess.Popen[bytes]) -> None:
    """Until its pipe of results is full and neither it nor its children work any more."""
    assert process.stdout is not None
    waiting = array("i", [0])
    end, spent = time.monotonic() + PATIENCE_S, -1.0
    while time.monotonic() < end:
        fcntl.ioctl(process.stdout, termios.FIONREAD, waiting)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        before, spent = spent, sum(sum(one.cpu_times()[:2]) for one in family)
        if waiting[0] > 60_000 and spent - before < 0.02:
            return
        time.sleep(0.5)
    raise AssertionError("it never rests")


def gone(pids: list[int]) -> None:
    """All of these processes end soon."""
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() and "sortal" in command_line(pid) for pid in pids):
        assert time.monotonic() < end, [command_line(pid) for pid in pids]
        time.sleep(0.02)


def test_every_frame_of_a_video_is_answered_with_its_colors_right(stream: Start, tmp_path: Path) -> None:
    path = video(tmp_path / "parts.avi", [(240, 10, 10), (10, 240, 10), (10, 10, 240)])
    run = stream("--source", path, "--record", "kept", "--record-what", "changed")
    assert run.process.wait(90) == 0
    shown = run.results("frame")
    assert [one["label"] for one in shown] == ["red"] * 10 + ["green"] * 10 + ["blue"] * 10
    assert all(one["age_ms"] >= 0 and one["bundle_id"] for one in shown)
    assert [one["name"] for one in run.results("began")] == ["red", "green", "blue"]
    numbers = run.events("ended")[0]
    balanced(numbers)
    assert (numbers["why"], numbers["answered"]) == ("end of the source", 30)
    assert "Next:    sortal audit kept/frames.jsonl" in run.err.read_text()
    done = sortal(tmp_path, "audit", "kept/frames.jsonl", "--json")
    assert done.report["metrics"]["images"]["value"] == 3


def test_a_reader_that_is_slow_gets_every_line_of_a_video(bundle: Path, tmp_path: Path) -> None:
    path = video(tmp_path / "long.avi", [(240, 10, 10)], each=1500)
    command = [sys.executable, "-m", "sortal", "stream", str(bundle), "--source", str(path), "batch=16", "drain_s=0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        until_still(process)  # a pipe holds 64 KiB, the outlet a thousand lines: the line waits
        lines = [json.loads(line) for line in process.stdout]
    numbers = [line["frame"] for line in lines if line["kind"] == "frame"]
    assert numbers == list(range(1500))


def test_a_reader_that_is_slow_gets_every_line_of_files_that_cannot_be_read(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3000):
        (tmp_path / "in" / f"{number:04d}.jpg").write_bytes(b"")
    command = [sys.executable, "-m", "sortal", "stream", str(bundle), "--source", "in", "--once", "drain_s=0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        until_still(process)
        lines = [json.loads(line) for line in process.stdout]
        assert process.wait(60) == 0
    assert [line["frame"] for line in lines if line["kind"] == "frame"] == list(range(3000))


def test_a_workspace_answers_with_what_was_live_at_the_start(stream: Start, bundle: Path, tmp_path: Path) -> None:
    with create_workspace(tmp_path / "line4") as workspace:
        promote(workspace, open_bundle(bundle))
        run = stream("--source", "simulated:size=64x64,fps=25,parts=1", model=workspace.path)
        run.wait_until(lambda: len(run.results("frame")) > 3)
        promote(workspace, open_bundle(color_bundle(tmp_path / "next", factor=8.0)))
    (worker,) = run.children("sortal.serve.worker")
    os.kill(worker, signal.SIGKILL)
    run.wait_for("worker died")
    run.wait_for_answers(3)
    balanced(run.end())
    assert run.events("worker trouble") == []
    assert {one["bundle_id"] for one in run.results("frame")} == {open_bundle(bundle).manifest.id}


def test_a_folder_is_answered_file_by_file_and_a_damaged_one_is_told(stream: Start, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    files = {"a.jpg": RED, "b.jpg": b"no image", "c.png": b"", "d.jpg": GREEN[: len(GREEN) // 2], "e.jpg": BLUE}
    for number, (name, data) in enumerate(files.items()):
        (folder / name).write_bytes(data)
        os.utime(folder / name, (1000 + number, 1000 + number))
    os.mkfifo(folder / "f.jpg")
    os.utime(folder / "f.jpg", (2000, 2000))
    (folder / "g.ppm").write_bytes(b"P6\n600 600\n255\n" + bytes(3 * 600 * 600))
    run = stream("--source", folder, "--once", "--out", "results.jsonl", "frame_mb=1")
    assert run.process.wait(90) == 0
    assert run.out.read_text() == ""
    found = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    told = [(one["file"], one.get("label") or one["reason"]) for one in found if one["kind"] == "frame"]
    assert told == [
        ("a.jpg", "red"), ("b.jpg", "not_an_image"), ("c.png", "empty"), ("d.jpg", "truncated"), ("e.jpg", "blue"),
        ("f.jpg", "not_a_file"), ("g.ppm", "too_large"),
    ]  # fmt: skip
    assert found[-1]["kind"] == "ended"


def test_a_camera_that_comes_and_goes(stream: Start, tmp_path: Path) -> None:
    line = tmp_path / "line"
    with camera(frames([RED] * 10 + [GREEN] * 10)) as fake:
        run = stream(
            "--source", fake.url("admin:geheim@", "?token=verborgen"), "--only", "changes", "--camera", "station 2",
            "--on-label", f"green=SET simulated:{line}", "--on-label", "lost=POST http://me:zweites@127.0.0.1:9/",
            "pause_s=0.2",
        )  # fmt: skip
        run.wait_for("camera lost", 2)
        processes = [run.process.pid, *run.children()]
        assert len(processes) >= 2
        seen = "".join(command_line(pid) for pid in processes)
        numbers = run.end()
    balanced(numbers)
    gone(processes)
    began = [one["name"] for one in run.results("began")]
    assert began[:6] == ["red", "green", "lost", "red", "green", "lost"]
    assert [one["state"] for one in run.results("camera")][:4] == ["live", "lost", "live", "lost"]
    assert run.results("frame") == []
    assert line.read_text().split()[:4] == ["1", "0", "1", "0"]
    assert line.read_text().split()[-1] == "0"
    said = run.out.read_text() + run.err.read_text() + seen
    for secret in ("geheim", "verborgen", "zweites", "YWRtaW46Z2VoZWlt"):
        assert secret not in said


def test_a_worker_that_hangs_and_a_capture_that_hangs_do_not_end_the_line(stream: Start) -> None:
    run = stream(
        "--source", "simulated:size=64x64,fps=25,parts=1", "max_age_ms=300", "hang_ms=1000", "stall_s=1", "pause_s=0.1",
    )  # fmt: skip
    run.wait_until(lambda: len(run.results("frame")) > 10)
    (worker,) = run.children("sortal.serve.worker")
    (capture,) = run.children("sortal.stream.capture")
    os.kill(worker, signal.SIGSTOP)
    run.wait_until(lambda: "late" in {one.get("reason") for one in run.results("frame")})
    run.wait_for_answers(10)
    os.kill(capture, signal.SIGSTOP)
    run.wait_for("camera live", 2)
    count = len(run.results("frame"))
    run.wait_until(lambda: len(run.results("frame")) > count + 10)
    numbers = run.end(signal.SIGINT)
    balanced(numbers)
    assert numbers["workers_died"] >= 1
    assert [event["reason"] for event in run.events("camera lost")] == ["stalled"]
    assert max(one["age_ms"] for one in run.answers()) <= 300
    gone([worker, capture])


def test_a_stream_that_is_killed_leaves_no_orphan(stream: Start) -> None:
    run = stream("--source", "simulated:size=64x64,fps=25,parts=1")
    run.wait_until(lambda: len(run.results("frame")) > 3)
    children = run.children()
    assert len(children) == 2
    (capture,) = run.children("sortal.stream.capture")
    os.kill(capture, signal.SIGSTOP)  # blocked: it cannot notice by itself
    run.process.kill()
    run.process.wait(30)
    gone(children)


def test_who_asks_twice_is_not_kept_waiting(stream: Start) -> None:
    run = stream(
        "--source", "simulated:size=64x64,fps=25,parts=1", "max_age_ms=60000", "drain_s=60", "hang_ms=60000",
    )  # fmt: skip
    run.wait_until(lambda: len(run.results("frame")) > 3)
    (worker,) = run.children("sortal.serve.worker")
    os.kill(worker, signal.SIGSTOP)  # what was taken will not be answered
    count = len(run.results("frame"))
    time.sleep(1)
    run.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert run.process.poll() is None  # it waits for the results of frames that were taken
    numbers = run.end()
    balanced(numbers)
    assert numbers["reasons"]["late"] >= 1
    assert len(run.results("frame")) > count
    gone([worker])


def test_the_loss_of_a_worker_is_in_the_log(stream: Start) -> None:
    run = stream("--source", "simulated:size=64x64,fps=25,parts=1")
    run.wait_until(lambda: len(run.results("frame")) > 3)
    (worker,) = run.children("sortal.serve.worker")
    os.kill(worker, signal.SIGKILL)
    run.wait_for("worker died")
    run.wait_for_answers(3)
    balanced(run.end())


def test_a_classifier_that_cannot_start_is_said_soon(stream: Start) -> None:
    run = stream("--source", "simulated:size=64x64,fps=25,parts=1", "engine=tensorrt")
    assert run.process.wait(90) in (2, 3)
    assert "error:" in run.err.read_text()
    assert run.results() == []


def test_the_service_of_a_line_machine_types_what_exists() -> None:
    unit = (Path(__file__).parents[2] / "deploy" / "systemd" / "sortal-stream.service").read_text()
    words = next(line for line in unit.splitlines() if line.startswith("ExecStart=")).split()
    command = typer.main.get_command(build()).commands["stream"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    source = words[words.index("--source") + 1]
    assert source.startswith("@")  # no password where everybody can read it
    assert "Restart=always" in unit


def test_nobody_reading_any_more_ends_it(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sortal", "stream", str(bundle), "--source", "simulated:size=64x64,parts=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert b"nobody reads the results" in process.stderr.read()


def test_results_that_cannot_be_written_are_an_error_of_a_file_and_an_event_of_a_line(
    stream: Start, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(RED)
    run = stream("--source", "in", "--once", "--out", "/dev/full")
    assert run.process.wait(90) == 3
    assert "not all results could be written: No space left on device" in run.err.read_text()
    line = stream("--source", "simulated:size=64x64,parts=1", "--out", "/dev/full")
    line.wait_for("results not written")
    assert line.end()["lines_dropped"] > 0


def test_limits_end_it_and_a_terminal_sees_how_it_goes(bundle: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sortal", "stream", str(bundle), "--source", "simulated:size=64x64,fps=30,parts=1"]
    with subprocess.Popen([*command, "--frames", "45"], stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path) as process:
        os.close(theirs)
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout]
        said = read_terminal(ours)
    assert len([one for one in lines if one["kind"] == "frame" and one.get("reason") != "dropped"]) == 45
    assert b"frames/s  age" in said
    assert process.returncode == 0


def test_a_playlist_called_like_a_video_opens_nothing(stream: Start, tmp_path: Path) -> None:
    video(tmp_path / "inner.ts", [(240, 10, 10)], each=30, code="mp2v")
    (tmp_path / "evil.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\ninner.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "evil.avi").write_text("ffconcat version 1.0\nfile inner.ts\n")
    code = "import cv2, sys; sys.exit(0 if cv2.VideoCapture(sys.argv[1], cv2.CAP_FFMPEG).read()[0] else 1)"
    unguarded = subprocess.run([sys.executable, "-c", code, str(tmp_path / "evil.m3u8")], stderr=subprocess.DEVNULL)
    assert unguarded.returncode == 0  # FFmpeg alone follows it
    for name in ("evil.m3u8", "evil.avi"):
        run = stream("--source", tmp_path / name)
        assert run.process.wait(90) == 3
        assert "the video cannot be opened" in run.err.read_text()
        assert run.results("frame") == []
    plain = stream("--source", tmp_path / "inner.ts", "--frames", "5")
    assert plain.process.wait(90) == 0


def test_what_cannot_be_is_refused_before_anything_starts(bundle: Path, tmp_path: Path) -> None:
    def typed(*arguments: object) -> Any:
        return sortal(tmp_path, "stream", bundle, *arguments)

    simulated = ("--source", "simulated:")
    refused(typed("--source", "rtsp://me:geheim@/x"), "names no host")
    assert "geheim" not in typed("--source", "gopher://me:geheim@h/x").err
    refused(typed(*simulated, "--on-label", "crak=SET simulated:x"), "crak")
    refused(typed(*simulated, "--only", "some"), "--only", "changes")
    refused(typed(*simulated, "--policy", "hope"), "policy")
    refused(typed(*simulated, "--policy", "resolution"), "other input sizes", "--smaller")
    refused(typed(*simulated, "--smaller", bundle), "policy resolution")
    refused(typed(*simulated, "max_age=5"), "no such setting", "max_age_ms")
    refused(typed(*simulated, "buffer=0"), "buffer")
    refused(sortal(tmp_path, "stream", tmp_path / "nothing", *simulated), "no such model")
    (tmp_path / "file").write_text("x")
    refused(typed(*simulated, "--out", "file/x"), "cannot be written", code=3)


@pytest.mark.slow
def test_memory_stays_where_it_is_and_results_are_never_old(bundle: Path, tmp_path: Path) -> None:
    """A reader ten times too slow, a webhook that is down, a camera that is too fast; measured from 15 to 40 s."""
    command = [
        sys.executable, "-m", "sortal", "stream", str(bundle), "--source", "simulated:size=640x480,fps=100,parts=6",
        "--on-label", "abstained=POST http://127.0.0.1:9/", "--on-label", "blue=POST http://127.0.0.1:9/",
        "max_age_ms=500", "smooth=majority", "--record", "kept", "--record-mb", "2",
    ]  # fmt: skip
    sizes: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline())]
        started = time.monotonic()
        while time.monotonic() - started < 40:
            lines.append(json.loads(process.stdout.readline()))
            time.sleep(0.1)
            if time.monotonic() - started > 15:
                family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
                sizes.append(sum(one.memory_info().rss for one in family) / 1e6)
        process.send_signal(signal.SIGTERM)
        lines += [json.loads(line) for line in process.stdout]
        assert process.stderr is not None
        numbers = json.loads(next(line for line in process.stderr if b'"ended"' in line))
    balanced(numbers)
    assert numbers["lines_dropped"] > 0
    shown = [one for one in lines if one["kind"] == "frame" and one["state"] != "rejected"]
    assert max(one["age_ms"] for one in shown) <= 500
    half = len(sizes) // 2
    assert np.mean(sizes[half:]) - np.mean(sizes[:half]) < 0.02 * np.mean(sizes)


def test_a_larger_size_takes_over_where_there_is_time(stream: Start, bundle: Path, tmp_path: Path) -> None:
    refused(sortal(tmp_path, "stream", bundle, "--source", "simulated:", "--policy", "resolution", "--smaller", bundle),
            "twice")  # fmt: skip
    larger = color_bundle(tmp_path / "larger", size=32)
    run = stream(
        "--source", "simulated:size=64x64,fps=50,parts=1", "--policy", "resolution", "--smaller", bundle,
        "target_ms=200", model=larger,
    )  # fmt: skip
    run.wait_for("input size")  # up: there is time
    run.wait_until(lambda: {one.get("input_size") for one in run.results("frame")} >= {"16x16", "32x32"})
    balanced(run.end())


def test_the_simulated_faults_each_have_a_result_or_an_event(stream: Start) -> None:
    run: Streaming = stream(
        "--source",
        "simulated:size=64x64,fps=30,parts=1,garbage@10,half@20,size@30,end@45",
        "--frames",
        "80",
        "pause_s=0.1",
        "buffer=64",
        "max_age_ms=60000",
        "frame_mb=1",
    )
    assert run.process.wait(90) == 0
    reasons = [(one["frame"], one["reason"]) for one in run.results("frame") if "reason" in one]
    assert reasons[:2] == [(10, "not_an_image"), (20, "truncated")]
    assert run.events("camera size")[0]["size"] == [32, 32]
    assert run.events("camera lost")[0]["reason"] == "ended"
