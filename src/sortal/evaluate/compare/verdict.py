"""The verdict of a comparison in one plain sentence, and what it rests on."""

from __future__ import annotations

from sortal.core.report import Metric
from sortal.evaluate.compare.paired import PairedTest, images_needed

GAP = 0.01
"""The gap in accuracy, one percentage point, that the number of images needed is told for."""


def better_of(test: PairedTest, confidence: float) -> int:
    """1 where the second classifier is better beyond chance, -1 where the first is, else 0."""
    if test.p > 1 - confidence or test.better == test.worse:
        return 0
    return 1 if test.better > test.worse else -1


def verdict(test: PairedTest, gap: Metric, names: tuple[str, str], *, confidence: float, wrong: tuple[int, int]) -> str:
    """One sentence: which is better, by how many images and how surely, or what it would take to know.

    `gap` is the difference in accuracy with its interval, `wrong` how many images each got wrong.
    """
    side = better_of(test, confidence)
    if side == 0:
        return _undecided(test, names, confidence, wrong)
    name, fewer = names[max(side, 0)], abs(test.better - test.worse)
    return (
        f"{name} is better: {fewer:,} {'image' if fewer == 1 else 'images'} fewer wrong of {test.n:,} "
        f"({_points(gap, side, confidence)}), p = {p_text(test.p)}."
    )


def p_text(p: float) -> str:
    """A p value for people: `0.012`, `0.0004`, `below 0.0001`."""
    if p < 1e-4:
        return "below 0.0001"
    return f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def _points(gap: Metric, side: int, confidence: float) -> str:
    value, low, high = (100 * side * (end or 0.0) for end in (gap.value, gap.low, gap.high))
    low, high = min(low, high), max(low, high)
    return f"{value:.1f} points of accuracy, {confidence:.0%} interval {low:.1f} to {high:.1f}"


def _undecided(test: PairedTest, names: tuple[str, str], confidence: float, wrong: tuple[int, int]) -> str:
    seen = f"{names[0]} got {wrong[0]:,} wrong, {names[1]} {wrong[1]:,} of {test.n:,} (p = {p_text(test.p)})"
    needed = rounded(images_needed(test, GAP, confidence=confidence))
    if needed <= test.n:
        return f"No difference: {seen}; a gap of 1 point would very likely have shown."
    return (
        f"No difference that this many images could show: {seen}; "
        f"about n = {needed:,} images like these would show a gap of 1 point."
    )


def rounded(count: int) -> int:
    """Two digits are all that such an estimate is worth; rounded up."""
    step = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // step) * step
