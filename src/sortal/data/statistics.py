"""What a dataset consists of, as a Report: images by class and split, balance, rare classes, and every finding.

Nothing is computed from pixels here; sizes appear when the table was scanned. How balance is judged (`class_buckets`,
`rare_findings`, `imbalance_findings`) is shared with the check `balance`.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.report import Finding, Metric, Report, Table
from sortal.data.formats.classes import split_counts, with_label_findings
from sortal.data.split import check_leaks
from sortal.data.table import SPLITS, UNKNOWN, ImageTable, finding

RARE_IMAGES = 50
"""Classes with fewer images are rare."""
HEAD_IMAGES = 200
"""Classes with this many images or more are the head of a long tail; those between are the middle."""
UNEVEN_RATIO = 10.0
"""Largest class over smallest from which on plain accuracy says little about rare classes."""


def statistics(table: ImageTable, *, rare: int = RARE_IMAGES, head: int = HEAD_IMAGES) -> Report:
    """A Report of kind `data`; `data_digest` is the content digest where the table is scanned, else the listing digest.

    Metrics: images, classes, unlabeled, rejected, imbalance_ratio (largest class over smallest). Tables: `classes`
    (images by split and bucket `rare`, `mid` or `head`), `splits`. Body: dataset_id and the class names in each bucket.
    """
    counts = split_counts(table)
    buckets = class_buckets(table, rare=rare, head=head)
    scanned = len(table) > 0 and not table.frame["digest"].null_count()
    digest = table.content_digest if scanned else table.listing_digest
    return Report(
        kind="data",
        subject=table.source,
        data_digest=digest,
        metrics=_metrics(table, [row["all"] for row in counts.values()]),
        tables={"classes": _class_table(table, counts, buckets), "splits": _split_table(table)},
        findings=(
            *with_label_findings(table).findings,
            *rare_findings(buckets["rare"], rare),
            *imbalance_findings(list(images_to_learn_from(table).values())),
            *check_leaks(table),
        ),
        body={"dataset_id": digest[:16], "digest": "content" if scanned else "listing", "buckets": buckets},
    )


def class_buckets(table: ImageTable, *, rare: int = RARE_IMAGES, head: int = HEAD_IMAGES) -> dict[str, list[str]]:
    """Class names by number of images to learn from (the train split where there is one): `rare`, `mid`, `head`."""
    buckets: dict[str, list[str]] = {"rare": [], "mid": [], "head": []}
    for name, number in images_to_learn_from(table).items():
        buckets["rare" if number < rare else "mid" if number < head else "head"].append(name)
    return buckets


def imbalance_ratio(counts: NDArray[np.int64]) -> float:
    """Images of the largest class over those of the smallest that has any, from (C,) counts; 1 without images."""
    filled = counts[counts > 0]
    return float(filled.max() / filled.min()) if len(filled) else 1.0


def images_to_learn_from(table: ImageTable) -> dict[str, int]:
    """Images of each class in the train split, or in all where there is none."""
    column = "train" if table.split_rows("train").size else "all"
    return {name: row.get(column, 0) for name, row in split_counts(table).items()}


def rare_findings(names: list[str], rare: int) -> list[Finding]:
    """`rare_class` where classes of these names have fewer than `rare` images to learn from."""
    if not names:
        return []
    who = "1 class has" if len(names) == 1 else f"{len(names):,} classes have"
    message = f"{who} fewer than {rare} images to learn from: {', '.join(names[:5])}"
    hint = "collect more images of these classes; in training, loss.imbalance=auto looks for a remedy"
    return [finding("rare_class", "warning", message, names, hint)]


def imbalance_findings(per_class: list[int]) -> list[Finding]:
    """`imbalance` where the numbers of images of the classes differ by UNEVEN_RATIO or more."""
    ratio = imbalance_ratio(np.array(per_class, np.int64))
    if ratio < UNEVEN_RATIO:
        return []
    message = f"The largest class has {ratio:,.0f} times the images of the smallest: plain accuracy hides rare classes."
    hint = "train with loss.imbalance=auto, which chooses a remedy by validation images, and judge by macro F1"
    return [finding("imbalance", "warning", message, [], hint)]


def _metrics(table: ImageTable, per_class: list[int]) -> dict[str, Metric]:
    filled = [number for number in per_class if number]
    ratio = max(filled) / min(filled) if filled else None
    return {
        "images": Metric(value=len(table)),
        "classes": Metric(value=len(filled)),
        "unlabeled": Metric(value=int((table.label_array() == UNKNOWN).sum())),
        "rejected": Metric(value=table.rejected.height),
        "imbalance_ratio": Metric(value=ratio, n=len(filled)),
    }


def _class_table(table: ImageTable, counts: dict[str, dict[str, int]], buckets: dict[str, list[str]]) -> Table:
    bucket = {name: kind for kind, names in buckets.items() for name in names}
    parents = table.labels.parents or (None,) * len(table.labels)
    rows = tuple(
        (name, parent, row["all"], *(row.get(split, 0) for split in (*SPLITS, "")), bucket[name])
        for (name, row), parent in zip(counts.items(), parents, strict=True)
    )
    return Table(columns=("class", "parent", "images", *SPLITS, "no split", "bucket"), rows=rows)


def _split_table(table: ImageTable) -> Table:
    grouped = table.frame.group_by("split").agg(
        pl.len(), pl.col("label").filter(pl.col("label") >= 0).n_unique().alias("classes")
    )
    found = {split: (images, classes) for split, images, classes in grouped.iter_rows()}
    order = [split for split in (*SPLITS, None) if split in found]
    return Table(
        columns=("split", "images", "classes"), rows=tuple((split or "none", *found[split]) for split in order)
    )
