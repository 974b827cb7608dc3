"""Whether a saliency map can be trusted: does it depend on what was learned, and does what it marks really matter?

Shapes: H and W pixels, B blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels
from sortal.evaluate.explain.maps import Scores, blurred

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRID = 14
"""Blocks a side that an image is deleted by."""
STEPS = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of the image that are deleted."""
RANDOM_ORDERS = 6
CHANGED_BELOW = 0.5
"""A rank correlation below this between maps of trained and of random weights counts as changed."""


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """The mean fall of a score while parts of the image are deleted."""

    salient: float
    """With the most salient blocks first."""
    random: float
    """With blocks in random order, the mean of several."""
    above: float
    """Share of random orders under which the score fell less than under the map's."""

    @property
    def faithful(self) -> bool:
        """Whether the map's order lowers the score more than every random one."""
        return self.above == 1.0


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's correlation of two maps of equal shape; 0 where one of them is the same everywhere.

    Adebayo et al. (2018), "Sanity checks for saliency maps", compare maps of trained and random weights by it.
    """
    a, b = _ranks(one.ravel()), _ranks(other.ravel())
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > 0 else 0.0


def deletion(scores: Scores, image: Pixels, saliency: Floats, *, seed: int = 0) -> Deletion:
    """Cover the image (H, W, channels) block by block with its blurred self, by saliency (H, W) and at random.

    Petsiuk et al. (2018), "RISE", measure the deletion of pixels so; blocks are what a blur can cover. The random
    orders cover as many blocks.
    """
    random = np.random.Generator(np.random.Philox(key=seed))
    blocks = _block_means(saliency)
    orders = [np.argsort(-blocks, kind="stable"), *(random.permutation(blocks.size) for _ in range(RANDOM_ORDERS))]
    veil = blurred(image)
    deleted = np.stack([_covered(image, veil, order, share) for order in orders for share in STEPS])
    falls = float(scores(image[None])[0]) - scores(deleted).reshape(len(orders), len(STEPS)).mean(axis=1)
    salient, others = float(falls[0]), falls[1:]
    return Deletion(salient=salient, random=float(others.mean()), above=float((salient > others).mean()))


def _covered(image: Pixels, veil: Pixels, order: Ints, share: float) -> Pixels:
    chosen = np.zeros(GRID * GRID, bool)
    chosen[order[: max(1, round(share * len(order)))]] = True
    mask = chosen[_block_of(image.shape[:2])]
    return np.where(mask[..., None], veil, image)


def _block_means(saliency: Floats) -> Floats:
    """(B,) mean of each block; blocks without a pixel, in images of fewer pixels than blocks, come last."""
    places = _block_of(saliency.shape).ravel()
    counts = np.bincount(places, minlength=GRID * GRID)
    sums = np.bincount(places, weights=saliency.ravel(), minlength=GRID * GRID)
    return np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)


def _block_of(shape: tuple[int, ...]) -> Ints:
    """(H, W) the number of each pixel's block."""
    rows, columns = (np.arange(side) * GRID // side for side in shape[:2])
    blocks: Ints = rows[:, None] * GRID + columns[None, :]
    return blocks


def _ranks(values: Floats) -> Floats:
    """Ranks with ties averaged."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Floats = ends - (counts - 1) / 2
    return means[inverse.ravel()]
