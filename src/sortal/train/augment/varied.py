"""The policy that most names stand for: views, tones and damage within the `Ranges` of one pipeline."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.sections import AugmentSection
from sortal.train.augment import ClassFacts, Draw, advanced, color, geometry
from sortal.train.augment.ranges import Ranges, chiral_classes, resolve


@dataclass(frozen=True, kw_only=True)
class Varied:
    """Varies every image within `ranges`."""

    ranges: Ranges
    size: tuple[int, int]
    margin: bool
    """Whether images are stored with more around them than the validation crop."""
    inner: tuple[float, float]
    """(width, height) of the validation crop in shares of the stored image."""
    beyond: tuple[float, ...] | None
    """What lies around a stored image; None is its mirror image."""
    fill: tuple[float, ...]
    """A sample of the mean color, for holes."""
    chiral: NDArray[np.bool_]
    """(K,) classes that are never mirrored or turned."""

    @property
    def draws(self) -> int:
        """See `Policy.draws`."""
        return 1 + geometry.DRAWS + color.DRAWS + advanced.draws(self.ranges)

    def stored(self, spec: PreprocessSpec) -> PreprocessSpec:
        """See `Policy.stored`."""
        return with_margin(spec) if self.margin else spec

    def apply(self, images: Pixels, draw: Draw) -> Pixels:
        """See `Policy.apply`."""
        acting = self.acting(draw)
        if acting.all():
            return self._vary(images, draw)
        found = center(images, self.size, self.inner)
        found[acting] = self._vary(images[acting], draw.rows(acting))
        return found

    def acting(self, draw: Draw) -> NDArray[np.bool_]:
        """(N,) which images are varied at all."""
        return draw.uniforms[:, 0] < self.ranges.chance

    def views(self, draw: Draw) -> geometry.Views:
        """What images that are varied are seen through."""
        u = draw.uniforms[:, 1 : 1 + geometry.DRAWS]
        chiral = self.chiral[draw.labels]
        return geometry.choose_views(self.ranges, u, chiral=chiral, inner=self.inner, size=self.size)

    def tones(self, draw: Draw) -> color.Tones:
        """What happens to their light and color."""
        first = 1 + geometry.DRAWS
        return color.choose_tones(self.ranges, draw.uniforms[:, first : first + color.DRAWS])

    def damage(self, draw: Draw) -> advanced.Damage:
        """What is spoiled in them."""
        u = draw.uniforms[:, 1 + geometry.DRAWS + color.DRAWS : self.draws]
        return advanced.choose_damage(self.ranges, u, self.size)

    def where(self, images: Pixels, draw: Draw) -> geometry.Maps:
        """The maps that stored images are read through."""
        return geometry.maps(self.views(draw), (images.shape[1], images.shape[2]), self.size)

    def read(self, images: Pixels, where: geometry.Maps) -> Pixels:
        """Stored images read through maps."""
        return geometry.warp(images, where, self.size, fill=self.beyond)

    def retouch(self, images: Pixels, draw: Draw) -> Pixels:
        """Change tones and spoil parts of images that were read, in place."""
        color.recolor(images, self.tones(draw))
        advanced.spoil(images, self.damage(draw), noise_std=self.ranges.noise_std, fill=self.fill)
        return images

    def _vary(self, images: Pixels, draw: Draw) -> Pixels:
        return self.retouch(self.read(images, self.where(images, draw)), draw)


def vary(
    policy: Ranges, section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts, *, margin: bool = False
) -> Varied:
    """The policy that `section` makes of a named one's numbers; `margin` asks for a margin that these do not need."""
    room = with_margin(spec)
    share = _inner(spec, room)
    ranges = resolve(policy, section, center=share[0] * share[1])
    margin = margin or ranges.moves
    fill = tuple(float(round(min(max(value, 0.0), 1.0) * spec.maximum)) for value in spec.mean)
    return Varied(
        ranges=ranges,
        size=spec.size,
        margin=margin,
        inner=share if margin else (1.0, 1.0),
        beyond=fill if spec.resize == "pad" else None,
        fill=fill,
        chiral=chiral_classes(section, classes),
    )


def with_margin(spec: PreprocessSpec) -> PreprocessSpec:
    """With what the validation crop cuts away, and stretched images larger; padded ones have nothing around them."""
    if spec.resize == "pad":
        return spec
    height, width = (math.floor(side / spec.crop) for side in spec.size)
    return spec.model_copy(update={"size": (height, width), "crop": 1.0})


def center(images: Pixels, size: tuple[int, int], inner: tuple[float, float]) -> Pixels:
    """The validation crop of stored images."""
    plain = geometry.choose_views(
        Ranges(),
        np.zeros((len(images), geometry.DRAWS), np.float32),
        chiral=np.ones(len(images), np.bool_),
        inner=inner,
        size=size,
    )
    return geometry.warp(images, geometry.maps(plain, (images.shape[1], images.shape[2]), size), size, fill=None)


def _inner(spec: PreprocessSpec, stored: PreprocessSpec) -> tuple[float, float]:
    if spec.resize != "crop":
        return 1.0, 1.0
    return spec.size[1] / stored.size[1], spec.size[0] / stored.size[0]
