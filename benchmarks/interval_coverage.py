"""How often nominal 95 % intervals hold the truth, in simulated evaluations whose truth is known.

    python benchmarks/interval_coverage.py [--seed 0] [--repetitions 500] [--parts shares macro images rankings]

Prints five tables. Wilson's interval, exactly, over a grid of true shares. The share of right answers where images come
in groups that are right or wrong together (beta-binomial; correlation 0 to 0.8 within a group; group sizes log-normal
around their mean), beside taking images as independent and beside the percentile and the studentized bootstrap of
groups. Macro F1 where images come in groups, of one class each or of mixed classes. Macro F1, average precision and
ROC-AUC of independent images. Every cell is printed; coverage is in percent, after it the mean width in points.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from sortal.evaluate.measure.grouped import Sample, grouped, share_interval, statistic_interval
from sortal.evaluate.measure.grouped_averages import grouped_average_intervals
from sortal.evaluate.measure.intervals import wilson
from sortal.evaluate.measure.metrics import average_intervals, confusion
from sortal.evaluate.measure.ranking import average_precision, roc_auc

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RIGHT = (0.8, 0.9, 0.95, 0.98)
DRAWS = 400


class Tally:
    """How often each way to make an interval held the truth, and how wide it was."""

    def __init__(self) -> None:
        self.held: dict[str, list[bool]] = {}
        self.width: dict[str, list[float]] = {}

    def add(self, name: str, low: float, high: float, truth: float) -> None:
        self.held.setdefault(name, []).append(low - 1e-12 <= truth <= high + 1e-12)
        self.width.setdefault(name, []).append(high - low)

    def line(self) -> str:
        cells = [f"{100 * np.mean(self.held[name]):.1f} ({100 * np.mean(self.width[name]):.1f})" for name in self.held]
        return " | ".join(cells)


def wilson_exactly() -> None:
    """Coverage by summing binomial probabilities; no simulation."""
    print("\n## Wilson, exact coverage | mean over shares 0.5 to 0.995 | least | mean over 0.9 to 0.995")
    for n in (20, 50, 100, 300, 1000, 2485):
        hits = np.arange(n + 1)
        low, high = wilson(hits, np.full(n + 1, n))
        logs = np.array([math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in hits])
        grid = np.linspace(0.5, 0.995, 496)
        chance = np.exp(logs + hits * np.log(grid)[:, None] + (n - hits) * np.log1p(-grid)[:, None])
        cover = (chance * ((low <= grid[:, None]) & (grid[:, None] <= high))).sum(axis=1)
        print(f"n = {n} | {100 * cover.mean():.1f} | {100 * cover.min():.1f} | {100 * cover[grid >= 0.9].mean():.1f}")


def group_sizes(generator: np.random.Generator, groups: int, mean: int) -> Ints:
    drawn = (generator.poisson(mean - 1, groups) + 1) * generator.lognormal(0, 0.5, groups)
    return np.maximum(1, np.round(drawn)).astype(np.int64)


def group_rates(generator: np.random.Generator, groups: int, right: float, correlation: float) -> Floats:
    if not correlation:
        return np.full(groups, right)
    strength = (1 - correlation) / correlation
    return generator.beta(right * strength, (1 - right) * strength, groups)


def resampled_shares(generator: np.random.Generator, hits: Ints, sizes: Ints) -> tuple[Floats, Floats]:
    """(B,) shares of right answers in resamples of groups, and their standard errors from the same groups."""
    drawn = generator.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=DRAWS)
    total = drawn @ sizes
    share = (drawn @ hits) / total
    spread = drawn * np.square(hits[None, :] - share[:, None] * sizes[None, :])
    return share, np.sqrt(spread.sum(axis=1)) / total


def shares_in_groups(seed: int, repetitions: int) -> None:
    print(
        "\n## Right answers in groups | effective sample size | images taken as independent | percentile bootstrap of"
    )
    print("groups | studentized bootstrap of groups")
    for groups, mean, correlation in product((5, 10, 20, 50, 100), (4, 30), (0.0, 0.1, 0.4, 0.8)):
        generator, tally = np.random.Generator(np.random.Philox(key=seed)), Tally()
        for right, number in product(RIGHT, range(repetitions)):
            sizes = group_sizes(generator, groups, mean)
            counted = generator.binomial(sizes, group_rates(generator, groups, right, correlation))
            codes = np.repeat(np.arange(groups), sizes)
            hits = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) < np.repeat(counted, sizes)
            tally.add("effective", *share_interval(grouped(codes), hits), right)
            tally.add("images", *map(float, wilson(counted.sum(), sizes.sum())), right)
            if number < repetitions // 2:
                share, error = resampled_shares(generator, counted, sizes)
                tally.add("percentile", *map(float, np.quantile(share, (0.025, 0.975))), right)
                tally.add("studentized", *_studentized(share, error, counted, sizes), right)
        print(f"{groups} groups of {mean}, correlation {correlation} | {tally.line()}", flush=True)


def _studentized(share: Floats, error: Floats, hits: Ints, sizes: Ints) -> tuple[float, float]:
    value = float(hits.sum() / sizes.sum())
    own = float(np.sqrt(np.square(hits - value * sizes).sum()) / sizes.sum())
    ratio = (share - value)[error > 0] / error[error > 0]
    if not len(ratio):
        return value, value
    low, high = np.quantile(ratio, (0.025, 0.975))
    return max(0.0, value - float(high) * own), min(1.0, value - float(low) * own)


def macro_in_groups(seed: int, repetitions: int) -> None:
    print("\n## Macro F1 of 5 classes in groups | jackknife of groups, widened | percentile bootstrap of groups")
    for pure, groups, mean, correlation in product((True, False), (20, 50, 100), (4, 20), (0.0, 0.3, 0.8)):
        generator, tally = np.random.Generator(np.random.Philox(key=seed)), Tally()
        for right, _ in product((0.9, 0.97), range(repetitions)):
            labels, answers, codes = classified(generator, groups, mean, right, correlation, pure=pure)
            found = grouped_average_intervals(grouped(codes), labels, answers, 5)["macro"]["f1"]
            tally.add("jackknife", *found, right)
            tally.add("percentile", *percentile_macro(generator, labels, answers, codes), right)
        kind = "one class each" if pure else "mixed"
        print(f"{groups} groups of {mean}, {kind}, correlation {correlation} | {tally.line()}", flush=True)


def classified(
    generator: np.random.Generator, groups: int, mean: int, right: float, correlation: float, *, pure: bool
) -> tuple[Ints, Ints, Ints]:
    """Labels, answers and groups of images of 5 equally frequent classes; wrong answers are spread evenly."""
    sizes = group_sizes(generator, groups, mean)
    codes = np.repeat(np.arange(groups), sizes)
    labels = (codes if pure else np.arange(len(codes))) % 5
    hit = generator.random(len(codes)) < group_rates(generator, groups, right, correlation)[codes]
    return labels, np.where(hit, labels, (labels + generator.integers(1, 5, len(codes))) % 5), codes


def percentile_macro(generator: np.random.Generator, labels: Ints, answers: Ints, codes: Ints) -> tuple[float, float]:
    groups, hit = int(codes.max()) + 1, labels == answers
    tables = [
        np.bincount(group * 5 + key, minlength=5 * groups).reshape(groups, 5)
        for group, key in ((codes[hit], labels[hit]), (codes, labels), (codes, answers))
    ]
    drawn = generator.multinomial(groups, np.full(groups, 1 / groups), size=DRAWS)
    hits, true, answered = (drawn @ table for table in tables)
    present = true + answered > 0
    scores = np.where(present, 2 * hits / np.maximum(true + answered, 1), 0.0).sum(axis=1) / present.sum(axis=1)
    low, high = np.quantile(scores, (0.025, 0.975))
    return float(low), float(high)


def averages_of_images(seed: int, repetitions: int) -> None:
    print("\n## Macro F1 of 10 classes, independent images | percentile bootstrap of images, widened")
    for images, right in product((300, 1000), (0.8, 0.9, 0.97, 0.995)):
        generator, tally = np.random.Generator(np.random.Philox(key=seed)), Tally()
        for number in range(repetitions):
            labels = np.arange(images) % 10
            hit = generator.random(images) < right
            answers = np.where(hit, labels, (labels + generator.integers(1, 10, images)) % 10)
            found = average_intervals(confusion(labels, answers, 10), 0.95, seed=number)["macro"]["f1"]
            tally.add("bootstrap", *found, right)
        print(f"{images} images, {right:.1%} right | {tally.line()}", flush=True)


def rankings(seed: int, repetitions: int) -> None:
    print("\n## Ranking of independent images, two normal distributions | average precision | ROC-AUC")
    for images, positives, shift in product((200, 1000), (0.05, 0.2), (1.0, 2.5)):
        generator, tally = np.random.Generator(np.random.Philox(key=seed)), Tally()
        many = np.arange(400_000) < positives * 400_000
        scores = generator.normal(size=len(many)) + shift * many
        truths = average_precision_score(many, scores), roc_auc_score(many, scores)
        own = np.arange(images) < positives * images
        for _ in range(repetitions):
            drawn = generator.normal(size=images) + shift * own
            for measure, truth in zip((average_precision, roc_auc), truths, strict=True):
                value, influence = measure(drawn, own)
                ends = statistic_interval(Sample(size=images), value, influence, counted=own)
                tally.add(measure.__name__, *ends, truth)
        print(f"{int(own.sum())} of {images} images, shift {shift} | {tally.line()}", flush=True)


PARTS: dict[str, Callable[[int, int], None]] = {
    "shares": shares_in_groups,
    "macro": macro_in_groups,
    "images": averages_of_images,
    "rankings": rankings,
}


def main() -> None:
    """Print the tables asked for; all but the shares with half the repetitions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    wilson_exactly()
    for name in given.parts:
        PARTS[name](given.seed, given.repetitions if name == "shares" else max(1, given.repetitions // 2))


if __name__ == "__main__":
    main()
