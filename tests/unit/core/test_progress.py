"""Progress for people, and durations in words."""

from __future__ import annotations

import io

import pytest

from sortal.core.progress import Plain, Silent, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (89, "89 s"), (90, "1 min 30 s"), (605, "10 min 05 s"), (5400, "1 h 30 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_progress_is_a_line_now_and_then() -> None:
    stream = io.StringIO()
    plain = Plain(stream, every_s=0.0)
    for done in (0, 1, 2, 3000):
        plain.progress("reading", done, 4000)
    lines = stream.getvalue().splitlines()
    assert lines[-1].startswith("reading: 3,000 of 4,000, about ")
    assert all(line.startswith("reading: ") for line in lines)


def test_quick_stages_say_nothing_but_sentences_are_always_printed() -> None:
    stream = io.StringIO()
    plain = Plain(stream, every_s=60.0)
    for done in range(100):
        plain.progress("reading", done + 1, 100)
    plain.say("done")
    assert stream.getvalue() == "done\n"


def test_silence() -> None:
    silent = Silent()
    assert silent.say("x") is None
    assert silent.progress("x", 1, 2) is None
