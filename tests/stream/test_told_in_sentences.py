"""Events of the log as people read them on a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from sortal.stream.told import sentence

ENDED: dict[str, Any] = {
    "event": "ended", "why": "seconds", "received": 1200, "answered": 1100, "abstained": 60, "unknown": 0,
    "rejected": 40, "reasons": {"dropped": 38, "late": 2}, "missed": 0, "frames_per_s": 29.97, "age_ms_p50": 12.0,
    "age_ms_p99": 40.5, "workers_died": 0, "camera_lost": 0, "lines_dropped": 0, "peak_mb": 73.4,
    "peak_mb_largest_child": 98.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"event": "ready", "workers": 2, "engine": "openvino", "input": {"height": 96, "width": 128}},
         "ready: 2 workers, openvino, images of 128x96"),
        ({"event": "camera live", "camera": "line 4", "start": 1, "size": None}, "line 4 sends frames"),
        ({"event": "camera size", "camera": "line 4", "size": [320, 240], "before": [640, 480]},
         "line 4 sends frames of 320x240 now, 640x480 before"),
        ({"event": "action failed", "name": "裂纹", "action": "POST http://h/", "message": "answered with status 403"},
         "裂纹: POST http://h/ failed: answered with status 403"),
        ({"event": "of a stranger", "number": 7}, '{"event": "of a stranger", "number": 7}'),
        ({"event": "worker trouble", "message": "a\x1b[2Jb"}, "workers cannot start: a?[2Jb"),
    ],
)  # fmt: skip
def test_an_event_is_a_sentence_that_no_terminal_obeys(event: dict[str, Any], said: str) -> None:
    assert sentence(event) == said


def test_the_end_says_what_became_of_all_frames_and_what_to_be_careful_about() -> None:
    assert [line.strip() for line in sentence(ENDED).splitlines()] == [
        "ended (seconds): 1,200 frames, 1,100 answered, 60 abstained, 0 unknown, 40 rejected (38 dropped, 2 late)",
        "29.97 frames/s, age 12 ms, p99 40.5 ms, peak memory 73.4 MB and 98 MB of a child",
    ]
    actions = [{"name": "crack", "action": "POST http://h/", "done": 7, "failed": 1, "dropped": 30}]
    told = sentence(ENDED | {"lines_dropped": 1234, "workers_died": 1, "actions": actions, "received": 0})
    assert [line.strip() for line in told.splitlines()[2:]] == [
        "careful: workers that died: 1",
        "careful: lines of results that were lost: 1,234",
        "careful: crack, POST http://h/, that failed: 1",
        "careful: crack, POST http://h/, that was left out: 30",
        "careful: no frame came at all",
    ]
