"""Several trackers behind one object that never stops a run: one that fails is named once and left out from then on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sortal.core.progress import Listener
from sortal.core.report import Finding
from sortal.train.trackers import TRACKERS
from sortal.train.trackers.protocol import Picture, Tracker


class Trackers:
    """A `Tracker` made of others, by name; `findings` says which of them were dropped and why."""

    def __init__(self, members: Mapping[str, Tracker], listener: Listener):
        self._members = dict(members)
        self._listener = listener
        self.findings: tuple[Finding, ...] = ()

    def start(self, run: Path, recipe: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        """See `Tracker.start`."""
        self._each(lambda tracker: tracker.start(run, recipe, plan))

    def row(self, metrics: Mapping[str, Any], step: int) -> None:
        """See `Tracker.row`."""
        self._each(lambda tracker: tracker.row(metrics, step))

    def image(self, name: str, picture: Picture, step: int) -> None:
        """See `Tracker.image`."""
        self._each(lambda tracker: tracker.image(name, picture, step))

    def finish(self, report: Mapping[str, Any] | None) -> None:
        """See `Tracker.finish`. Only the first call counts."""
        self._each(lambda tracker: tracker.finish(report))
        self._members = {}

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._members.items()):
            try:
                tell(tracker)
            except Exception as error:  # other people's code, disks and databases: nothing here is worth a run
                self._drop(name, error)

    def _drop(self, name: str, error: Exception) -> None:
        del self._members[name]
        message = f"{name} failed and gets nothing more from this run: {type(error).__name__}: {_first_line(error)}"
        self.findings += (Finding(code="tracker_failed", severity="warning", message=message),)
        self._listener.say(f"warning: {message}")


def open_trackers(names: Sequence[str], listener: Listener) -> Trackers:
    """The trackers called `names`, ready to start.

    Raises InputError for an unknown name and MissingExtraError where its package is not installed.
    """
    return Trackers({name: TRACKERS.get(name).open() for name in dict.fromkeys(names)}, listener)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").split("\n", 1)[0][:300]
