"""Trackers by name: where the rows and pictures of a run also go. A member module offers `open() -> Tracker`.

Opening raises MissingExtraError where the tracker's package is not installed. All of them write files on this machine
and use no network. `Trackers` is the one object that training holds: it never stops a run, and one that fails is named
once and left out from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sortal.core.progress import Listener
from sortal.core.registry import Registry
from sortal.core.report import Finding, Report
from sortal.train.trackers.protocol import Picture, Tracker

TRACKERS = Registry(
    kind="tracker",
    group="sortal.trackers",
    table={
        "tensorboard": "sortal.train.trackers.tensorboard",
        "mlflow": "sortal.train.trackers.mlflow",
        "wandb": "sortal.train.trackers.wandb",
    },
)


class Trackers:
    """Several trackers by name behind one object; `findings` says which of them were dropped and why."""

    def __init__(self, members: Mapping[str, Tracker], listener: Listener):
        self._members = dict(members)
        self._listener = listener
        self._step = 0
        self.findings: tuple[Finding, ...] = ()

    def start(self, run: Path, recipe: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        """The run in folder `run` begins, or goes on; recipe and plan are plain data."""
        self._each(lambda tracker: tracker.start(run, recipe, plan))

    def row(self, metrics: Mapping[str, Any]) -> None:
        """A row as in `metrics.jsonl`, at the step that it names; a row without a step belongs to the last one."""
        self._step = int(metrics.get("step", self._step))
        self._each(lambda tracker: tracker.row(metrics, self._step))

    def image(self, name: str, picture: Picture, *, step: int | None = None) -> None:
        """A picture, at the step of the last row unless `step` says otherwise."""
        at = self._step if step is None else step
        self._each(lambda tracker: tracker.image(name, picture, at))

    def finish(self, report: Report | None, *, pictures: Sequence[Path] = ()) -> None:
        """The end, with the final report (None: stopped or failed) and those `pictures` that exist. Only once."""
        for path in pictures:
            if path.is_file():
                self.image(path.stem, path)
        plain = None if report is None else report.model_dump(mode="json")
        self._each(lambda tracker: tracker.finish(plain))
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
    """The trackers called `names`, not started yet.

    Raises InputError for an unknown name and MissingExtraError where its package is not installed.
    """
    return Trackers({name: TRACKERS.get(name).open() for name in dict.fromkeys(names)}, listener)


def start_trackers(names: Sequence[str], run: Path, recipe: BaseModel, plan: BaseModel, listener: Listener) -> Trackers:
    """`open_trackers`, and the run in folder `run` has begun for them. Raises as `open_trackers` does."""
    trackers = open_trackers(names, listener)
    trackers.start(run, recipe.model_dump(mode="json"), plan.model_dump(mode="json"))
    return trackers


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").split("\n", 1)[0][:300]
