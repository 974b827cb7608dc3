"""What a corruption is: a function of pixels, and how strong it is at each of five strengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Apply = Callable[[Pixels, float, np.random.Generator], Pixels]
"""(H, W, 3), how much, and where chance comes from; the result has the same shape."""

STRENGTHS = 5


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """A named change of pictures. `amounts[s - 1]` is how much strength s is, in `unit`."""

    what: str
    unit: str
    amounts: tuple[float, float, float, float, float]
    apply: Apply

    def at(self, pixels: Pixels, strength: int, generator: np.random.Generator) -> Pixels:
        """`pixels` (H, W, 3) at strength 1 to 5; they themselves are left as they are."""
        return self.apply(pixels, self.amounts[strength - 1], generator)
