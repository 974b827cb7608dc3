"""Trackers by name: where the rows and pictures of a run also go. A member module offers `open() -> Tracker`.

Opening raises MissingExtraError where the tracker's package is not installed. All of them write files on this machine
and use no network. The protocol is `protocol`; `together` is the one object that training holds.
"""

from __future__ import annotations

from sortal.core.registry import Registry

TRACKERS = Registry(
    kind="tracker",
    group="sortal.trackers",
    table={
        "tensorboard": "sortal.train.trackers.tensorboard",
        "mlflow": "sortal.train.trackers.mlflow",
        "wandb": "sortal.train.trackers.wandb",
    },
)
