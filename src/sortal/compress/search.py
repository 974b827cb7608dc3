"""Which int8 to take: ranges by each method, weights of 8 and of 7 bits, biases mended; then layer
by layer back to float32 until the budget of accuracy holds.

The candidates are compared by how far their probabilities move, which says more on few images than a count of errors.
How much each layer alone moves them is only measured where no plain candidate is within the budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from sortal.compress.bias import corrected
from sortal.compress.graph import layers, quantized, simplified, tensors, with_metadata, with_outputs
from sortal.compress.images import Material, Prepared
from sortal.compress.judge import Price, answer, divergence, price
from sortal.compress.ranges import METHODS, Range, see_tensors
from sortal.compress.tail import add_tail, unknown_tail
from sortal.core.bundle import Bundle
from sortal.core.contract import Contract
from sortal.core.predictions import Predictions
from sortal.core.progress import Listener
from sortal.core.publish import publish_file
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.onnxruntime import open_session
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.locate import info_of
from sortal.runtime.metadata import to_metadata
from sortal.runtime.threads import allowed_cpus

LOOKED_AT = 32
"""Validation images that say how sensitive a layer is."""


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
    """One int8 form of the network, as a file."""

    name: str
    path: Path
    method: str
    narrow: bool
    floating: tuple[str, ...]
    price: Price
    size_bytes: int
    """Of its file."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the search tried, in order, and what it took; `chosen` is None where nothing is within the budget."""

    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    sensitivity: tuple[tuple[str, float], ...] = ()
    """Layers by how much each alone moves the probabilities, the worst first; empty where that was not needed."""


class Search:
    """The network, its images and its budget; `run` tries candidates and writes them into `folder`."""

    def __init__(
        self,
        source: Path,
        bundle: Bundle,
        material: Material,
        original: Predictions,
        *,
        budget: Budget,
        folder: Path,
        listener: Listener,
    ):
        self._model, self._tail = simplified(source), unknown_tail(source)
        self._bundle, self._material, self._original = bundle, material, original
        self._budget, self._size_bytes = budget, source.stat().st_size
        self._folder, self._listener = folder, listener
        self._means: dict[str, NDArray[np.float32]] = {}

    def run(self) -> Found:
        """Try plain candidates, then keep layers in float32, the most sensitive first, until the budget holds."""
        ranges = self._ranges()
        tried = [self._try(ranges[method], method, narrow=narrow) for narrow in (False, True) for method in METHODS]
        good = [one for one in tried if self._budget.holds(one.price)]
        if good:
            return Found(candidates=tuple(tried), chosen=min(good, key=_moved))
        best = min(tried, key=_moved)
        order = self._sensitivity(ranges[best.method], narrow=best.narrow)
        for floating in self._left_out([name for name, _ in order]):
            tried.append(self._try(ranges[best.method], best.method, narrow=best.narrow, floating=floating))
            if self._budget.holds(tried[-1].price):
                return Found(candidates=tuple(tried), chosen=tried[-1], sensitivity=order)
        return Found(candidates=tuple(tried), chosen=None, sensitivity=order)

    def _ranges(self) -> dict[str, dict[str, Range]]:
        names = tensors(self._model)
        self._listener.say(f"ranges of {len(names)} activations on {len(self._material.calibration.labels)} images")
        session = open_session(with_outputs(self._model, names), threads=allowed_cpus(), where="calibration")
        seen = see_tensors(session, names, self._bundle.preprocess, self._material.calibration.pixels)
        self._means = {name: one.means for name, one in seen.items()}
        return {method: {name: choose(one) for name, one in seen.items()} for method, choose in METHODS.items()}

    def _try(self, ranges: dict[str, Range], method: str, *, narrow: bool, floating: tuple[str, ...] = ()) -> Candidate:
        name = _named(method, len(floating), narrow=narrow)
        self._listener.say(f"trying int8: {name}")
        path = self._folder / f"{name.replace(' ', '_').replace(',', '')}.onnx"
        mended = corrected(self._model, self._means, set(layers(self._model)) - set(floating), narrow=narrow)
        made = quantized(mended, ranges, floating=frozenset(floating), narrow=narrow)
        self._write(made, path)
        return Candidate(
            name=name,
            path=path,
            method=method,
            narrow=narrow,
            floating=floating,
            price=self.price_of(path, "onnxruntime"),
            size_bytes=path.stat().st_size,
        )

    def _write(self, model: onnx.ModelProto, path: Path) -> None:
        add_tail(model, self._tail)
        publish_file(path, with_metadata(model, to_metadata(info_of(self._bundle))))

    def price_of(self, path: Path, engine: str) -> Price:
        """What the file at `path` costs when this engine runs it."""
        return price(
            self._original,
            self._answers(path, engine, self._material.judged),
            self._material.judged,
            contract=self._budget.contract,
            sizes=(self._size_bytes, path.stat().st_size),
        )

    def _answers(self, path: Path, engine: str, images: Prepared) -> Predictions:
        opened: Engine = ENGINES.get(engine).open(path, threads=allowed_cpus())
        try:
            return answer(opened, self._bundle, images)
        finally:
            opened.close()

    def _sensitivity(self, ranges: dict[str, Range], *, narrow: bool) -> tuple[tuple[str, float], ...]:
        """How much each layer alone in int8 moves the probabilities of some validation images, the worst first."""
        rows = np.unique(np.linspace(0, len(self._material.judged.labels) - 1, LOOKED_AT).astype(int))
        few = _rows(self._material.judged, rows)
        plain, path, names = _predicted(self._original, rows), self._folder / "one_layer.onnx", layers(self._model)
        moved = []
        for number, name in enumerate(names):
            self._listener.progress("how sensitive each layer is", number, len(names))
            made = quantized(self._model, ranges, narrow=narrow, only=name)
            self._write(made, path)
            moved.append((name, divergence(plain, self._answers(path, "onnxruntime", few))))
        self._listener.progress("how sensitive each layer is", len(names), len(names))
        return tuple(sorted(moved, key=lambda one: -one[1]))

    def _left_out(self, order: list[str]) -> Iterator[tuple[str, ...]]:
        """Which layers stay in float32, step by step: first and last, then twice as many of the worst each time."""
        names = layers(self._model)
        ends = tuple(dict.fromkeys((names[0], names[-1])))
        yield ends
        others = [name for name in order if name not in ends]
        count = 1
        while count <= len(others) and len(ends) + count < len(names):
            yield (*ends, *others[:count])
            count *= 2


def _moved(one: Candidate) -> float:
    return one.price.divergence


def _named(method: str, floating: int, *, narrow: bool) -> str:
    bits = "7-bit weights" if narrow else "8-bit weights"
    return f"{method}, {bits}" + (f", {floating} layers float" if floating else "")


def _rows(images: Prepared, rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Prepared:
    return Prepared(
        pixels=images.pixels[rows],
        labels=images.labels[rows],
        names=tuple(images.names[row] for row in rows.tolist()),
        groups=None if images.groups is None else images.groups[rows],
    )


def _predicted(one: Predictions, rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Predictions:
    return Predictions(
        names=tuple(one.names[row] for row in rows.tolist()),
        labels=one.labels,
        bundle_id=one.bundle_id,
        index=one.index[rows],
        probabilities=one.probabilities[rows],
        abstained=one.abstained[rows],
        errors={},
    )
