"""Which frames of a source are taken when fewer a second are wanted than there are."""

from __future__ import annotations


class Pace:
    """At most `fps` frames a second of clock time, evenly; all where it is None."""

    def __init__(self, fps: float | None):
        self._step_s = 0.0 if fps is None else 1.0 / fps
        self._due_s: float | None = None

    def is_due(self, now_s: float) -> bool:
        """Whether the frame of this moment is taken."""
        if self._step_s == 0.0:
            return True
        if self._due_s is None:
            self._due_s = now_s
        if now_s < self._due_s - 0.1 * self._step_s:  # a camera's own rhythm trembles
            return False
        following_s = self._due_s + self._step_s
        self._due_s = following_s if following_s >= now_s - self._step_s else now_s + self._step_s
        return True
