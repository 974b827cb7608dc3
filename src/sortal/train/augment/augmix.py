"""AugMix: an image mixed with a mixture of three short chains of operations (Hendrycks et al. 2020, arXiv:1912.02781).

Weights of the chains are Dirichlet(1, 1, 1), the share of the mixture is Beta(1, 1), chains have one to three
operations at levels up to 3 of 10. The paper's consistency loss over three versions of an image is not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.sections import AugmentSection
from sortal.train.augment import ClassFacts, Draw
from sortal.train.augment.chosen import allowed, based
from sortal.train.augment.geometry import Maps
from sortal.train.augment.opencv import cv2
from sortal.train.augment.operations import Operation, Step, change, choose_step, move, table
from sortal.train.augment.varied import Varied

AUGMIX = table(shear=0.3, shift=1 / 3, degrees=30.0, bits=(4, 0), blend=None)[1:]
"""Without the identity; the operations that resemble the corruptions of ImageNet-C are left out, as in the paper."""
CHAINS, LONGEST, SEVERITY = 3, 3, 0.3
_COLUMNS = 1 + 4 * LONGEST


@dataclass(frozen=True, kw_only=True)
class AugMix:
    """Chains of operations over what `base` makes of an image's geometry."""

    base: Varied
    operations: tuple[Operation, ...]
    strength: float

    @property
    def draws(self) -> int:
        """See `Policy.draws`."""
        return self.base.draws + CHAINS + 1 + CHAINS * _COLUMNS

    def stored(self, spec: PreprocessSpec) -> PreprocessSpec:
        """See `Policy.stored`."""
        return self.base.stored(spec)

    def apply(self, images: Pixels, draw: Draw) -> Pixels:
        """See `Policy.apply`."""
        where = self.base.where(images, draw)
        found = self.base.read(images, where)
        if self.operations and self.strength > 0:
            shares, u = self.shares(draw), draw.uniforms[:, self.base.draws + CHAINS + 1 :]
            chains = [
                self._chain(images, where, draw, u[:, chain * _COLUMNS : (chain + 1) * _COLUMNS])
                for chain in range(CHAINS)
            ]
            for row, image in enumerate(found):
                image[:] = _mixture([image, *(chain[row] for chain in chains)], shares[row])
        return self.base.retouch(found, draw)

    def shares(self, draw: Draw) -> NDArray[np.float64]:
        """(N, 1 + CHAINS) what the image and the chains make up; each row sums to 1."""
        u = draw.uniforms[:, self.base.draws : self.base.draws + CHAINS + 1].astype(np.float64)
        weights = -np.log1p(-u[:, :CHAINS]) + 1e-12
        mixed = u[:, CHAINS:] * min(self.strength, 1.0)
        return np.concatenate([1 - mixed, mixed * weights / weights.sum(axis=1, keepdims=True)], axis=1)

    def _chain(self, images: Pixels, where: Maps, draw: Draw, u: NDArray[np.float32]) -> Pixels:
        length = 1 + np.floor(u[:, 0] * LONGEST)
        steps: list[Step] = []
        for place in range(LONGEST):
            numbers = u[:, 1 + 4 * place : 5 + 4 * place].copy()
            numbers[length <= place, 0] = 1.0  # this chain is over
            levels = np.minimum(numbers[:, 3] * SEVERITY * self.strength, 1.0)
            chiral = self.base.chiral[draw.labels]
            steps.append(choose_step(self.operations, numbers[:, :3], levels, chance=1.0, chiral=chiral))
            where = move(where, steps[-1], self.base.size)
        found = self.base.read(images, where)
        for step in steps:
            change(found, step)
        return found


def _mixture(parts: list[Pixels], shares: NDArray[np.float64]) -> NDArray[np.float32]:
    total = np.zeros(parts[0].shape, np.float32)
    for part, share in zip(parts, shares, strict=True):
        cv2.addWeighted(part, float(share), total, 1.0, 0.0, dst=total, dtype=cv2.CV_32F)
    return np.rint(total)


def build(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> AugMix:
    """The policy called `augmix`."""
    return AugMix(base=based(section, spec, classes), operations=allowed(AUGMIX, section), strength=section.strength)
