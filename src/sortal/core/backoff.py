"""Answer the family when the kind is unsure, and leave to a person what is unsure even then.

An image is answered with its class where the class's probability is at least a threshold, else with the coarse class
whose members' probabilities together reach it, else it is left to a person. This is the trade of specificity for
accuracy of Deng et al. (2012), "Hedging your bets", with one threshold on calibrated probabilities.

Shapes: N images, C classes, P coarse classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

FINE, COARSE, PERSON = 0, 1, 2
"""The levels of an answer, most specific first."""
LEVELS = ("class", "family", "person")


@dataclass(frozen=True, kw_only=True)
class BackedOff:
    """Answers at the level that their probability allows."""

    level: Ints
    """(N,) FINE, COARSE or PERSON."""
    answer: Ints
    """(N,) index of the class (FINE) or of the coarse class (COARSE), -1 for PERSON."""
    probability: NDArray[np.float32]
    """(N,) of that answer; of the best coarse class for PERSON."""


def back_off(probabilities: NDArray[np.float32], parents: Sequence[int], threshold: float) -> BackedOff:
    """Answers from probabilities (N, C); `parents` (C,) are the coarse class of each class. Ties: the lower index.

    The coarse class is the one of the largest sum, which need not be the family of the most probable class.
    """
    coarse = sum_to_parents(probabilities, parents)
    kind, family = probabilities.argmax(axis=1), coarse.argmax(axis=1)
    best, together = probabilities.max(axis=1), coarse.max(axis=1)
    level = np.where(best >= threshold, FINE, np.where(together >= threshold, COARSE, PERSON)).astype(np.int64)
    answer = np.choose(level, [kind, family, np.full(len(kind), -1)]).astype(np.int64)
    return BackedOff(level=level, answer=answer, probability=np.where(level == FINE, best, together))


def sum_to_parents(probabilities: NDArray[np.float32], parents: Sequence[int]) -> NDArray[np.float32]:
    """(N, P) probabilities of coarse classes from (N, C): the sum over their members."""
    members = np.zeros((len(parents), max(parents) + 1), np.float32)
    members[np.arange(len(parents)), list(parents)] = 1.0
    return probabilities @ members
