"""Which int8 of our own to take: ranges by each method, weights of 8 and of 7 bits, biases mended; then layer by layer
back to float32 until the budget of accuracy holds.

The candidates are compared by how far their answers move, which says more on few images than a count of errors.
How much each layer alone moves them is only measured where no plain candidate is within the budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Required, TypedDict, Unpack

import numpy as np
import onnx
from numpy.typing import NDArray

from sortal.compress.bias import corrected
from sortal.compress.fused_form import fused_form, rounded_layers
from sortal.compress.graph import layers, quantized, simplified, tensors, with_metadata, with_outputs
from sortal.compress.movement import mean_shift
from sortal.compress.pricing import Candidate, Method, Pricing
from sortal.compress.ranges import METHODS, Range, see_tensors
from sortal.compress.tail import add_tail, unknown_tail
from sortal.core.progress import Listener
from sortal.core.publish import publish_file
from sortal.runtime.engines.onnxruntime import open_session
from sortal.runtime.locate import info_of
from sortal.runtime.metadata import to_metadata
from sortal.runtime.threads import allowed_cpus

LOOKED_AT = 32
"""Validation images that say how sensitive a layer is."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the search tried, in order, and what it took; `chosen` is None where nothing is within the budget."""

    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    best: Candidate
    """Of those with every layer in integers, within the budget where one is, the one that moves answers least."""
    sensitivity: tuple[tuple[str, float], ...] = ()
    """Layers by how much each alone moves the answers, the worst first; empty where that was not needed."""

    @property
    def forms(self) -> tuple[Candidate, ...]:
        """Those that another engine should judge for itself, since it rounds elsewhere: each kind of ranges with every
        layer in integers, and what was taken."""
        return tuple(one for one in self.candidates if not one.floating or one is self.chosen)


class Facts(TypedDict, total=False):
    """What there is to say about a candidate beside its file and price."""

    method: Required[Method]
    ranges: str
    narrow: bool
    floating: tuple[str, ...]


class Search:
    """The network `source` and its pricing; `run` tries candidates for ONNX Runtime and writes them into `folder`."""

    def __init__(
        self,
        source: Path,
        pricing: Pricing,
        *,
        folder: Path,
        listener: Listener,
        weight_bits: Literal["auto", 7, 8] = "auto",
    ):
        self.model, self._tail = simplified(source), unknown_tail(source)
        self.pricing = pricing
        self._folder, self._listener = folder, listener
        self._narrow = {"auto": (False, True), 7: (True,), 8: (False,)}[weight_bits]
        self._means: dict[str, NDArray[np.float32]] = {}
        self._ranges: dict[str, dict[str, Range]] = {}

    def run(self) -> Found:
        """Try plain candidates, then keep layers in float32, the most sensitive first, until the budget holds."""
        self._see()
        budget = self.pricing.budget
        tried = [self._try(method, narrow=narrow) for narrow in self._narrow for method in METHODS]
        good = [one for one in tried if budget.holds(one.price)]
        best = min(good or tried, key=lambda one: one.price.moved)
        if good:
            return Found(candidates=tuple(tried), chosen=best, best=best)
        order = self._sensitivity(best)
        for floating in self._left_out([name for name, _ in order]):
            tried.append(self._try(best.ranges, narrow=best.narrow, floating=floating))
            if budget.holds(tried[-1].price):
                return Found(candidates=tuple(tried), chosen=tried[-1], best=best, sensitivity=order)
        return Found(candidates=tuple(tried), chosen=None, best=best, sensitivity=order)

    def graph_of(self, one: Candidate, *, symmetric: bool = False, brief: bool = True) -> onnx.ModelProto:
        """The Q/DQ graph of a candidate of `run` made again, without the unknown score; see `graph.quantized`."""
        return quantized(
            self.mended(one),
            self._ranges[one.ranges],
            floating=frozenset(one.floating),
            narrow=one.narrow,
            symmetric=symmetric,
            brief=brief,
        )

    def mended(self, one: Candidate) -> onnx.ModelProto:
        """The float32 graph whose layers a candidate of `run` rounded, with its biases."""
        return corrected(self.model, self._means, set(layers(self.model)) - set(one.floating), narrow=one.narrow)

    def candidate(self, model: onnx.ModelProto, name: str, **facts: Unpack[Facts]) -> Candidate:
        """Write a graph with the unknown score put back, and price it on ONNX Runtime."""
        path = self._folder / f"{name.replace(' ', '_').replace(',', '')}.onnx"
        found = rounded_layers(model)
        self.write(model, path)
        cost = self.pricing(path, "onnxruntime")
        return Candidate(name=name, path=path, price=cost, size_bytes=path.stat().st_size, layers=found, **facts)

    def fused(self, one: Candidate) -> Candidate:
        """The same candidate in the form that OpenVINO computes fastest."""
        model = onnx.load_model_from_string(one.path.read_bytes())
        path = one.path.with_suffix(".fused.onnx")
        publish_file(path, fused_form(model).SerializeToString())
        cost = self.pricing(path, "openvino")
        return replace(one, path=path, price=cost, size_bytes=path.stat().st_size, engine="openvino")

    def write(self, model: onnx.ModelProto, path: Path) -> None:
        """A graph as a file with the unknown score put back and everything that an artifact says of itself."""
        add_tail(model, self._tail)
        publish_file(path, with_metadata(model, to_metadata(info_of(self.pricing.bundle))))

    def _see(self) -> None:
        names, material = tensors(self.model), self.pricing.material
        self._listener.say(f"ranges of {len(names)} activations on {len(material.calibration.labels)} images")
        session = open_session(with_outputs(self.model, names), threads=allowed_cpus(), where="calibration")
        seen = see_tensors(session, names, self.pricing.bundle.preprocess, material.calibration.pixels)
        self._means = {name: one.means for name, one in seen.items()}
        self._ranges = {method: {name: choose(one) for name, one in seen.items()} for method, choose in METHODS.items()}

    def _try(self, ranges: str, *, narrow: bool, floating: tuple[str, ...] = ()) -> Candidate:
        name = _named(ranges, len(floating), narrow=narrow)
        self._listener.say(f"trying int8: {name}")
        mended = corrected(self.model, self._means, set(layers(self.model)) - set(floating), narrow=narrow)
        made = quantized(mended, self._ranges[ranges], floating=frozenset(floating), narrow=narrow)
        return self.candidate(made, name, method="PTQ", ranges=ranges, narrow=narrow, floating=floating)

    def _sensitivity(self, best: Candidate) -> tuple[tuple[str, float], ...]:
        """How much each layer alone in int8 moves the answers about some validation images, the worst first."""
        few, plain = self.pricing.some(LOOKED_AT)
        path, names, ranges = self._folder / "one_layer.onnx", layers(self.model), self._ranges[best.ranges]
        moved = []
        for number, name in enumerate(names):
            self._listener.progress("how sensitive each layer is", number, len(names))
            self.write(quantized(self.model, ranges, narrow=best.narrow, only=name), path)
            moved.append((name, mean_shift(plain, self.pricing.answers(path, "onnxruntime", few))))
        self._listener.progress("how sensitive each layer is", len(names), len(names))
        return tuple(sorted(moved, key=lambda one: -one[1]))

    def _left_out(self, order: list[str]) -> Iterator[tuple[str, ...]]:
        """Which layers stay in float32, step by step: first and last, then twice as many of the worst each time."""
        names = layers(self.model)
        ends = tuple(dict.fromkeys((names[0], names[-1])))
        yield ends
        others = [name for name in order if name not in ends]
        count = 1
        while count <= len(others) and len(ends) + count < len(names):
            yield (*ends, *others[:count])
            count *= 2


def _named(method: str, floating: int, *, narrow: bool) -> str:
    bits = "7-bit weights" if narrow else "8-bit weights"
    return f"{method}, {bits}" + (f", {floating} layers float" if floating else "")
