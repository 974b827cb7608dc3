"""What the stages of a run share: what they are given, and what they hand on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.canonical import pretty
from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.progress import Listener
from sortal.core.publish import publish_file
from sortal.core.recipe import Recipe
from sortal.core.report import Finding, Table
from sortal.core.run import RunFolder
from sortal.core.sections import Imbalance
from sortal.data.table import ImageTable
from sortal.models.resolve import ModelSource
from sortal.train.loop import Row, Stopped
from sortal.train.plan import Plan
from sortal.train.team import SOLO, Team
from sortal.train.trackers import Trackers


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """`notes` say why it was chosen and `table` what else was tried, where there was a choice."""

    name: Imbalance
    tau: float
    notes: tuple[str, ...] = ()
    table: Table | None = None


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything a stage may read. `run` is None where nothing is to be written."""

    recipe: Recipe
    table: ImageTable
    run: RunFolder | None
    plan: Plan
    spec: PreprocessSpec
    listener: Listener
    deadline_s: float | None
    """On `time.monotonic`."""
    source: ModelSource | None = None
    remedy: Imbalance = "none"
    """What is done about unequal class sizes; never `auto`."""
    asked_auto_remedy: bool = False
    """The remedy was chosen here, so its strength may be chosen again after training."""
    team: Team = SOLO
    trackers: Trackers | None = None
    resuming: bool = False
    """Go on from the newest checkpoint of the run."""
    started_s: float | None = None
    """On `time.monotonic`: when the command began, moved back by what earlier parts of the run have taken."""

    @property
    def classes(self) -> int:
        """C: as many as the table has names."""
        return len(self.table.labels)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(C,) training images of each class."""
        return np.bincount(self.table.label_array()[self.labeled("train")], minlength=self.classes).astype(np.int64)

    @property
    def parents(self) -> NDArray[np.int64] | None:
        """(C,) number of the coarser class of each class, where the labels have any."""
        parents = self.table.labels.coarse_index()
        return None if parents is None else np.array(parents, dtype=np.int64)

    @property
    def pretrained(self) -> bool:
        """True where training starts from given weights."""
        return self.source is not None and self.source.weights_path is not None

    @property
    def worth_s(self) -> float | None:
        """Seconds that training may take, where that is known: what preparing for it can be worth."""
        return None if self.deadline_s is None else self.deadline_s - time.monotonic()

    def labeled(self, split: str) -> NDArray[np.int64]:
        """Rows of a split that have a label."""
        rows = self.table.split_rows(split)
        return rows[self.table.label_array()[rows] >= 0]

    @property
    def cache(self) -> Path | None:
        """Where prepared pixels may lie while the run lasts."""
        return None if self.run is None or not self.team.leads else self.run.path / "cache"

    @property
    def checkpoints(self) -> Path | None:
        """Where checkpoints go."""
        return None if self.run is None else self.run.path / "checkpoints"

    def record(self, row: Row) -> None:
        """To `metrics.jsonl` and to the trackers."""
        if self.run is not None and self.team.leads:
            if self.resuming and row.get("epoch") == 0:
                self.run.rewrite_records([row, *(kept for kept in self.run.records() if kept.get("epoch") != 0)])
            else:
                self.run.record(row)
            if self.trackers is not None:
                self.trackers.row(row)

    def keep_plan(self, plan: Plan) -> None:
        """Write what the plan has become."""
        if self.run is not None and self.team.leads:
            publish_file(self.run.plan_path, pretty(plan.model_dump(mode="json")).encode())

    def keep_rows(self, rows: Sequence[Row]) -> None:
        """Make `metrics.jsonl` hold the rows of gradient training in `rows` after that of the probe, and no others."""
        if self.run is not None and self.team.leads:
            self.run.rewrite_records([*(row for row in self.run.records() if row.get("epoch") == 0), *rows])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a stage leaves beside the weights, which are in the network."""

    val_rows: NDArray[np.int64]
    val_labels: NDArray[np.int64]
    val_logits: NDArray[np.float32]
    history: tuple[Row, ...]
    findings: tuple[Finding, ...]
    stopped: Stopped
    best_epoch: int
    train_batch: tuple[Pixels, NDArray[np.int64]]
    notes: tuple[str, ...] = ()
    remedy: Remedy | None = None
    """What is done about unequal class sizes, by the probe."""


def feature_key(source: ModelSource | None, recipe: Recipe, engine: str, pooling: str) -> str | None:
    """What frozen features are known by in the cache, None where they could not be used again."""
    model = recipe.model
    if source is None or source.key is None or model.attention or not recipe.train.cache:
        return None
    return f"{source.key}/{pooling} 2/{model.views}/{engine}"
