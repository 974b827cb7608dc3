"""What the stages of a run share: what they are given, and what they hand on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.core.report import Finding
from sortal.core.run import RunFolder
from sortal.data.table import ImageTable
from sortal.train.loop import Row, Stopped
from sortal.train.plan import Plan


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

    @property
    def classes(self) -> int:
        """C: as many as the table has names."""
        return len(self.table.labels)

    @property
    def cache(self) -> Path | None:
        """Where prepared pixels may lie while the run lasts."""
        return None if self.run is None else self.run.path / "cache"

    @property
    def checkpoints(self) -> Path | None:
        """Where checkpoints go."""
        return None if self.run is None else self.run.path / "checkpoints"

    def record(self, row: Row) -> None:
        """To `metrics.jsonl`."""
        if self.run is not None:
            self.run.record(row)


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
