"""The rate that people are shown."""

from __future__ import annotations

import pytest

from sortal.stream.frame import Frame
from sortal.stream.meter import Meter


@pytest.mark.parametrize("rate", [50, 1000])
def test_the_rate_is_right_also_where_the_last_seconds_are_more_than_is_remembered(
    monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    meter = Meter()
    for number in range(10 * rate):
        meter.see(Frame(number=number, time_s=0.0, taken_s=0.0, reason="late", done_s=100.0 + number / rate))
    monkeypatch.setattr("sortal.stream.meter.time.monotonic", lambda: 110.0)
    assert meter.rate == pytest.approx(rate, rel=0.01)


def test_frames_that_were_decided_together_have_the_rate_of_the_time_that_it_took() -> None:
    meter = Meter()
    assert meter.mean_rate == 0.0
    early = Frame(number=5, time_s=0.0, taken_s=100.015, reason="empty", done_s=100.016)
    late = [Frame(number=number, time_s=0.0, taken_s=100.0, reason="late", done_s=100.02) for number in range(4)]
    for frame in (early, *late, early):
        meter.see(frame)
    assert meter.mean_rate == pytest.approx(300)


def test_the_mean_rate_of_a_camera_is_its_own() -> None:
    meter = Meter()
    for number in range(3000):
        taken_s = 100.0 + number / 30
        meter.see(Frame(number=number, time_s=0.0, taken_s=taken_s, reason="late", done_s=taken_s + 0.02))
    assert meter.mean_rate == pytest.approx(30, rel=0.001)
