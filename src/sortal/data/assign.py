"""Which unit goes to which part, on plain arrays: rounding that stays within one sample, and a greedy rule for groups.

Parts are the splits (train first) or the folds of a cross-validation.

A unit is one row, or several that must stay together. Units of one row are dealt class by class: each split gets the
floor or the ceiling of its share. Larger units come first, largest first, each to the split that needs its classes
most (the idea of scikit-learn's StratifiedGroupKFold, for unequal shares).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Shares = Sequence[float]

TRAIN = 0


def assign(
    labels: Ints,
    units: Ints,
    shares: Shares,
    generator: np.random.Generator,
    *,
    held: tuple[Ints, Ints] | None = None,
) -> Ints:
    """(N,) numbers of parts with these `shares` for rows of class `labels` (0 or more); rows of equal `units` stay
    together. `held` are the labels (M,) and parts (M,) of rows that have a part already and count as theirs."""
    placed, parts = (np.zeros(0, np.int64), np.zeros(0, np.int64)) if held is None else held
    _, coded = np.unique(np.concatenate([labels, placed]), return_inverse=True)
    ideal = np.bincount(coded)[:, None] * np.asarray(shares)
    given = np.zeros_like(ideal)
    np.add.at(given, (coded[len(labels) :], parts), 1.0)
    labels = coded[: len(labels)]
    _, first, unit_of, sizes = np.unique(units, return_index=True, return_inverse=True, return_counts=True)
    chosen = np.full(len(sizes), -1, dtype=np.int64)
    large = np.flatnonzero(sizes > 1)
    if large.size:
        _place_large(large, labels, unit_of, sizes, ideal, given, chosen, generator)
    alone = np.flatnonzero(sizes == 1)
    if alone.size:
        _deal(alone, labels[first[alone]], ideal, given, chosen, generator)
    picked: Ints = chosen[unit_of]
    return picked


def round_shares(count: int, wanted: Floats, ideal: Floats, deficit: Floats, have: Floats) -> Ints:
    """How `count` single samples of a class are divided among the splits, as whole numbers that add up to `count`.

    `wanted` (adding up to `count`) is what each split still lacks of its share, `ideal` its share of the whole class,
    `deficit` by how much a split was shorted by rounding so far, `have` what it holds already. Each split gets the
    floor or ceiling of what it wants, but one sample at least where that keeps all within one sample of what they want.
    """
    positive = ideal > 0
    least = (positive & (have == 0)).astype(np.int64)
    dealt = np.floor(wanted + 1e-9).astype(np.int64)
    raised = np.maximum(dealt, least)
    raised[TRAIN] = count - raised[1:].sum()
    lifted = bool((raised[1:] > dealt[1:]).any()) and raised[TRAIN] >= least[TRAIN]
    if lifted and bool((np.abs(raised - wanted) <= 1.0 + 1e-9).all()):
        return np.asarray(raised)
    empty = positive & (dealt + have == 0)
    trains = np.arange(len(dealt)) == TRAIN
    order = np.lexsort((-(deficit + wanted - dealt), ~empty, ~(empty & trains), ~positive))
    dealt[order[: count - int(dealt.sum())]] += 1
    return np.asarray(dealt)


def _deal(
    alone: Ints,
    classes: Ints,
    ideal: Floats,
    given: Floats,
    chosen: Ints,
    generator: np.random.Generator,
) -> None:
    """Divide the units of one row class by class, classes and units in shuffled order."""
    shuffled = generator.permutation(len(alone))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    counts = np.bincount(classes, minlength=len(ideal))
    ends = np.cumsum(counts)
    deficit = np.zeros(ideal.shape[1])
    for number in generator.permutation(len(ideal)):
        count = int(counts[number])
        if not count:
            continue
        wanted = _wanted(count, ideal[number] - given[number], ideal[number])
        dealt = round_shares(count, wanted, ideal[number], deficit, given[number])
        deficit += wanted - dealt
        members = alone[by_class[ends[number] - count : ends[number]]]
        chosen[members] = np.repeat(np.arange(len(dealt)), dealt)


def _wanted(count: int, lacking: Floats, ideal: Floats) -> Floats:
    """What each split lacks, scaled to add up to `count` where some split has too much already."""
    lacking = np.clip(lacking, 0.0, None)
    scaled: Floats = (lacking if lacking.sum() > 0 else ideal) * (
        count / (lacking if lacking.sum() > 0 else ideal).sum()
    )
    return scaled


def _place_large(
    large: Ints,
    labels: Ints,
    unit_of: Ints,
    sizes: Ints,
    ideal: Floats,
    given: Floats,
    chosen: Ints,
    generator: np.random.Generator,
) -> None:
    """Place the units of several rows, adding what they bring to `given`."""
    position = np.full(len(sizes), -1, dtype=np.int64)
    position[large] = np.arange(len(large))
    rows = np.flatnonzero(position[unit_of] >= 0)
    pairs, numbers = np.unique(position[unit_of[rows]] * len(ideal) + labels[rows], return_counts=True)
    owners, classes = pairs // len(ideal), pairs % len(ideal)
    starts = np.searchsorted(owners, np.arange(len(large) + 1))
    total = np.maximum(ideal.sum(axis=1), 1.0)
    forced = _reserved(owners, classes, sizes[large], ideal, labels, unit_of, sizes, generator)
    order = generator.permutation(len(large))
    order = order[np.argsort(-sizes[large][order], kind="stable")]
    for unit in (*forced, *(number for number in order if number not in forced)):
        part = slice(starts[unit], starts[unit + 1])
        need = ((ideal[classes[part]] - given[classes[part]]) * (numbers[part] / total[classes[part]])[:, None]).sum(
            axis=0
        )
        need[ideal.sum(axis=0) <= 0] = -np.inf
        target = forced.get(int(unit), int(np.argmax(need)))
        chosen[large[unit]] = target
        given[classes[part], target] += numbers[part]


def _reserved(
    owners: Ints,
    classes: Ints,
    unit_sizes: Ints,
    ideal: Floats,
    labels: Ints,
    unit_of: Ints,
    sizes: Ints,
    generator: np.random.Generator,
) -> dict[int, int]:
    """Units set aside so that a class of as many units as parts is in every part: its smallest go to the last parts.

    Rare classes choose first; a class with enough single rows needs none.
    """
    single = np.bincount(labels[sizes[unit_of] == 1], minlength=len(ideal))
    per_class = np.bincount(classes, minlength=len(ideal))
    splits = [number for number in reversed(range(ideal.shape[1])) if ideal[:, number].sum() > 0]
    kept: dict[int, int] = {}
    jitter = generator.random(len(unit_sizes))
    sorted_pairs = np.lexsort((jitter[owners], unit_sizes[owners], classes))
    starts = np.searchsorted(classes[sorted_pairs], np.arange(len(ideal) + 1))
    for number in np.argsort(per_class, kind="stable"):
        if (
            single[number] >= ideal.shape[1]
            or per_class[number] + single[number] < len(splits)
            or not per_class[number]
        ):
            continue
        mine = owners[sorted_pairs[starts[number] : starts[number + 1]]]
        held = {kept[int(unit)] for unit in mine if int(unit) in kept}
        free = (int(unit) for unit in mine if int(unit) not in kept)
        kept.update(zip(free, (split for split in splits if split not in held), strict=False))
    return kept
