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
