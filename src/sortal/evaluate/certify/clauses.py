"""The clauses of a contract as rates that must stay below a limit, measured on units.

`max_error` is a share of the answers given, `min_coverage` the complement of what is not answered, `recall` of a class
the complement of what was answered wrong, `max_cost` a mean. With a prevalence, classes are mixed anew by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sortal.core.contract import Contract
from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.evaluate.certify.rates import Floats, Rate, rate_of
from sortal.evaluate.certify.units import Units
from sortal.evaluate.latency import PERCENTILE, Latency, percentile_bounds
from sortal.evaluate.measure.costs import cost_matrix


class Bounded(Protocol):
    """What a clause is about: a number that is better when lower, with one-sided bounds and their tests."""

    @property
    def value(self) -> float | None:
        """The estimate."""

    @property
    def count(self) -> int:
        """From how many it was computed."""

    def upper(self, confidence: float, /) -> float:
        """One-sided upper bound."""

    def lower(self, confidence: float, /) -> float:
        """One-sided lower bound."""

    def stays_below(self, limit: float, confidence: float, /) -> bool:
        """Whether the upper bound is within the limit."""

    def p_below(self, limit: float, /) -> float:
        """The largest chance of data as bad as these while the truth is within the limit."""


@dataclass(frozen=True, kw_only=True)
class Exactly:
    """A number that was read off, not estimated."""

    value: float | None
    count: int = 1

    def upper(self, _confidence: float) -> float:
        """The number itself."""
        return math.inf if self.value is None else self.value

    def lower(self, _confidence: float) -> float:
        """The number itself."""
        return 0.0 if self.value is None else self.value

    def stays_below(self, limit: float, _confidence: float) -> bool:
        """Whether it does."""
        return self.value is not None and self.value <= limit

    def p_below(self, limit: float) -> float:
        """0 or 1."""
        return 0.0 if self.value is not None and self.value > limit else 1.0


@dataclass(frozen=True, kw_only=True)
class Slowest:
    """The 99th percentile of measured times: it is within a limit where at most 1 % of all calls take longer."""

    times: Floats

    @property
    def value(self) -> float | None:
        """The measured percentile, ms."""
        return float(np.percentile(self.times, 100 * PERCENTILE)) if len(self.times) else None

    @property
    def count(self) -> int:
        """Measured decisions."""
        return len(self.times)

    def upper(self, confidence: float) -> float:
        """Infinite where too few were measured."""
        high = percentile_bounds(self.times, PERCENTILE, confidence)[1] if len(self.times) else None
        return math.inf if high is None else high

    def lower(self, confidence: float) -> float:
        """From order statistics."""
        return percentile_bounds(self.times, PERCENTILE, confidence)[0] if len(self.times) else 0.0

    def stays_below(self, limit: float, confidence: float) -> bool:
        """By order statistics."""
        return self.upper(confidence) <= limit

    def p_below(self, limit: float) -> float:
        """Of the calls that took longer, counted: a binomial tail."""
        longer = Rate(value=1.0, count=self.count, hits=float((self.times > limit).sum()), total=self.count)
        return longer.p_below(1 - PERCENTILE)


@dataclass(frozen=True, kw_only=True)
class Clause:
    """One promise: `bad` must not exceed `limit`. What people are told is `promised` and `told(bad)`."""

    key: str
    """`max_error`, `recall.crack` ..."""
    promised: float
    limit: float
    bad: Bounded
    complement: bool = False
    """Whether the contract speaks of 1 - bad (coverage, recall)."""
    of: str
    """What is counted, in the plural: `answers`, `images of crack`."""
    missing: tuple[tuple[str, float], ...] = ()
    """Classes with a prevalence and without an image, with their share."""

    def told(self, bad: float) -> float:
        """A value of `bad` as the contract speaks of it."""
        return 1.0 - bad if self.complement else bad


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How much each unit stands for."""

    weights: Floats
    """(N,) sums to 1 less the share of classes that have no unit."""
    strata: NDArray[np.int64]
    """(N,) units of different weight are told apart."""
    missing: tuple[tuple[str, float], ...] = ()

    @property
    def unseen(self) -> float:
        """Share of classes that have no unit."""
        return sum(share for _, share in self.missing)


def mixture(contract: Contract, units: Units) -> Mixture:
    """The mix that the contract states, or that of the units. Raises DataError where a stated mix leaves a rest to
    classes that are not there."""
    n, counts = len(units.labels), units.counts()
    if not contract.prevalence:
        return Mixture(weights=np.full(n, 1 / max(n, 1)), strata=np.zeros(n, np.int64))
    stated = np.array([contract.prevalence.get(name, np.nan) for name in units.names])
    given = ~np.isnan(stated)
    rest, others = 1.0 - float(stated[given].sum()), np.where(given, 0, counts)
    if rest > 1e-9 and not others.sum():
        hint = "state shares that are 1 together, or add images of the other classes"
        said = f"the prevalences are {1 - rest:g} together, and no other class has an image"
        raise DataError(said, where="contract.prevalence", hint=hint)
    shares = np.where(given, np.nan_to_num(stated), max(rest, 0.0) * others / max(others.sum(), 1))
    empty = [(name, float(share)) for name, share, count in zip(units.names, shares, counts, strict=True) if not count]
    return Mixture(
        weights=(shares / np.maximum(counts, 1))[units.labels],
        strata=units.labels,
        missing=tuple((name, share) for name, share in empty if share > 0),
    )


def clauses_of(
    contract: Contract,
    units: Units,
    labels: LabelSet,
    *,
    latency: Latency | None = None,
    size_bytes: int | None = None,
) -> list[Clause]:
    """Every clause of the contract, measured; those without data have no value and can only be undecided."""
    mix = mixture(contract, units)
    makers: list[Callable[[], list[Clause]]] = [
        lambda: _error(contract, units, mix),
        lambda: _coverage(contract, units, mix),
        lambda: _recalls(contract, units),
        lambda: _cost(contract, units, mix, labels),
        lambda: _deployment(contract, latency, size_bytes),
    ]
    return [clause for make in makers for clause in make()]


def _error(contract: Contract, units: Units, mix: Mixture) -> list[Clause]:
    if contract.max_error is None:
        return []
    rate = _rate(units, units.wrong, units.answered, mix)
    return [
        Clause(
            key="max_error",
            promised=contract.max_error,
            limit=contract.max_error,
            bad=rate,
            of="answers",
            missing=mix.missing,
        )
    ]


def _coverage(contract: Contract, units: Units, mix: Mixture) -> list[Clause]:
    if contract.min_coverage is None:
        return []
    return [
        Clause(
            key="min_coverage",
            promised=contract.min_coverage,
            limit=1.0 - contract.min_coverage,
            bad=_rate(units, ~units.answered, np.ones(len(units.labels), bool), mix),
            complement=True,
            of=f"{_plural(units.unit)}",
            missing=mix.missing,
        )
    ]


def _recalls(contract: Contract, units: Units) -> list[Clause]:
    alike = Mixture(weights=np.ones(len(units.labels)), strata=np.zeros(len(units.labels), np.int64))
    return [
        Clause(
            key=f"recall.{name}",
            promised=share,
            limit=1.0 - share,
            bad=_rate(units, units.wrong, units.labels == units.names.index(name), alike),
            complement=True,
            of=f"{_plural(units.unit)} of {name}",
        )
        for name, share in contract.recall.items()
    ]


def _cost(contract: Contract, units: Units, mix: Mixture, labels: LabelSet) -> list[Clause]:
    if contract.max_cost is None:
        return []
    listed = cost_matrix(contract.costs, labels)
    matrix = np.concatenate([listed, np.tile(listed.max(axis=0), (len(units.names) - units.known, 1))])
    costs = np.where(units.answered, matrix[units.labels, units.index], 0.0)
    worst = matrix.max(axis=1)[units.labels]
    rate = rate_of(costs, mix.weights, units.labels, units.groups, worst=worst, unseen=mix.unseen)
    return [
        Clause(
            key="max_cost",
            promised=contract.max_cost,
            limit=contract.max_cost,
            bad=rate,
            of=_plural(units.unit),
            missing=mix.missing,
        )
    ]


def _deployment(contract: Contract, latency: Latency | None, size_bytes: int | None) -> list[Clause]:
    found = []
    if contract.max_latency_ms is not None:
        times = np.array([] if latency is None else latency.times_ms, np.float64)
        limit = contract.max_latency_ms
        found.append(
            Clause(key="max_latency_ms", promised=limit, limit=limit, bad=Slowest(times=times), of="measured decisions")
        )
    if contract.max_size_mb is not None:
        size = Exactly(value=None if size_bytes is None else size_bytes / 1e6)
        limit = contract.max_size_mb
        found.append(Clause(key="max_size_mb", promised=limit, limit=limit, bad=size, of="artifact"))
    return found


def _rate(units: Units, bad: NDArray[np.bool_], counted: NDArray[np.bool_], mix: Mixture) -> Rate:
    return rate_of(
        bad[counted].astype(np.float64),
        mix.weights[counted],
        mix.strata[counted],
        None if units.groups is None else units.groups[counted],
        unseen=mix.unseen,
    )


def _plural(unit: str) -> str:
    return "images" if unit == "image" else f"groups ({unit})"
