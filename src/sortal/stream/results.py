"""From decided frames to what people and programs get: records, episodes, actions and a recording."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from sortal.stream.actions import Action
from sortal.stream.camera import LOST
from sortal.stream.episodes import Change, Episodes
from sortal.stream.frame import DROPPED, REJECTED, Frame
from sortal.stream.meter import Meter
from sortal.stream.outlet import Outlet
from sortal.stream.recording import Recording
from sortal.stream.smoothing import Said, Smoother, Vote

Only = Literal["all", "changes"]
TOP = 3
"""Classes that a record names with their probabilities."""


class Results:
    """Where results of one camera go."""

    def __init__(
        self,
        camera: str,
        labels: Sequence[str],
        bundle_id: str,
        *,
        smoother: Smoother,
        outlet: Outlet,
        only: Only,
        actions: Sequence[Action],
        recording: Recording | None,
        meter: Meter,
    ):
        self._camera, self._labels, self._bundle_id = camera, list(labels), bundle_id
        self._smoother, self._outlet, self._only = smoother, outlet, only
        self._actions, self._recording, self._meter = actions, recording, meter
        self._episodes = Episodes(camera)

    def decided(self, frame: Frame) -> None:
        """A frame has its result. One that was dropped is told, and says nothing about what the camera sees."""
        self._meter.see(frame)
        own = self._said(frame)
        record = self._record(frame, own)
        if frame.reason == DROPPED:
            self._tell(record, [])
            return
        together = self._smoother.add(Vote(said=own, probabilities=self._probabilities(frame)))
        if together is not own:
            record |= {"smoothed": _plain(together)}
        shown = record | _plain(together) if together is not own else record
        self._tell(record, self._episodes.see(together.name, shown, at_s=frame.taken_s))
        if self._recording is not None:
            self._recording.see(frame.data, together.name, record)

    def camera_state(self, state: str, reason: str) -> None:
        """The camera is in another state; its loss is an episode of its own."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        told = {"kind": "camera", "camera": self._camera, "time": now, "state": state}
        told |= {"reason": reason} if reason else {}
        self._outlet.put(told)
        if state == LOST:
            self._smoother.forget()
            self._pass_on(self._episodes.see(LOST, told, at_s=time.monotonic()))

    def end(self) -> None:
        """The stream ends, and the episode under way with it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._pass_on(self._episodes.end({"time": now}, at_s=time.monotonic()))

    def _tell(self, record: dict[str, Any], changes: list[Change]) -> None:
        if self._only == "all":
            self._outlet.put(record)
        self._pass_on(changes)

    def _pass_on(self, changes: list[Change]) -> None:
        for change in changes:
            self._outlet.put(change.record)
            for action in self._actions:
                action.see(change)

    def _said(self, frame: Frame) -> Said:
        if frame.answer is None or frame.state == REJECTED:
            return Said(state=REJECTED)
        label = self._labels[frame.answer["index"]]
        return Said(state=frame.state, label=label, probability=float(frame.answer["probability"]))

    def _probabilities(self, frame: Frame) -> Any:
        return None if frame.answer is None else np.frombuffer(frame.answer["probabilities"], np.float32)

    def _record(self, frame: Frame, said: Said) -> dict[str, Any]:
        record: dict[str, Any] = {"kind": "frame", "camera": self._camera, "frame": frame.number, "time": frame.time}
        record |= {"file": frame.name} if frame.name is not None else {}
        record |= _plain(said)
        if frame.answer is not None and not frame.reason:
            record["top"] = [[self._labels[index], round(chance, 4)] for index, chance in frame.answer["top"]]
            if "unknown_score" in frame.answer:
                record["unknown_score"] = round(frame.answer["unknown_score"], 4)
        record |= {"reason": frame.reason} if frame.reason else {}
        record |= {"input_size": frame.pixels} if frame.pixels else {}
        return record | {"age_ms": round(frame.age_ms, 1), "bundle_id": self._bundle_id}


def _plain(said: Said) -> dict[str, Any]:
    if said.label is None:
        return {"state": said.state}
    return {"state": said.state, "label": said.label, "probability": round(said.probability or 0.0, 4)}
