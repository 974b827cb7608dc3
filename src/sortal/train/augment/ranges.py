"""How far a policy may go: one table of numbers, and what a recipe's `augment` section makes of it.

A named policy is mostly a `Ranges`. Keys that a recipe sets replace its numbers, families that it leaves out become
zero, and `strength` scales what remains. Which classes may be mirrored is here too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import RecipeError, nearest
from sortal.core.sections import AugmentSection
from sortal.train.augment import ClassFacts

_OVERRIDES = (
    "crop_scale",
    "flip",
    "flip_vertical",
    "quarter_turns",
    "rotate",
    "scale",
    "brightness",
    "contrast",
    "hue",
    "saturation",
    "value",
    "blur",
    "noise",
    "holes",
)
_ALWAYS = ("noise_std", "hole_px")
_SMALLEST_CROP = 0.01
_LARGEST_SHEAR = 2.0


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """The variations of one pipeline; the default changes nothing. Chances are shares of the images."""

    chance: float = 1.0
    """That anything is done to an image at all."""

    crop_scale: tuple[float, float] | None = None
    """Smallest and largest share of the stored image's area; None is the validation crop."""
    crop_aspect: float = 4 / 3
    """Largest ratio by which a crop is wider or higher than the input."""
    crop_reach: float = 1.0
    """How much of the free room a crop's place uses: 0 is the center."""
    flip: float = 0.0
    flip_vertical: float = 0.0
    quarter_turns: float = 0.0
    """Chance of a turn by 0, 90, 180 or 270 degrees, at even odds."""
    rotate: float = 0.0
    """Largest angle in degrees, either way."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Zoom factors; above 1 things get larger."""
    shear: float = 0.0
    """Largest slant along either axis: pixels a pixel."""
    shift: float = 0.0
    """Largest shift as a share of a side, by whole pixels."""

    light_chance: float = 1.0
    """That brightness and contrast change."""
    brightness: float = 0.0
    """Factors are within 1 ± this; so are those of contrast, saturation and value."""
    contrast: float = 0.0
    hue: float = 0.0
    """Largest turn either way, as a share of the color circle."""
    saturation: float = 0.0
    value: float = 0.0

    blur: float = 0.0
    """Chance of a 3 px blur. Blur and noise never meet on one image: exactly one of them is applied, or none."""
    noise: float = 0.0
    noise_std: float = 0.02
    """On the scale 0..1."""
    holes_chance: float = 0.5
    holes: int = 0
    """At most so many holes where there are any."""
    hole_px: int = 16
    """Largest side of a hole at 224 px and above; in proportion below."""
    erase: float = 0.0
    """Chance of one rectangle without content."""

    @property
    def moves(self) -> bool:
        """Whether stored images need a margin around the validation crop."""
        return self.crop_scale is not None or self.rotate > 0 or self.scale != (1.0, 1.0) or self.shear > 0


def resolve(policy: Ranges, section: AugmentSection, *, center: float) -> Ranges:
    """The numbers that hold: the section's where it has any, less the families that are off, times the strength.

    `center` is the share of the stored area that the validation crop keeps: where strength 0 brings a crop to.
    """
    own = {key: getattr(section, key) for key in _OVERRIDES if getattr(section, key) is not None}
    own |= {key: getattr(section, key) for key in _ALWAYS}
    if section.erase > 0:
        own["erase"] = 0.0  # done to the normalized batch instead
    chosen = _only(replace(policy, **own), section.families)
    return _scaled(chosen, section.strength, center)


def chiral_classes(section: AugmentSection, classes: ClassFacts) -> NDArray[np.bool_]:
    """(K,) which classes may not be mirrored or turned. Raises RecipeError for a name that is no class."""
    for name in section.chiral:
        if name != "*" and name not in classes.names:
            raise RecipeError("unknown class", where="augment.chiral", received=name, hint=nearest(name, classes.names))
    return np.array(["*" in section.chiral or name in section.chiral for name in classes.names], np.bool_)


def _only(ranges: Ranges, families: tuple[str, ...]) -> Ranges:
    plain = Ranges()
    if "geometric" not in families:
        keys = ("crop_scale", "flip", "flip_vertical", "quarter_turns", "rotate", "scale", "shear", "shift")
        ranges = replace(ranges, **{key: getattr(plain, key) for key in keys})
    if "color" not in families:
        ranges = replace(ranges, brightness=0.0, contrast=0.0, hue=0.0, saturation=0.0, value=0.0)
    if "advanced" not in families:
        ranges = replace(ranges, blur=0.0, noise=0.0, holes=0, erase=0.0)
    return ranges


def _scaled(ranges: Ranges, strength: float, center: float) -> Ranges:
    """Chances are never larger than the policy's; extents are, above strength 1, as far as they keep their meaning."""
    part = min(strength, 1.0)
    low, high = ranges.scale
    return replace(
        ranges,
        crop_scale=_scaled_crop(ranges.crop_scale, strength, center),
        crop_aspect=float(ranges.crop_aspect**strength),
        crop_reach=ranges.crop_reach * part,
        flip=ranges.flip * part,
        flip_vertical=ranges.flip_vertical * part,
        quarter_turns=ranges.quarter_turns * part,
        rotate=min(ranges.rotate * strength, 180.0),
        scale=(max(1 + (low - 1) * strength, 0.1), max(1 + (high - 1) * strength, 0.1)),
        shear=min(ranges.shear * strength, _LARGEST_SHEAR),
        shift=min(ranges.shift * strength, 0.5),
        brightness=min(ranges.brightness * strength, 1.0),
        contrast=min(ranges.contrast * strength, 1.0),
        hue=min(ranges.hue * strength, 0.5),
        saturation=min(ranges.saturation * strength, 1.0),
        value=min(ranges.value * strength, 1.0),
        blur=ranges.blur * part,
        noise=ranges.noise * part,
        noise_std=ranges.noise_std * strength,
        holes_chance=ranges.holes_chance * part,
        erase=ranges.erase * part,
    )


def _scaled_crop(crop: tuple[float, float] | None, strength: float, center: float) -> tuple[float, float] | None:
    if crop is None or strength == 0:
        return None
    low, high = (min(max(share * strength + center * (1 - strength), _SMALLEST_CROP), 1.0) for share in sorted(crop))
    return low, high
