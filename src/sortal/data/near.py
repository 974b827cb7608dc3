"""Near duplicates: one picture saved again, resized, cropped by a few percent, made lighter, blurred.

Candidates come from perceptual hashes, tiny pictures and features (`candidates`), at a cost that grows with the number
of rows alone; each is then judged by laying the two tiny pictures over each other (`likeness`). What is much alike
there is looked at again on larger pictures (`second_look`), where the caller can read them: that tells parts of one
kind in one pose apart by their detail, and a copy that was moved or turned for what it is. Blank pictures give no
evidence and have no near duplicates. A chain of pairs does not glue what its ends would not: two clusters are joined
only where their first pictures are near as well.

Shapes: N rows, P pairs, T = TINY_PX.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.report import Finding
from sortal.data.candidates import Floats, Ints, Pairs, Vectors, candidate_pairs, differing_bits, products
from sortal.data.leaders import Leaders
from sortal.data.likeness import LUMA, Fits, contrast, lay_over, smooth
from sortal.data.look_measure import TINY_PX
from sortal.data.second_look import unlikeness
from sortal.data.survey import Survey
from sortal.data.table import finding

Flags = NDArray[np.bool_]
Pictures = Callable[[Ints], NDArray[np.uint8]]
"""From rows (M,) to their luma pictures (M, 64, 64)."""

PAIRS: dict[str, pl.DataType] = {
    "first": pl.Int64(),
    "second": pl.Int64(),
    "distance": pl.Int64(),
    "score": pl.Float64(),
    "certain": pl.Boolean(),
}
"""Row numbers, differing bits of the hashes, share of the contrast that both have in common (1: all of it), and whether
there can hardly be a doubt."""

BITS = 90
"""Differing bits of 256 up to which a pair is looked at; unrelated pictures differ in 128 ± 8."""
TINY_COSINE = 0.93
"""Likeness of tiny pictures from which a pair is looked at, whatever the hashes say."""
FEATURE_COSINE = 0.97
"""Likeness of features from which a pair is looked at, whatever the pictures say."""
LEAST_FEATURE_COSINE = 0.8
"""Likeness of features below which a pair is none, where there are features."""
LEFT, LEVELS = 0.009, 3.5
"""Share of the contrast and levels that may be left over."""
FAINT_LEFT, FAINT_LEVELS = 0.03, 0.9
"""The same for pictures of little contrast, in which the noise of a JPEG file is a larger share."""
CROWD, CROWD_SHARE, CROWD_LEVELS = 4, 0.65, 1.3
"""Where a picture has this many that are almost as much alike (up to 4 times LEFT), as parts of one kind in one pose
have, it takes a pair that is so much closer than the last of these, or that leaves no more than these levels."""
CERTAIN_LEFT, CERTAIN_LEVELS, CERTAIN_SIDE_PX = 0.0005, 1.2, 64
"""What a pair may differ in to be certain; pictures of fewer pixels a side look alike too easily."""
LOOK_LEFT, CLOSEST = 0.1, 5
"""A pair is looked at again up to this share of the contrast, where it is among so many closest of either row."""
NEAREST = 12
"""Pairs of a row that are laid over each other where there are more than that for every row."""
MOST_LOOKS = 30_000
"""Pairs that are looked at again; of more, those most alike. The others are not said to be copies: 16 pixels do not
tell a copy from another part of one kind in one pose."""
MOST_UNLIKENESS = 1.0
"""Unlikeness on the larger pictures up to which a pair is one picture, and certain."""
CLEAR_LEFT, CLEAR_UNLIKENESS = 0.0035, 4.0
"""A pair that leaves as little as this of tiny pictures may be so unlike on larger ones: one view a moment later."""
SMALL_SIDE_PX, SMALL_UNLIKENESS = 128, 2.0
"""Pictures below this side have the noise of single pixels at 64: a pair that is near at 16 may be so unlike."""
LEADER_SLACK = 2.0
"""By how much more the first pictures of two clusters may differ that a pair joins."""
LEAST_CONTRAST = 4.0
"""Levels of contrast below which a picture is blank."""
SIDE = 8

_BLOCK = 8192


@dataclass(frozen=True, kw_only=True, eq=False)
class Near:
    """Pairs of near duplicates, and the clusters they form."""

    pairs: pl.DataFrame
    """Of `PAIRS`, in row order; both rows are of one cluster."""
    cluster: Ints
    """(N,) the lowest row of the cluster, -1 for rows without a near duplicate."""
    unseen: int = 0
    """Pairs that would have been looked at on larger pictures, had they not been too many."""

    def certain_clusters(self) -> Ints:
        """(N,) as `cluster`, for the rows of certain pairs alone: those that one such pair or a chain of them joins."""
        sure = self.pairs.filter("certain").select("first", "second")
        leaders = Leaders(lambda _low, _high: True)
        leaders.join(sure.iter_rows())
        found = np.full(len(self.cluster), -1, np.int64)
        members = np.unique(sure.to_numpy())
        found[members] = [leaders.of(int(row)) for row in members]
        return found

    def findings(self) -> tuple[Finding, ...]:
        """Finding `near_not_verified`, where pairs were too many to look at all of them again."""
        if not self.unseen:
            return ()
        message = (
            f"{self.unseen:,} pairs of images that are much alike were compared at {TINY_PX} pixels only, which does "
            "not tell whether they are copies, so they are not listed"
        )
        hint = f"the {MOST_LOOKS:,} most alike were looked at again; remove copies first, or audit parts"
        return (finding("near_not_verified", "info", message, hint=hint),)


def near_duplicates(survey: Survey, features: Floats | None = None, pictures: Pictures | None = None) -> Near:
    """The near duplicates among N surveyed images, identical ones included; `features` are (N, D) of unit length.

    `pictures` reads larger pictures of the few rows that need a second look; without it tiny ones decide.
    """
    rows = np.flatnonzero(contrast(survey.tiny) >= LEAST_CONTRAST)
    copies = _same_hash(survey, rows)
    searched = np.setdiff1d(rows, copies[1], assume_unique=True)
    vectors = [Vectors(values=layout(survey.tiny[searched]), least=TINY_COSINE)]
    if features is not None:
        vectors.append(Vectors(values=np.ascontiguousarray(features[searched]), least=FEATURE_COSINE))
    first, second = _nearest(vectors[0].values, *candidate_pairs(survey.hashes[searched], BITS, vectors))
    first, second = np.concatenate([copies[0], searched[first]]), np.concatenate([copies[1], searched[second]])
    if features is not None:
        alike = products(features, first, second) >= LEAST_FEATURE_COSINE
        first, second = first[alike], second[alike]
    return _joined(survey, *_judged(survey, first, second, pictures))


def _nearest(values: Floats, first: Ints, second: Ints) -> Pairs:
    """The pairs (P,), (P,) as they are, unless they are many times as many as rows (N, D): then those that are among
    the NEAREST of one of their rows. Of very many pictures of one kind, most pairs are no candidates for a copy."""
    if len(first) <= NEAREST * len(values):
        return first, second
    kept = _closest(-products(values, first, second), first, second, len(values), NEAREST)
    return first[kept], second[kept]


def layout(tiny: NDArray[np.uint8]) -> Floats:
    """(N, 192) of unit length: luma and two color differences on 8 x 8, smoothed, without their means."""
    parts = [_layout(tiny[start : start + _BLOCK]) for start in range(0, len(tiny), _BLOCK)]
    return np.concatenate([np.zeros((0, 3 * SIDE * SIDE), np.float32), *parts])


def _layout(tiny: NDArray[np.uint8]) -> Floats:
    image = smooth(smooth(tiny))
    luma = image @ LUMA
    parts = [_pooled(luma), _pooled(image[..., 0] - luma) * 2, _pooled(image[..., 2] - luma) * 2]
    joined = np.concatenate(parts, axis=1)
    return np.asarray(joined / np.maximum(np.linalg.norm(joined, axis=1, keepdims=True), 1e-6))


def _pooled(plane: Floats) -> Floats:
    step = TINY_PX // SIDE
    means = plane.reshape(len(plane), SIDE, step, SIDE, step).mean(axis=(2, 4)).reshape(len(plane), -1)
    return np.asarray(means - means.mean(axis=1, keepdims=True))


def _same_hash(survey: Survey, rows: Ints) -> Pairs:
    """The first row of each hash with every further one that is the same tiny picture: these are not searched any more,
    so that a picture which is there fifty thousand times costs fifty thousand fits."""
    words = np.ascontiguousarray(survey.hashes[rows]).view(np.uint64)
    frame = pl.DataFrame({f"w{n}": words[:, n] for n in range(words.shape[1])}).with_columns(row=pl.Series(rows))
    words_of = [name for name in frame.columns if name != "row"]
    firsts = frame.select(pl.col("row").first().over(words_of))["row"].to_numpy()
    again = rows != firsts
    first, second = firsts[again], rows[again]
    lies = _is_close(lay_over(survey.tiny, first, second))
    return first[lies], second[lies]


def _judged(survey: Survey, first: Ints, second: Ints, pictures: Pictures | None) -> tuple[pl.DataFrame, int]:
    """The pairs (P,), (P,) that are near duplicates, and how many were not looked at again."""
    fits = lay_over(survey.tiny, first, second)
    near = _is_near(fits) & (fits.levels <= _crowd_limits(fits, first, second, len(survey)))
    certain, unseen = _is_close(fits), 0
    sides = survey.frame.select(pl.min_horizontal("width", "height")).to_series().fill_null(0).to_numpy()
    smaller = np.minimum(sides[first], sides[second])
    if pictures is not None:
        looked, unlooked = _worth_a_look(survey, fits, first, second)
        unseen = len(unlooked)
        near[unlooked] = False
        unlike = _looked_at(pictures, first[looked], second[looked])
        clear = (fits.left[looked] <= CLEAR_LEFT) & (unlike <= CLEAR_UNLIKENESS)
        clear |= (smaller[looked] < SMALL_SIDE_PX) & (unlike <= SMALL_UNLIKENESS)
        certain[looked] = unlike <= MOST_UNLIKENESS
        near[looked] = certain[looked] | (clear & near[looked])
    first, second, left = first[near], second[near], fits.left[near].astype(np.float64)
    sure = certain[near] & (smaller[near] >= CERTAIN_SIDE_PX)
    columns = (first, second, differing_bits(survey.hashes, first, second), 1.0 - left, sure)
    return pl.DataFrame(dict(zip(PAIRS, columns, strict=True)), schema=PAIRS), unseen


def _worth_a_look(survey: Survey, fits: Fits, first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Places among the P pairs that are to be looked at again, the most alike first, and of those that are too many."""
    faint = fits.levels <= FAINT_LEVELS
    possible = np.flatnonzero(fits.plausible & (fits.levels > 0) & ((fits.left <= LOOK_LEFT) | faint))
    close = _closest(fits.left[possible], first[possible], second[possible], len(survey), CLOSEST)
    possible = possible[close | _is_near(fits)[possible]]
    order = possible[np.argsort(fits.left[possible], kind="stable")]
    return order[:MOST_LOOKS], order[MOST_LOOKS:]


def _closest(far: Floats, first: Ints, second: Ints, rows: int, most: int) -> Flags:
    """(P,) pairs that are among the `most` of least `far` (P,) of one of their rows."""
    both, places = np.concatenate([first, second]), np.tile(np.arange(len(far)), 2)
    order = np.lexsort((far[places], both))
    counts = np.bincount(both, minlength=rows)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.zeros(len(far), bool)
    found[places[order[rank < most]]] = True
    return found


def _looked_at(pictures: Pictures, first: Ints, second: Ints) -> Floats:
    """(P,) unlikeness on larger pictures, each of which is read once."""
    rows = np.unique(np.concatenate([first, second]))
    if not len(rows):
        return np.zeros(0, np.float32)
    return unlikeness(pictures(rows), np.searchsorted(rows, first), np.searchsorted(rows, second))


def _crowd_limits(fits: Fits, first: Ints, second: Ints, rows: int) -> Floats:
    """(P,) levels that may be left over of a pair, by what else is almost as much alike as its rows."""
    almost = (fits.left > LEFT) & (fits.left <= 4 * LEFT)
    seen = pl.DataFrame(
        {"row": np.concatenate([first[almost], second[almost]]), "levels": np.tile(fits.levels[almost], 2)}
    )
    crowded = (
        seen.sort("row", "levels").group_by("row").agg(pl.len(), pl.col("levels").get(CROWD - 1, null_on_oob=True))
    )
    crowded = crowded.filter(pl.col("len") >= CROWD)
    limits = np.full(rows, LEVELS, np.float32)
    limits[crowded["row"].to_numpy()] = np.clip(CROWD_SHARE * crowded["levels"].to_numpy(), CROWD_LEVELS, LEVELS)
    return np.minimum(limits[first], limits[second])


def _is_close(fits: Fits) -> Flags:
    return np.asarray((fits.left <= CERTAIN_LEFT) & (fits.levels <= CERTAIN_LEVELS) & fits.plausible)


def _is_near(fits: Fits, slack: float = 1.0) -> Flags:
    faint = (fits.left <= FAINT_LEFT) & (fits.levels <= FAINT_LEVELS)
    return (((fits.left <= LEFT * slack) & (fits.levels <= LEVELS * slack)) | faint) & fits.plausible


def _joined(survey: Survey, pairs: pl.DataFrame, unseen: int) -> Near:
    """Clusters by the surest pairs first; a pair whose clusters are not near is dropped."""
    known = set(pairs.select("first", "second").iter_rows())

    def near(low: int, high: int) -> bool:
        if (low, high) in known:
            return True
        return bool(_is_near(lay_over(survey.tiny, np.asarray([low]), np.asarray([high])), slack=LEADER_SLACK)[0])

    order = pairs.sort("score", "first", "second", descending=[True, False, False])
    leaders = Leaders(near)
    leaders.join(order.select("first", "second").iter_rows())
    members = np.unique(pairs.select("first", "second").to_numpy())
    cluster = np.full(len(survey), -1, np.int64)
    cluster[members] = [leaders.of(int(row)) for row in members]
    whole = cluster[pairs["first"].to_numpy()] == cluster[pairs["second"].to_numpy()]
    kept = pairs.filter(pl.Series(whole)).sort("first", "second")
    alone = np.setdiff1d(members, np.unique(kept.select("first", "second").to_numpy()))
    cluster[alone] = -1
    return Near(pairs=kept, cluster=cluster, unseen=unseen)
