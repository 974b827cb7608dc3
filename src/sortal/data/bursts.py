"""Bursts: pictures of one object, one shelf, one session. On two sides of a split they make a result flatter.

Two signs. Pictures next to each other in file order or time that are more alike than pictures of one class are
elsewhere (`sequences`); and, in whatever order they lie, pictures of one class that are alike as only pictures of one
scene are (`scenes`). How alike that is, is read from the data, beside decoys: those of neighbors are random pairs of
the same class. Likeness is that of what sets pictures apart from the mean of their class. Where neighbors are no more
alike than others, the order says nothing and there are no bursts.

Likeness that takes in most of a data set is no sign of anything by itself: one shelf in five pictures and one product
in five copies look the same to a network. Such sets are kept apart as `alike`: a split may keep them together, but of
no single image it is said that it was taken together with others.

Shapes: N rows, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sortal.core.report import Finding
from sortal.data.candidates import Floats, Ints, products
from sortal.data.decoys import threshold, within_classes
from sortal.data.leaks import shared
from sortal.data.near import layout
from sortal.data.scenes import find_scenes, skewed_sets, within_class
from sortal.data.sequences import neighbors
from sortal.data.survey import Survey
from sortal.data.table import ImageTable, finding
from sortal.data.units import ALIKE, together

MOST_SHARE = 0.5
"""Share of the images with a class up to which likeness alone tells scenes; above it is how these pictures are."""
SAY_GROUPS = "if images of one object, lot or day belong together, say which: --group 'lot_(\\d+)', or a column"


@dataclass(frozen=True, kw_only=True, eq=False)
class Bursts:
    """Which rows were taken together, and the evidence in words."""

    burst: Ints
    """(N,) the lowest row of the burst, -1 for rows in none."""
    evidence: tuple[str, ...]
    alike: Ints
    """(N,) the lowest row of what may be scenes, -1 for rows in none; only where more than MOST_SHARE of the rows with
    a class look alike by this or by degrees, so that scenes cannot be told from one kind of thing."""

    def findings(self, table: ImageTable) -> tuple[Finding, ...]:
        """Findings `bursts` and `alike_throughout`, where there are any."""
        kept = (
            "what is alike is kept on one side; where that is one kind of product the test is harder than production: "
        )
        return (*self._bursts(table), *self.throughout(table, hint=f"{kept}leave --model away, and give --group"))

    def throughout(self, table: ImageTable, *, hint: str = SAY_GROUPS) -> tuple[Finding, ...]:
        """Finding `alike_throughout`: what looks alike is most of the images. It names none of them."""
        members = self.alike >= 0
        if not members.any():
            return ()
        sets, classified = len(np.unique(self.alike[members])), int((table.label_array() >= 0).sum())
        across = int(shared(together(table, alike=self.alike), ALIKE).sum())
        how = "throughout" if members.sum() > MOST_SHARE * classified else "by degrees"
        message = (
            f"pictures look alike {how}: to a network {int(members.sum()):,} of {classified:,} images are in "
            f"{sets:,} sets of a kind{f' ({across:,} in sets across splits)' if across else ''}, so pictures taken "
            "together cannot be told from one kind of product"
        )
        return (finding("alike_throughout", "info", message, (), hint),)

    def _bursts(self, table: ImageTable) -> tuple[Finding, ...]:
        members = self.burst >= 0
        if not members.any():
            return ()
        count = len(np.unique(self.burst[members]))
        message = f"{count:,} bursts of pictures taken together ({int(members.sum()):,} images): "
        names = table.name_series().filter(members).head(1000)
        hint = "a split keeps each of them on one side; data.split.near=false does not look for them"
        return (finding("bursts", "info", message + "; ".join(self.evidence), names, hint),)


def find_bursts(table: ImageTable, survey: Survey, features: Floats | None = None) -> Bursts:
    """Bursts among the rows of a table. Rows without a class are in none.

    `features` (N, D) see scenes in any order; without them only neighbors are compared, by their tiny pictures.
    """
    labels = table.label_array()
    vectors = within_class(layout(survey.tiny) if features is None else features, labels)
    links, evidence = _along_orders(table, survey, vectors)
    into, rows, alike = _components(len(table), links), np.arange(len(table)), np.full(len(table), -1)
    if features is not None:
        scenes, words = find_scenes(vectors, labels)
        if _throughout(scenes, labels) or _throughout(skewed_sets(vectors, labels), labels):
            alike = _several(scenes)
        else:
            into = _components(len(table), [(rows, into), (rows, scenes)])
            evidence += words
    return Bursts(burst=_several(into), evidence=tuple(evidence), alike=alike)


def _throughout(into: Ints, labels: Ints) -> bool:
    return bool((_several(into) >= 0).sum() > MOST_SHARE * (labels >= 0).sum())


def _several(into: Ints) -> Ints:
    """(N,) the numbers of sets of at least two rows, -1 for the others."""
    return np.where(np.bincount(into, minlength=len(into))[into] > 1, into, -1)


def _along_orders(table: ImageTable, survey: Survey, vectors: Floats) -> tuple[list[tuple[Ints, Ints]], list[str]]:
    labels, links, evidence = table.label_array(), [], []
    for order in neighbors(table, survey):
        kept = labels[order.first] >= 0
        first, second = order.first[kept], order.second[kept]
        found, decoys = products(vectors, first, second), products(vectors, *within_classes(labels, first))
        least = threshold(found, decoys)
        if least is None:
            continue
        alike = found >= least
        links.append((first[alike], second[alike]))
        taken, chance = float(alike.mean()), float((decoys >= least).mean())
        words = f"{taken:.0%} of neighbors are more alike than all but {chance:.1%} of the pairs of their class"
        evidence.append(f"by {order.words}, {words}")
    return links, evidence


def _components(count: int, links: list[tuple[Ints, Ints]]) -> Ints:
    """(N,) the lowest row that each row is linked with, also by way of others."""
    into = np.arange(count)
    if not links:
        return into
    first, second = (np.concatenate(side) for side in zip(*links, strict=True))
    while True:
        before = into.copy()
        low = np.minimum(into[first], into[second])
        np.minimum.at(into, into[first], low)
        np.minimum.at(into, into[second], low)
        into = into[into]
        if np.array_equal(into, before):
            return into
