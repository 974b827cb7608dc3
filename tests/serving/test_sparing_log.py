"""An overloaded server does not fill its log with what it rejects, and loses none of the numbers."""

from __future__ import annotations

from typing import Any

import pytest

from sortal.serve import lines
from sortal.serve.lines import Sparing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    now = {"s": 100.0}
    monkeypatch.setattr(lines, "monotonic", lambda: now["s"])
    return now


def test_so_many_a_second_pass_and_the_next_one_says_how_many_did_not(clock: dict[str, float]) -> None:
    passed: list[dict[str, Any]] = []
    log = Sparing(passed.append, 3)
    for number in range(8):
        log({"number": number})
        clock["s"] += 0.1
    clock["s"] = 101.5
    log({"number": 8})
    log({"number": 9})

    assert passed == [{"number": 0}, {"number": 1}, {"number": 2}, {"number": 8, "left_out": 5}, {"number": 9}]
