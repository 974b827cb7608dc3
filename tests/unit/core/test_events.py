"""Event: one line of the log of production."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sortal.core.events import Event

EVENT = {
    "time": "2026-01-02T03:04:05.000006Z",
    "request_id": "r1",
    "bundle_id": "ab" * 32,
    "image_sha256": "cd" * 32,
    "top": [["screw", 0.9], ["nut", 0.1]],
}


def test_a_line_reads_back_and_a_late_label_can_be_added() -> None:
    event = Event.model_validate(EVENT)
    assert event.top[0] == ("screw", 0.9)
    assert Event.model_validate_json(event.model_dump_json()) == event
    labelled = event.model_copy(update={"label": "nut"})
    assert (event.label, labelled.label) == (None, "nut")


@pytest.mark.parametrize("change", [{"format": 2}, {"latency_ms": -1}, {"pixels": "AAAA"}, {"top": [["screw"]]}])
def test_other_versions_and_unknown_fields_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Event.model_validate(EVENT | change)
