"""What became of a contract on the calibration images: clause by clause met, undecided or unmet, and what could be had
instead.

`met` is promised by a test at the contract's confidence. `undecided` looks right, or the images are too few to say; how
many would be needed is told. `unmet` means that these images, enough of them, say no. A certificate needs images of its
own: these have chosen the thresholds.

Shapes: N calibration images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sortal.core.contract import Contract
from sortal.core.decision import Decided, decide_from_probabilities
from sortal.core.labels import LabelSet
from sortal.core.report import Finding, Table
from sortal.core.shares import exact_upper
from sortal.evaluate.summary import percent
from sortal.evaluate.trust.control import Evidence, correlation, counts_of_prefixes, images_needed
from sortal.evaluate.trust.risk_coverage import RiskCoverage, coverage_at, risk_at, risk_coverage
from sortal.evaluate.trust.selection import Sighted, Thresholds, class_weights

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
State = Literal["met", "undecided", "unmet"]


@dataclass(frozen=True, kw_only=True)
class ClauseState:
    """One clause. `limit` and `reached` are in the contract's terms: an error, a coverage, a recall, a mean cost."""

    clause: str
    limit: float
    reached: float | None
    """On the calibration images; None where nothing can be said."""
    bound: float | None
    """The pessimistic end at the contract's confidence, where there is one."""
    images: int
    """What it was computed from."""
    state: State
    needed: int | None = None
    """Calibration images (of the class, for a recall) from which on such a share would be promised; None where more
    images alone would not do."""


@dataclass(frozen=True, kw_only=True)
class Attained:
    """All clauses that thresholds can meet, and what trade-off the calibration images offer."""

    clauses: tuple[ClauseState, ...]
    coverage: float
    error: float
    """Share of wrong answers among those given; 0 where none is."""
    coverage_at_error: float | None
    """Largest coverage with an observed error within the contract's, None without such a clause."""
    error_at_coverage: float | None
    """Observed error at the contract's coverage, or with everything answered."""

    @property
    def state(self) -> State:
        """The worst of all clauses."""
        states = {clause.state for clause in self.clauses}
        return "unmet" if "unmet" in states else "undecided" if "undecided" in states else "met"

    def table(self) -> Table:
        """One row a clause."""
        columns = ("clause", "limit", "reached", "bound", "images", "state", "needed")
        rows = [tuple(getattr(clause, name) for name in columns) for clause in self.clauses]
        return Table(columns=columns, rows=tuple(rows))


def attained(contract: Contract, thresholds: Thresholds, images: Sighted, labels: LabelSet) -> Attained:
    """Judge the thresholds on the images that they were fitted on."""
    decided = decide_from_probabilities(thresholds.decision, images.chances)
    weights = class_weights(contract, images.labels, labels)
    given, wrong = ~decided.abstained, decided.index != images.labels
    counted = np.ones(len(given)) if weights is None else weights
    coverage = float(counted[given].sum() / max(counted.sum(), 1e-12))
    error = float(counted[given & wrong].sum() / max(counted[given].sum(), 1e-12))
    sureness = images.chances[np.arange(len(given)), decided.index]
    curve = risk_coverage(sureness, wrong)
    judge = _Judge(contract, thresholds, images, decided, weights, curve)
    states = [judge.error(error, coverage), *judge.recalls(labels), judge.cost(), judge.coverage(coverage)]
    return Attained(
        clauses=tuple(state for state in states if state is not None),
        coverage=coverage,
        error=error,
        coverage_at_error=None if contract.max_error is None else coverage_at(curve, contract.max_error),
        error_at_coverage=risk_at(curve, contract.min_coverage or 1.0)[0],
    )


def attained_findings(found: Attained, contract: Contract) -> tuple[Finding, ...]:
    """One finding for each clause that is not met; the trade-off is in each."""
    return tuple(_finding(clause, found, contract) for clause in found.clauses if clause.state != "met")


class _Judge:
    def __init__(
        self,
        contract: Contract,
        thresholds: Thresholds,
        images: Sighted,
        decided: Decided,
        weights: Floats | None,
        curve: RiskCoverage,
    ):
        self.contract, self.level, self.images, self.curve = contract, thresholds.level, images, curve
        self.promised = {(fitted.clause, fitted.name): fitted.promised for fitted in thresholds.fitted}
        self.given, self.wrong = ~decided.abstained, decided.index != images.labels
        self.weights, self.index, self.costs = weights, decided.index, thresholds.decision.costs

    def error(self, error: float, coverage: float) -> ClauseState | None:
        limit = self.contract.max_error
        if limit is None:
            return None
        promised, shown = self.promised["max_error", ""], error <= limit and bool(self.given.any())
        enough = len(self.given) >= (images_needed(0.0, limit, self.level) or 1)
        needed = None if promised else _scaled(images_needed(error, limit, self.level), coverage)
        return ClauseState(
            clause="max_error",
            limit=limit,
            reached=error if self.given.any() else None,
            bound=self._bound(self.wrong[self.given], self.given),
            images=int(self.given.sum()),
            state="met" if promised else "undecided" if shown or not enough else "unmet",
            needed=needed,
        )

    def recalls(self, labels: LabelSet) -> Sequence[ClauseState]:
        found = []
        for name, floor in self.contract.recall.items():
            own = self.images.labels == labels.index(name)
            missed = (self.given & self.wrong)[own]
            share = float(missed.mean()) if own.any() else 0.0
            promised = self.promised.get(("recall", name), floor <= 0.0)
            bound = self._bound(missed, own)
            state = ClauseState(
                clause=f"recall of {name}",
                limit=floor,
                reached=1.0 - share if own.any() else None,
                bound=None if bound is None else 1.0 - bound,
                images=int(own.sum()),
                state="met" if promised else "undecided",
                needed=None if promised else images_needed(share, 1.0 - floor, self.level),
            )
            found.append(state)
        return found

    def cost(self) -> ClauseState | None:
        limit = self.contract.max_cost
        if limit is None or self.costs is None:
            return None
        matrix = np.asarray(self.costs)
        each = np.where(self.given, matrix[self.images.labels, self.index], 0.0)
        counted = np.ones(len(each)) if self.weights is None else self.weights
        mean, promised = float((counted * each).sum() / max(counted.sum(), 1e-12)), self.promised["max_cost", ""]
        largest = float(matrix.max()) or 1.0
        return ClauseState(
            clause="max_cost",
            limit=limit,
            reached=mean,
            bound=None,
            images=len(each),
            state="met" if promised else "undecided",
            needed=None if promised else images_needed(mean / largest, limit / largest, self.level),
        )

    def coverage(self, coverage: float) -> ClauseState | None:
        limit, max_error = self.contract.min_coverage, self.contract.max_error
        if limit is None:
            return None
        state: State = "met" if coverage >= limit else "unmet"
        needed = None
        if state == "unmet" and max_error is not None:
            needed = _scaled(images_needed(risk_at(self.curve, limit)[0], max_error, self.level), limit)
            enough = len(self.given) >= (images_needed(0.0, max_error, self.level) or 1)
            state = "undecided" if not enough or coverage_at(self.curve, max_error) >= limit else "unmet"
        return ClauseState(
            clause="min_coverage",
            limit=limit,
            reached=coverage,
            bound=None,
            images=len(self.given),
            state=state,
            needed=needed,
        )

    def _bound(self, bad: Bools, members: Bools) -> float | None:
        """Upper bound of the share of bad ones among members."""
        if not members.any():
            return None
        groups = None if self.images.groups is None else self.images.groups[members]
        weights = None if self.weights is None else self.weights[members]
        shared = 0.0 if groups is None else correlation(bad.astype(np.float64), groups)
        evidence = Evidence(bad=bad.astype(np.float64), weights=weights, groups=groups, correlation=shared)
        hits, total = counts_of_prefixes(evidence)
        return float(exact_upper(min(hits[-1], total[-1]), total[-1], self.contract.confidence))


def _scaled(answers: int | None, coverage: float) -> int | None:
    return None if answers is None or coverage <= 0.0 else ceil(answers / coverage)


def _finding(clause: ClauseState, found: Attained, contract: Contract) -> Finding:
    shown = "{:.4g}".format if clause.clause == "max_cost" else percent
    limit = f"{'at most' if clause.clause.startswith('max_') else 'at least'} {shown(clause.limit)}"
    reached = "nothing can be said" if clause.reached is None else f"{shown(clause.reached)} reached"
    by = ""
    if clause.reached is not None and clause.state == "unmet":
        by = f", off by {shown(abs(clause.reached - clause.limit))}"
    said = f"Contract, {clause.clause}: {limit} wanted, {reached} on {clause.images:,} calibration images{by}."
    verdict = {
        "unmet": "These images say that it cannot be met.",
        "undecided": "They are too few to promise it, so it is undecided.",
        "met": "",
    }[clause.state]
    needed = "" if clause.needed is None else f" About {clause.needed:,} such images would promise it."
    return Finding(
        code=f"contract_{clause.state}",
        severity="error" if clause.state == "unmet" else "warning",
        message=f"{said} {verdict}{needed} {_trade_off(found, contract)}".strip(),
        hint="sortal calibrate RUN IMAGES fits the thresholds anew on more images"
        if clause.state == "undecided"
        else "a better model, more training images, or another contract",
    )


def _trade_off(found: Attained, contract: Contract) -> str:
    parts = []
    if found.coverage_at_error is not None and contract.max_error is not None:
        parts.append(f"{percent(found.coverage_at_error)} answered with {percent(contract.max_error)} wrong")
    if found.error_at_coverage is not None:
        parts.append(f"{percent(found.error_at_coverage)} wrong with {percent(contract.min_coverage or 1.0)} answered")
    return f"Within reach here: {', or '.join(parts)}." if parts else ""
