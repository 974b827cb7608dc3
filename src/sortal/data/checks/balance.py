"""Balance: how many images each class has to learn from and to be judged by, and which classes have too few of either.

Finds classes without images, rare ones, unequal sizes, classes below the recommended number, and classes whose recall
could only be told with a wide interval because so few images would test it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Finding, Table
from sortal.core.shares import wilson
from sortal.data.checks.material import Material, Outcome
from sortal.data.formats.classes import split_counts
from sortal.data.statistics import (
    class_buckets,
    images_to_learn_from,
    imbalance_findings,
    imbalance_ratio,
    rare_findings,
)
from sortal.data.table import SPLITS, ImageTable, finding

TEST_SHARE = 0.15
"""Of a class that would test it where there is no split yet: what a recipe sets aside."""
EXPECTED_RECALL = 0.9
"""At which the width of an interval is told: the higher a recall, the better it is known."""
WIDE_POINTS = 15.0
"""Half width of an interval, in points of recall, from which on a class is too small to evaluate: below 17 images."""
NAMED = 5


def check(material: Material) -> Outcome:
    """Findings `class_without_images`, `rare_class`, `imbalance`, `few_images`, `uncertain_class`; table `classes`."""
    table, limits = material.table, material.limits
    counts = split_counts(table)
    filled = {name: row["all"] for name, row in counts.items() if row["all"]}
    if not filled:
        return Outcome()
    buckets = class_buckets(table, rare=limits.rare)
    learned = images_to_learn_from(table)
    rare = [name for name in buckets["rare"] if name in filled]
    tested = _tested(table, counts)
    found = [
        *_empty([name for name in counts if name not in filled]),
        *rare_findings(rare, limits.rare),
        *imbalance_findings(list(learned.values())),
        *_few({name: learned[name] for name in filled}, limits.wanted),
        *_uncertain({name: tested[name] for name in filled}, known=_test_split(table) is not None),
    ]
    return Outcome(
        findings=tuple(found),
        tables={"classes": _classes(table, counts, buckets, tested, limits.wanted)},
        body={
            "imbalance_ratio": imbalance_ratio(np.array(list(learned.values()), np.int64)),
            "buckets": {kind: len([name for name in names if name in filled]) for kind, names in buckets.items()},
            "missing": [name for name in counts if name not in filled],
        },
    )


def half_width_points(images: NDArray[np.int64]) -> NDArray[np.float64]:
    """Half the width, in points, of Wilson's 95 % interval of a recall of 0.9 that so many images tell."""
    low, high = wilson(EXPECTED_RECALL * images, images)
    return 50.0 * (high - low)


def _test_split(table: ImageTable) -> str | None:
    return next((name for name in ("test", "val") if table.split_rows(name).size), None)


def _tested(table: ImageTable, counts: dict[str, dict[str, int]]) -> dict[str, int]:
    """Images that test each class: of the split that does, or those that a recipe would set aside."""
    split = _test_split(table)
    if split is not None:
        return {name: row.get(split, 0) for name, row in counts.items()}
    return {name: round(TEST_SHARE * row["all"]) for name, row in counts.items()}


def _empty(names: list[str]) -> list[Finding]:
    if not names:
        return []
    message = f"{len(names)} declared classes have no image: {_listed(names)}"
    hint = "collect images of them, or take them out of the list of classes"
    return [finding("class_without_images", "warning", message, names, hint)]


def _few(learned: dict[str, int], wanted: int) -> list[Finding]:
    few = sorted((name for name, number in learned.items() if number < wanted), key=lambda name: (learned[name], name))
    if not few:
        return []
    listed = ", ".join(f"{name} ({learned[name]:,})" for name in few[:NAMED]) + (", ..." if len(few) > NAMED else "")
    missing = sum(wanted - learned[name] for name in few)
    message = f"{len(few)} of {len(learned)} classes have fewer than the recommended {wanted:,} images: {listed}"
    hint = (
        f"{missing:,} more images would fill them all; collect where you can, else start from pretrained weights, "
        "augment, or draw synthetic images for training only"
    )
    return [finding("few_images", "info", message, few, hint)]


def _uncertain(tested: dict[str, int], *, known: bool) -> list[Finding]:
    names = list(tested)
    half = half_width_points(np.array([tested[name] for name in names], np.int64))
    order = np.argsort(-half, kind="stable")
    wide = [names[i] for i in order if half[i] >= WIDE_POINTS]
    if not wide:
        return []
    least = tested[wide[0]]
    what = "are tested by so few images" if known else f"would be tested by so few images ({TEST_SHARE:.0%} of them)"
    message = (
        f"{len(wide)} of {len(names)} classes {what} that their recall is known to {WIDE_POINTS:.0f} points or worse; "
        f"the smallest have {least}: {_listed(wide)}"
    )
    hint = "judge these classes together (macro averages, coarse classes) or by cross-validation, and collect more"
    return [finding("uncertain_class", "warning" if known else "info", message, wide, hint)]


def _classes(
    table: ImageTable,
    counts: dict[str, dict[str, int]],
    buckets: dict[str, list[str]],
    tested: dict[str, int],
    wanted: int,
) -> Table:
    bucket = {name: kind for kind, names in buckets.items() for name in names}
    learned = images_to_learn_from(table)
    parents = table.labels.parents or (None,) * len(table.labels)
    half = half_width_points(np.array([tested[name] for name in counts], np.int64))
    rows = tuple(
        (
            name,
            parent,
            row["all"],
            *(row.get(split, 0) for split in (*SPLITS, "")),
            bucket[name] if row["all"] else "none",
            max(0, wanted - learned[name]),
            tested[name],
            round(float(points), 1),
        )
        for (name, row), parent, points in zip(counts.items(), parents, half, strict=True)
    )
    columns = ("class", "parent", "images", *SPLITS, "no split", "bucket", "missing", "tested by", "recall ± points")
    return Table(columns=columns, rows=rows)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
