"""What is asked of every candidate: a file and an engine in, the price against float32 out; and what may be lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sortal.compress.images import Material, Prepared
from sortal.compress.judge import Price, answer, price
from sortal.compress.movement import mean_shift
from sortal.core.bundle import Bundle
from sortal.core.contract import Contract
from sortal.core.predictions import Predictions
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.threads import allowed_cpus

Method = Literal["PTQ", "PTQ dynamic", "NNCF", "QAT"]
"""Post-training quantization with our ranges, of linear layers with ranges found while it runs, by OpenVINO's NNCF; and
training with rounding."""


ARTIFACT_OF = {"onnxruntime": "onnx-int8", "openvino": "openvino-int8"}
"""Engine -> the artifact that its int8 becomes."""
TENSORRT = "tensorrt-int8"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be lost."""

    max_drop: float
    """Percentage points of accuracy and of macro accuracy."""
    contract: Contract | None = None

    def holds(self, cost: Price) -> bool:
        """Whether a candidate's price is within it."""
        return not self.objection(cost)

    def objection(self, cost: Price) -> str:
        """Why a price is too high; empty where it is not."""
        if cost.broken:
            return f"breaks {', '.join(cost.broken)}"
        if cost.drop > self.max_drop + 1e-9:
            return f"loses {cost.drop:.2f} points, more than {self.max_drop:g}"
        return ""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One int8 form of the network as a file, for one engine."""

    name: str
    path: Path
    method: Method
    price: Price
    size_bytes: int
    """Of its files."""
    engine: str = "onnxruntime"
    ranges: str = ""
    """How the ranges of activations were chosen; empty where another tool chose them."""
    narrow: bool = False
    """Weights of 7 bits."""
    floating: tuple[str, ...] = ()
    """Layers that were left in float32."""
    layers: Mapping[str, bool] = field(default_factory=dict)
    """By name of a layer with weights: whether it computes in integers."""
    target: str = ""
    """The artifact that it is for, where that is for another machine; its time here then decides nothing."""

    @property
    def artifact(self) -> str:
        """What it becomes if it passes."""
        return self.target or ARTIFACT_OF[self.engine]

    def with_layers(self, layers: Mapping[str, bool]) -> Candidate:
        """The same, with these layers."""
        return replace(self, layers=layers)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Images with float32's answers to them."""

    images: Prepared
    original: Predictions


@dataclass(frozen=True, kw_only=True)
class Pricing:
    """The network that candidates are held against, with its answers to the validation images."""

    bundle: Bundle
    material: Material
    original: Predictions
    size_bytes: int
    budget: Budget
    further: Answered | None = None
    """Images beside the validation images that say how far answers move; their labels are not asked for."""

    def __call__(self, path: Path, engine: str) -> Price:
        """What the file at `path` costs when this engine runs it. Raises BundleError where it cannot be run."""
        cost = price(
            self.original,
            self.answers(path, engine, self.material.judged),
            self.material.judged,
            contract=self.budget.contract,
            sizes=(self.size_bytes, size_of(path)),
        )
        if self.further is None or not self.budget.holds(cost):
            return cost
        answers = self.answers(path, engine, self.further.images)
        more, counts = mean_shift(self.further.original, answers), (len(self.original), len(answers))
        return replace(cost, moved=float(np.average([cost.moved, more], weights=counts)))

    def answers(self, path: Path, engine: str, images: Prepared) -> Predictions:
        """Decisions about prepared images."""
        opened: Engine = ENGINES.get(engine).open(path, threads=allowed_cpus())
        try:
            return answer(opened, self.bundle, images)
        finally:
            opened.close()

    def some(self, count: int) -> tuple[Prepared, Predictions]:
        """About `count` of the validation images, evenly spread, and float32's answers to them."""
        images = self.material.judged
        rows = np.unique(np.linspace(0, len(images.labels) - 1, count).astype(int))
        return _rows(images, rows), _predicted(self.original, rows)


def size_of(path: Path) -> int:
    """Bytes of a model file, of OpenVINO's weights beside it too."""
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" else 0)


def _rows(images: Prepared, rows: NDArray[np.int64]) -> Prepared:
    return Prepared(
        pixels=images.pixels[rows],
        labels=images.labels[rows],
        names=tuple(images.names[row] for row in rows.tolist()),
        groups=None if images.groups is None else images.groups[rows],
    )


def _predicted(one: Predictions, rows: NDArray[np.int64]) -> Predictions:
    return Predictions(
        names=tuple(one.names[row] for row in rows.tolist()),
        labels=one.labels,
        bundle_id=one.bundle_id,
        index=one.index[rows],
        probabilities=one.probabilities[rows],
        abstained=one.abstained[rows],
        errors={},
    )
