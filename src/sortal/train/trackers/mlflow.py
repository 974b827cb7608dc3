"""MLflow: one SQLite file for all runs of a folder, `mlflow ui --backend-store-uri sqlite:///runs/mlflow.db`.

The file lies beside the runs, so that they can be compared; filling a new one takes MLflow some seconds, once. There is
no server, and MLflow's own usage reports are turned off (mlflow.org/docs/latest/community/usage-tracking).
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from sortal.core.errors import MissingExtraError
from sortal.train.trackers.protocol import Picture, final_values, pixels_of, scalars, settings

DATABASE = "mlflow.db"
ARTIFACTS = "mlflow-artifacts"
EXPERIMENT = "sortal"

_RUN_TAG = "sortal.run"
_MOST_PARAMS = 100
"""Parameters that one call may hold."""
_LONGEST_PARAM = 6000


class MlflowTracker:
    """Parameters (recipe and plan), metrics and pictures of a run, under the name of its folder."""

    def __init__(self, package: Any):
        self._mlflow = package
        self._client: Any = None
        self._run_id = ""
        self._step = 0

    def start(self, run: Path, recipe: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        """See `Tracker.start`. A run that goes on is continued, not listed twice."""
        root = run.absolute().parent
        with _quiet():
            self._client = self._mlflow.MlflowClient(tracking_uri=f"sqlite:///{root / DATABASE}")
            experiment = self._experiment(root)
            known = self._client.search_runs([experiment], filter_string=f"tags.`{_RUN_TAG}` = '{run.name}'")
            if known:
                self._run_id = known[0].info.run_id
                self._client.update_run(self._run_id, status="RUNNING")
                return
            created = self._client.create_run(experiment, run_name=run.name, tags={_RUN_TAG: run.name})
        self._run_id = created.info.run_id
        self._params({**settings(recipe, "recipe"), **settings(plan, "plan")})

    def row(self, metrics: Mapping[str, Any], step: int) -> None:
        """See `Tracker.row`."""
        self._step = max(self._step, step)
        self._metrics(scalars(metrics), step)

    def image(self, name: str, picture: Picture, step: int) -> None:
        """See `Tracker.image`. Kept as `images/<name>-<step>.png` among the artifacts of the run."""
        self._client.log_image(self._run_id, pixels_of(picture), artifact_file=f"images/{name}-{step}.png")

    def finish(self, report: Mapping[str, Any] | None) -> None:
        """See `Tracker.finish`. Without a report the run is marked as killed."""
        self._metrics(final_values(report or {}), self._step)
        self._client.set_terminated(self._run_id, status="KILLED" if report is None else "FINISHED")

    def _experiment(self, root: Path) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=(root / ARTIFACTS).as_uri()))

    def _params(self, texts: Mapping[str, str]) -> None:
        entity = self._mlflow.entities.Param
        left = iter(entity(name, text[:_LONGEST_PARAM]) for name, text in texts.items())
        while part := list(islice(left, _MOST_PARAMS)):
            self._client.log_batch(self._run_id, params=part)

    def _metrics(self, values: Mapping[str, float], step: int) -> None:
        entity, now_ms = self._mlflow.entities.Metric, int(time.time() * 1000)
        if values:
            found = [entity(name, value, now_ms, step) for name, value in values.items()]
            self._client.log_batch(self._run_id, metrics=found)


def open() -> MlflowTracker:
    """A tracker that has not started. Raises MissingExtraError where mlflow is not installed."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when the package is imported
    try:
        with _quiet():
            import mlflow
            import mlflow.entities
    except ImportError as error:
        raise MissingExtraError("mlflow", "track") from error
    return MlflowTracker(mlflow)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what MLflow and its database layer say about creating tables and about their own deprecations."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
