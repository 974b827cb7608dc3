"""How often `sortal certify` certifies a classifier whose truth lies at the limit of its contract: at most 5 %.

    python benchmarks/certify_simulation.py --repetitions 10000

Every cell draws hold-outs of a classifier that is exactly as bad as the clause still allows, and counts how often the
clause is called kept (a mistake at the boundary, allowed in 5 %) and how often broken (at a single clause's level, also
allowed in 5 %); then hold-outs of one with a third of the bad events, and how often that one is called kept (power).
The sums that the method needs are computed for all repetitions at once; the first 10 of each cell are computed by
`sortal.evaluate.certify.rates` too, and must agree. Intervals: exact coverage, by summing the binomial distribution.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from sortal.core.incomplete_beta import log_beta_cdf
from sortal.core.incomplete_gamma import log_gamma_cdf
from sortal.core.shares import clopper_pearson, wilson
from sortal.evaluate.certify.rates import WARY, rate_of
from sortal.evaluate.latency import percentile_bounds

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
CHECKED = 10


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """R hold-outs, each of groups (images of one class and weight, `sizes` (R, G), `bad` (R, G)) of a stratum (G,)."""

    bad: Floats
    sizes: Floats
    weights: Floats
    """(R, G) of one image of the group; sums with sizes to 1 in each row."""
    strata: NDArray[np.int64]
    worst: float | Floats = 1.0
    """The largest badness of an image, (G,) where it differs."""
    grouped: bool = True


def judged(drawn: Drawn, limit: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Kept and broken (R,), as `Rate.stays_below` and `Rate.p_below` say."""
    events = drawn.bad * drawn.weights
    mean, variance = events.sum(axis=1), (events**2).sum(axis=1)
    heaviest = np.zeros(len(mean))
    full = drawn.sizes * drawn.weights * drawn.worst
    for stratum in np.unique(drawn.strata):
        inside = drawn.strata == stratum
        most, own = full[:, inside].max(axis=1), events[:, inside]
        total = own.sum(axis=1)
        if drawn.grouped:
            with np.errstate(divide="ignore", invalid="ignore"):
                wary = own.max(axis=1) * (1 + WARY * (own**2).sum(axis=1) / total**2)
            most = np.where(total > 0, np.minimum(most, wary), most)
        heaviest = np.maximum(heaviest, most)
    upper_mean, upper_variance = mean + heaviest, variance + heaviest**2
    kept = log_gamma_cdf(limit * upper_mean / upper_variance, upper_mean**2 / upper_variance) >= math.log(CONFIDENCE)
    some = mean > 0
    broken = np.zeros(len(mean), bool)
    chance = log_gamma_cdf(limit * mean[some] / variance[some], mean[some] ** 2 / variance[some])
    broken[some] = chance < math.log(1 - CONFIDENCE)
    _check(drawn, limit, kept, broken)
    return kept, broken


def _check(drawn: Drawn, limit: float, kept: NDArray[np.bool_], broken: NDArray[np.bool_]) -> None:
    """The first repetitions by the code of `sortal certify`."""
    for row in range(min(CHECKED, len(kept))):
        sizes = drawn.sizes[row].astype(int)
        codes = np.repeat(np.arange(len(sizes)), sizes)
        worst = np.broadcast_to(np.asarray(drawn.worst, np.float64), drawn.strata.shape)
        bad = drawn.bad[row]
        if drawn.grouped:
            bad = np.concatenate([_spread(b, n, w) for b, n, w in zip(bad, sizes, worst, strict=True)])
        rate = rate_of(
            bad,
            drawn.weights[row][codes],
            drawn.strata[codes],
            codes if drawn.grouped else None,
            worst=None if drawn.grouped else worst[codes],
        )
        if rate.hits is None and (not drawn.grouped or rate.groups is not None):
            assert rate.stays_below(limit, CONFIDENCE) == kept[row], row
            assert (rate.p_below(limit) < 1 - CONFIDENCE) == broken[row], row


def _spread(bad: float, size: int, worst: float) -> Floats:
    """A group's badness over its images, none above `worst`."""
    return np.clip(bad - worst * np.arange(size), 0, worst)


def group_sizes(random: np.random.Generator, kind: str, shape: tuple[int, int], mean: int) -> Floats:
    """Equal sizes, or geometric ones with that mean: most groups small, a few very large."""
    drawn = np.full(shape, mean) if kind == "equal" else random.geometric(1 / mean, shape)
    return drawn.astype(np.float64)


def together(random: np.random.Generator, share: float, correlation: float, sizes: Floats) -> Floats:
    """How many of each group are bad: beta-binomial with that intra-class correlation."""
    whole = sizes.astype(np.int64)
    if correlation == 0:
        return random.binomial(whole, share).astype(np.float64)
    if correlation == 1:
        return sizes * (random.random(sizes.shape) < share)
    scale = (1 - correlation) / correlation
    return random.binomial(whole, random.beta(share * scale, (1 - share) * scale, sizes.shape)).astype(np.float64)


Cell = tuple[str, float, Callable[[np.random.Generator, int, float], Drawn]]
"""Name, limit, and what draws R hold-outs of a classifier at `factor` times the limit."""


def grouped_cells() -> Iterator[Cell]:
    shapes = [(100, 10, 0.02), (300, 10, 0.02), (1000, 5, 0.02), (50, 20, 0.1), (300, 5, 0.05), (40, 20, 0.1)]
    for kind in ("equal", "skewed"):
        for groups, mean, limit in shapes:
            for correlation in (0, 0.1, 0.3, 0.5, 0.8, 1):

                def draw(
                    random: np.random.Generator, repetitions: int, factor: float, *, kind: str = kind,
                    groups: int = groups, mean: int = mean, limit: float = limit, correlation: float = correlation,
                ) -> Drawn:  # fmt: skip
                    sizes = group_sizes(random, kind, (repetitions, groups), mean)
                    bad = together(random, limit * factor, correlation, sizes)
                    weights = np.broadcast_to(1 / sizes.sum(axis=1, keepdims=True), sizes.shape)
                    return Drawn(bad=bad, sizes=sizes, weights=weights, strata=np.zeros(groups, np.int64))

                yield f"{groups} groups of {mean} ({kind}), correlation {correlation}", limit, draw


PREVALENCES = [
    ((0.005, 0.995), (200, 800), (0.9, 0.9), (1.0, 1.0)),
    ((0.005, 0.995), (30, 3000), (0.5, 0.95), (20.0, 0.9)),
    ((0.2, 0.8), (50, 950), (0.5, 0.95), (5.0, 0.1)),
    ((0.5, 0.5), (50, 950), (0.5, 0.95), (5.0, 0.0)),
    ((0.5, 0.5), (500, 500), (0.3, 0.6), (5.0, 0.0)),
    ((0.001, 0.999), (100, 5000), (0.7, 0.9), (100.0, 1.0)),
    ((0.1,) * 10, (100,) * 10, (0.9,) * 10, (1.0,) * 10),
    ((0.1,) * 10, (20, 30, 40, 50, 60, 100, 200, 300, 400, 500), (0.5,) * 10, (5.0, *(1.0,) * 9)),
]
"""Prevalence, hold-out images, share answered and relative error of each class."""


def prevalence_cells() -> Iterator[Cell]:
    """`max_error` among answers, of which the number is random too."""
    for case in PREVALENCES:
        for limit in (0.01, 0.05, 0.2):
            shares, counts, answered, relative = (np.array(part, np.float64) for part in case)
            error = relative * limit * (shares @ answered) / (shares @ (answered * relative))
            if error.max() > 1:
                continue

            def draw(
                random: np.random.Generator, repetitions: int, factor: float, *, shares: Floats = shares,
                counts: Floats = counts, answered: Floats = answered, error: Floats = error,
            ) -> Drawn:  # fmt: skip
                classes = np.repeat(np.arange(len(counts)), counts.astype(int))
                given = random.random((repetitions, len(classes))) < answered[classes]
                bad = given & (random.random(given.shape) < factor * error[classes])
                weight = (shares / counts)[classes] * given
                weights = weight / weight.sum(axis=1, keepdims=True)
                one = np.broadcast_to(1.0, bad.shape)
                return Drawn(bad=bad * 1.0, sizes=one, weights=weights, strata=classes, grouped=False)

            yield f"prevalence {case[0][:2]} of {len(counts)}, images {case[1][:2]}, errors {case[3][:2]}", limit, draw


def prevalence_group_cells() -> Iterator[Cell]:
    """A rare class of few groups beside a frequent one."""
    for rare, groups in ((0.005, (60, 300)), (0.05, (60, 300)), (0.3, (60, 300)), (0.05, (20, 200))):
        for correlation in (0, 0.2, 0.5, 1):
            for limit in (0.02, 0.1):

                def draw(
                    random: np.random.Generator, repetitions: int, factor: float, *, rare: float = rare,
                    groups: tuple[int, int] = groups, correlation: float = correlation, limit: float = limit,
                ) -> Drawn:  # fmt: skip
                    strata = np.repeat([0, 1], groups)
                    sizes = group_sizes(random, "skewed", (repetitions, len(strata)), 4)
                    relative = min(3.0, 0.9 / limit)
                    errors = np.array([relative, (1 - rare * relative) / (1 - rare)]) * limit * factor
                    bad = np.concatenate(
                        [together(random, errors[s], correlation, sizes[:, strata == s]) for s in (0, 1)], axis=1
                    )
                    totals = np.stack([sizes[:, strata == s].sum(axis=1) for s in (0, 1)], axis=1)
                    weights = (np.array([rare, 1 - rare]) / totals)[:, strata]
                    return Drawn(bad=bad, sizes=sizes, weights=weights, strata=strata)

                yield f"rare class {rare}, groups {groups}, correlation {correlation}", limit, draw


COSTS = [(50.0, 0.05, (50, 950)), (50.0, 0.05, (300, 700)), (1000.0, 0.01, (500, 4500)), (5.0, 0.5, (300, 300))]
"""Cost of the dear mistake, prevalence of its class, images of its class and of the other."""


def cost_cells() -> Iterator[Cell]:
    """A frequent cheap mistake and a rare dear one, with and without prevalence."""
    for dear, share, images in COSTS:
        for part in (0.1, 0.5, 0.9):
            limit = 0.3

            def draw(
                random: np.random.Generator, repetitions: int, factor: float, *, dear: float = dear,
                share: float = share, images: tuple[int, int] = images, part: float = part, limit: float = limit,
            ) -> Drawn:  # fmt: skip
                classes = np.repeat([0, 1], images)
                costs = np.array([dear, 1.0])
                chance = factor * limit * np.array([part, 1 - part]) / (costs * np.array([share, 1 - share]))
                bad = (random.random((repetitions, len(classes))) < chance[classes]) * costs[classes]
                weights = np.broadcast_to((np.array([share, 1 - share]) / images)[classes], bad.shape)
                one = np.broadcast_to(1.0, bad.shape)
                return Drawn(bad=bad, sizes=one, weights=weights, strata=classes, worst=costs[classes], grouped=False)

            if limit * part / (dear * share) <= 1 and limit * (1 - part) / (1 - share) <= 1:
                yield f"cost {dear:g} to 1, class share {share}, images {images}, dear part {part}", limit, draw


def share_rates(random: np.random.Generator, repetitions: int) -> Iterator[tuple[str, float, float, float]]:
    """The exact bounds: error among a random number of answers, coverage, recall (name, kept, broken, power)."""
    for name, n, limit, answered in (
        ("max_error, 300 images", 300, 0.02, 0.8), ("max_error, 2,000 images", 2000, 0.01, 0.9),
        ("min_coverage 90 %, 500 images", 500, 0.1, 1.0), ("recall 98 %, 149 images", 149, 0.02, 1.0),
        ("recall 98 %, 1,000 images", 1000, 0.02, 1.0), ("unit group, 200 parts", 200, 0.05, 0.9),
    ):  # fmt: skip
        total = random.binomial(n, answered, repetitions).astype(np.float64)
        found = []
        for factor in (1.0, 1 / 3):
            hits = random.binomial(total.astype(int), limit * factor).astype(np.float64)
            fixed = np.full(repetitions, limit)
            tail = log_beta_cdf(fixed, hits + 1, np.maximum(total - hits, 0.5))
            kept = (hits < total) & (tail >= math.log(CONFIDENCE))
            over = log_beta_cdf(fixed, np.maximum(hits, 0.5), total - hits + 1)
            found += [kept.mean(), ((hits > 0) & (over < math.log(1 - CONFIDENCE))).mean()]
        yield name, found[0], found[1], found[2]


def latency_rates(random: np.random.Generator, repetitions: int) -> Iterator[tuple[str, float, float, float]]:
    """A 99th percentile at the limit, for a smooth and a two-humped distribution."""
    for name, n in (("p99, 300 calls", 300), ("p99, 550 calls", 550)):
        uniform = random.random((repetitions, n))
        bounds = [percentile_bounds(row, 0.99, CONFIDENCE) for row in uniform]
        kept = np.mean([high is not None and high <= 0.99 for _, high in bounds])
        broken = np.mean([low > 0.99 for low, _ in bounds])
        power = np.mean([high is not None and high <= 0.9966 for _, high in bounds])
        yield f"{name} (any distribution)", float(kept), float(broken), float(power)


def interval_coverage() -> None:
    """Coverage of 95 % intervals over a grid of shares, exactly."""
    shares = np.linspace(0.005, 0.995, 397)
    for n in (10, 30, 100, 300, 1000):
        k = np.arange(n + 1)
        chance = binom.pmf(k[None, :], n, shares[:, None])
        for name, (low, high) in (("Clopper-Pearson", clopper_pearson(k, n)), ("Wilson", wilson(k, n))):
            inside = (low <= shares[:, None]) & (shares[:, None] <= high)
            covered = (chance * inside).sum(axis=1)
            print(f"{name:16} n={n:5}: mean {covered.mean():.4f}, least {covered.min():.4f}")


def main() -> None:
    """Print one line a cell, then the worst of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repetitions", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one kind: exact, latency, prevalence, cost, groups, 'groups, prevalence'")
    asked = parser.parse_args()
    random, slack = np.random.default_rng(asked.seed), 3 * math.sqrt(0.05 * 0.95 / asked.repetitions)
    worst: dict[str, tuple[float, float]] = {}

    def told(kind: str, name: str, kept: float, broken: float, power: float) -> None:
        before = worst.get(kind, (0.0, 0.0))
        worst[kind] = (max(before[0], kept), max(before[1], broken))
        print(f"{kind:18} {name:74} kept {kept:.4f}  broken {broken:.4f}  power {power:.2f}", flush=True)

    closed = {"exact": share_rates, "latency": latency_rates}
    for kind, rates in closed.items():
        for name, kept, broken, power in rates(random, asked.repetitions) if asked.only in (None, kind) else ():
            told(kind, name, kept, broken, power)
    kinds = {
        "prevalence": prevalence_cells,
        "cost": cost_cells,
        "groups": grouped_cells,
        "groups, prevalence": prevalence_group_cells,
    }
    for kind, cells in kinds.items():
        for name, limit, draw in cells() if asked.only in (None, kind) else ():
            parts = max(1, round(asked.repetitions / 500))
            results = [judged(draw(random, asked.repetitions // parts, 1.0), limit) for _ in range(parts)]
            kept, broken = (float(np.concatenate(found).mean()) for found in zip(*results, strict=True))
            power = float(judged(draw(random, 500, 1 / 3), limit)[0].mean())
            told(kind, f"{name}, limit {limit:g}", kept, broken, power)
    for kind, (kept, broken) in worst.items():
        print(f"worst of {kind}: certified at the limit {kept:.4f}, accused at the limit {broken:.4f}")
    print(f"allowed: 0.05 + {slack:.4f}")
    interval_coverage()


if __name__ == "__main__":
    main()
