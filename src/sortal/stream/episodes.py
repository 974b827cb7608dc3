"""When a label begins and ends: frames that say the same, one after another, are one episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sortal.stream.camera import LOST


@dataclass(frozen=True, kw_only=True)
class Change:
    """An episode began or ended."""

    began: bool
    name: str
    """A class, `abstained`, `unknown`, `rejected` or `lost`."""
    record: dict[str, Any]
    """What is written about it."""


class Episodes:
    """Those of one camera, one after another."""

    def __init__(self, camera: str):
        self._camera = camera
        self._name: str | None = None
        self._began: dict[str, Any] = {}
        self._began_s = 0.0
        self._frames = 0

    def see(self, name: str, told: dict[str, Any], *, at_s: float) -> list[Change]:
        """One more frame, or the loss of the camera, that says `name`; `told` is the record of the frame and `at_s` the
        monotonic time in seconds."""
        if name == self._name:
            self._frames += 1
            return []
        changes = self.end(told, at_s=at_s)
        self._name, self._began_s, self._frames = name, at_s, 1
        keys = ("time", "frame", "file", "state", "label", "probability", "reason", "bundle_id")
        self._began = {"kind": "began", "camera": self._camera, "name": name}
        self._began |= {key: told[key] for key in keys if told.get(key) is not None}
        return [*changes, Change(began=True, name=name, record=dict(self._began))]

    def end(self, told: dict[str, Any], *, at_s: float) -> list[Change]:
        """The episode under way ends here."""
        if self._name is None:
            return []
        record = {"kind": "ended", "camera": self._camera, "name": self._name, "time": told["time"]}
        record |= {"began": self._began["time"], "seconds": round(at_s - self._began_s, 3)}
        record |= {"frames": self._frames} if self._name != LOST else {}
        ended, self._name = self._name, None
        return [Change(began=False, name=ended, record=record)]
