"""Finished candidates held against each other: timed in turns on one thread, and against the target's size and latency.

Answers are judged relative to the network as it is (`judge.price`): a clause that it misses already is no objection.
Size and latency are what the target has room for, so they are held against what the contract says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from sortal.compress.frontier.candidate import Candidate
from sortal.compress.frontier.explore import Explored
from sortal.compress.frontier.ground import Ground
from sortal.compress.frontier.pick import Point, standard_error
from sortal.compress.judge import Price
from sortal.compress.pricing import Budget
from sortal.compress.speed import interleaved_ms, time_ratio
from sortal.core.contract import Contract
from sortal.core.preprocess import normalize
from sortal.core.report import Metric
from sortal.evaluate.latency import Latency, encoded_images, measure_latency
from sortal.runtime.classifier import open_classifier
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine, Outputs
from sortal.runtime.network_input import NetworkInput

Floats = NDArray[np.float64]

LATENCY, SIZE = "max_latency_ms", "max_size_mb"
_DECISIONS, _DECISIONS_S = 300, 10.0
"""Measured for the 99th percentile of a candidate, which 299 bound, and the seconds after which it ends."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A candidate with everything that is said about it."""

    candidate: Candidate
    price: Price
    error: float
    """One standard error of the drop of accuracy, in points."""
    size_bytes: int
    """Of the model file."""
    artifact_bytes: int
    """Of all files that are deployed, which the contract counts."""
    engine: str
    ms: float
    """Median CPU milliseconds of one image, on one thread, network alone."""
    ratio: Metric
    """Its time over that of the network as it is."""
    latency: Latency | None
    """From bytes to decision on one thread, where the contract has a limit."""
    objection: str
    """Why it does not keep what is asked; empty where it does."""
    steady: bool
    """Within the budget with one standard error added to the drops."""
    original: bool

    @property
    def point(self) -> Point:
        """In numbers, for the choice."""
        return Point(
            accuracy=self.price.accuracy.value or 0.0,
            ms=self.ms,
            size_bytes=self.size_bytes,
            keeps=not self.objection,
            steady=self.steady,
            original=self.original,
        )


def measure(ground: Ground, explored: Explored, budget: Budget) -> tuple[Measured, ...]:
    """Every candidate that was made, in the order made; the first is the network as it is."""
    made = [one for one in explored.candidates if one.made]
    if not made:
        return ()
    ground.listener.say(f"timing {len(made)} networks in turns")
    times, engines = _timed(ground, made)
    found = []
    for number, one in enumerate(made):
        cost = explored.prices[one.wish]
        size = sum(path.stat().st_size for path in one.artifact.rglob("*") if path.is_file())
        latency = _latency(ground, one, engines[number])
        error = _error(ground, made[0], one)
        missed = target_misses(budget.contract, size, latency)
        found.append(
            Measured(
                candidate=one,
                price=cost,
                error=error,
                size_bytes=one.model.stat().st_size,
                artifact_bytes=size,
                engine=engines[number],
                ms=float(np.median(times[number])),
                ratio=time_ratio(times[0], times[number]),
                latency=latency,
                objection=budget.objection(cost) or missed,
                steady=_steady(cost, error, budget.max_drop),
                original=number == 0,
            )
        )
    return tuple(found)


def target_misses(contract: Contract | None, size_bytes: int, latency: Latency | None) -> str:
    """Which of the contract's limits of the target are missed, in words; empty where none is."""
    if contract is None:
        return ""
    found = []
    if contract.max_size_mb is not None and size_bytes / 1e6 > contract.max_size_mb:
        found.append(f"{size_bytes / 1e6:.2f} MB, the target has room for {contract.max_size_mb:g}")
    limit = contract.max_latency_ms
    if limit is not None and latency is not None and latency.p99_ms > limit:
        found.append(f"{latency.p99_ms:.1f} ms to a decision (99th percentile), the target allows {limit:g}")
    return "; ".join(found)


def _timed(ground: Ground, made: Sequence[Candidate]) -> tuple[list[Floats], list[str]]:
    """CPU milliseconds (rounds,) of each candidate on the faster of its engines, and which that is."""
    tried = [(number, name) for number, one in enumerate(made) for name in _engines(one)]
    opened = [_Fed(ground, made[number], name) for number, name in tried]
    try:
        times = interleaved_ms(opened, np.zeros((1, 1, 1, 1), np.float32))
    finally:
        for one in opened:
            one.close()
    best: dict[int, tuple[Floats, str]] = {}
    for (number, name), mine in zip(tried, times, strict=True):
        if number not in best or np.median(mine) < np.median(best[number][0]):
            best[number] = mine, name
    return [best[number][0] for number in range(len(made))], [best[number][1] for number in range(len(made))]


def _engines(one: Candidate) -> list[str]:
    """float32 runs on every engine that opens it; an int8 only on the one that it was judged on."""
    if one.wish.precision == "int8":
        return [one.record.engine]
    return ["onnxruntime", *(["openvino"] if find_spec("openvino") is not None else [])]


class _Fed:
    """An engine that answers about its own image whatever it is given: candidates take images of several sizes."""

    def __init__(self, ground: Ground, one: Candidate, engine: str):
        bundle = one.bundle()
        spec = bundle.preprocess
        grey = np.full((1, *spec.size, spec.channels), spec.maximum // 2, np.uint8 if spec.depth == 8 else np.uint16)
        random = np.random.Generator(np.random.Philox(key=ground.recipe.seed))
        noise = random.integers(-spec.maximum // 8, spec.maximum // 8, grey.shape)
        self._image = normalize(spec, (grey + noise).astype(grey.dtype))
        self._engine: Engine = ENGINES.get(engine).open(one.model, threads=1)

    @property
    def name(self) -> str:
        """Of the engine."""
        return self._engine.name

    @property
    def metadata(self) -> dict[str, str]:
        """Of the file."""
        return dict(self._engine.metadata)

    def run(self, batch: NetworkInput) -> Outputs:
        """About its own image."""
        del batch
        return self._engine.run(self._image)

    def close(self) -> None:
        """Give memory back."""
        self._engine.close()


def _latency(ground: Ground, one: Candidate, engine: str) -> Latency | None:
    """Only where the contract has a limit: it takes seconds for each candidate."""
    contract = ground.contract
    if contract is None or contract.max_latency_ms is None:
        return None
    rows = ground.table.split_rows("val")
    data = encoded_images(ground.table.select(rows), most=32)
    if not data:
        return None
    with open_classifier(one.artifact, engine=engine, threads=1) as opened:
        return measure_latency(opened, data, repeats=_DECISIONS, seconds=_DECISIONS_S, confidence=contract.confidence)


def _error(ground: Ground, own: Candidate, one: Candidate) -> float:
    truth = ground.truth
    before, after = (each.answers(truth).index == truth.labels for each in (own, one))
    return standard_error(before.astype(np.int64) - after.astype(np.int64), truth.groups)


def _steady(cost: Price, error: float, max_drop: float) -> bool:
    """Within the budget with a standard error to spare; that of the macro drop is read off its bootstrap interval."""
    macro = cost.macro_drop
    spread = 0.0 if macro.low is None or macro.high is None else (macro.high - macro.low) / (2 * 1.96)
    accuracy = (cost.accuracy_drop.value or 0.0) + error
    return max(accuracy, (macro.value or 0.0) + spread) <= max_drop + 1e-9
