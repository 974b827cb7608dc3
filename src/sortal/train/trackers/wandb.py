"""Weights & Biases, offline without exception: files in `<run>/wandb` that `wandb sync` sends if somebody wants to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sortal.core.errors import MissingExtraError
from sortal.train.trackers.protocol import Picture, final_values, pixels_of, scalars

FOLDER = "wandb"
PROJECT = "sortal"


class WandbTracker:
    """Configuration (recipe and plan), metrics and pictures of a run, under the name of its folder."""

    def __init__(self, package: Any):
        self._wandb = package
        self._run: Any = None
        self._step = 0

    def start(self, run: Path, recipe: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        """See `Tracker.start`. A run that goes on keeps its id, so that the parts are one after `wandb sync`."""
        self._run = self._wandb.init(
            mode="offline",
            dir=str(run.absolute()),
            project=PROJECT,
            name=run.name,
            id=_earlier_id(run),
            config={"recipe": dict(recipe), "plan": dict(plan)},
            settings=self._wandb.Settings(
                console="off",
                silent=True,
                disable_code=True,
                disable_git=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )

    def row(self, metrics: Mapping[str, Any], step: int) -> None:
        """See `Tracker.row`."""
        self._log(scalars(metrics), step)

    def image(self, name: str, picture: Picture, step: int) -> None:
        """See `Tracker.image`."""
        self._log({name: self._wandb.Image(pixels_of(picture))}, step)

    def finish(self, report: Mapping[str, Any] | None) -> None:
        """See `Tracker.finish`. Without a report the run is marked as failed."""
        self._run.summary.update(final_values(report or {}))
        self._run.finish(exit_code=1 if report is None else 0)

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        """Steps never go back: what belongs to an earlier one than the last would be thrown away."""
        self._step = max(self._step, step)
        self._run.log(dict(values), step=self._step)


def open() -> WandbTracker:
    """A tracker that has not started. Raises MissingExtraError where wandb is not installed."""
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # crash reports; read when the package is imported
    try:
        import wandb
    except ImportError as error:
        raise MissingExtraError("wandb", "track") from error
    return WandbTracker(wandb)


def _earlier_id(run: Path) -> str | None:
    """The id in the name of the newest folder `offline-run-<time>-<id>`, None where the run is new."""
    parts = sorted((run / FOLDER).glob("offline-run-*-*"))
    return parts[-1].name.rpartition("-")[2] if parts else None
