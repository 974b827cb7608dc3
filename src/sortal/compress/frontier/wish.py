"""What the frontier tries: input size x share that is cut away x precision, in the order of their cost.

Pure: names and numbers, no files and no networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Precision = Literal["float32", "int8"]

SIDES = (6 / 7, 5 / 7)
"""Smaller inputs that are tried by default, as shares of the network's own: of 224 pixels 192 and 160."""
CUTS = (0.25, 0.5)
"""Shares that are cut away by default."""
_LEAST_PX = 16


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One candidate."""

    side: int
    """The shorter side of the input in pixels."""
    cut: float = 0.0
    """Share of the network that is cut away."""
    precision: Precision = "float32"

    @property
    def name(self) -> str:
        """For people: `96 px, 25 % cut, int8`."""
        cut = f"{100 * self.cut:.3g} % cut, " if self.cut else ""
        return f"{self.side} px, {cut}{self.precision}"

    @property
    def folder(self) -> str:
        """For disks: `96px-cut25-int8`."""
        cut = f"-cut{100 * self.cut:.3g}".replace(".", "p") if self.cut else ""
        return f"{self.side}px{cut}-{self.precision}"

    @property
    def kind(self) -> str:
        """Which step makes it from its parent: `size`, `cut` or `int8`."""
        return "int8" if self.precision == "int8" else "cut" if self.cut else "size"

    @property
    def parent(self) -> Wish:
        """What it is made from: int8 from its float32, a cut network from the whole one of its size."""
        return replace(self, precision="float32") if self.precision == "int8" else replace(self, cut=0.0)


def sides_to_try(own: int, asked: Sequence[int]) -> tuple[int, ...]:
    """Sides in pixels, the network's own first, then the others downwards.

    By default two smaller ones, in whole steps of 16, 8 or 4 pixels, which strides divide.
    """
    if asked:
        return (own, *sorted({side for side in asked if side != own}, reverse=True))
    step = 16 if own >= 112 else 8 if own >= 48 else 4
    found = {max(_LEAST_PX, step * round(own * share / step)) for share in SIDES}
    return (own, *sorted((side for side in found if side < own), reverse=True))


def cuts_to_try(asked: float) -> tuple[float, ...]:
    """Shares, the smaller first: those of `CUTS`, or half of what was asked for and all of it."""
    return (round(asked / 2, 4), asked) if asked > 0.0 else CUTS


def size_at(own: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) in the proportions of `own` whose shorter side is `side` pixels."""
    shorter = min(own)
    return round(own[0] * side / shorter), round(own[1] * side / shorter)
