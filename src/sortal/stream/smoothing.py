"""What the newest frames say together: the mean of their probabilities, or what most of them say, with hysteresis.

Frames that are unknown have no vote for a class: where most of the frames are unknown, so is the result. Rejected
frames count for nothing, and a window of rejected frames is rejected. Abstaining follows the classifier's own decision.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.decision import DecisionSpec, decide_from_probabilities
from sortal.stream.frame import ABSTAINED, ANSWERED, REJECTED, UNKNOWN
from sortal.stream.settings import Smoothing


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one frame, or some frames together, say."""

    state: str
    """`answered`, `abstained`, `unknown` or `rejected`."""
    label: str | None = None
    """The class, where the state is `answered`; the likeliest one where it is `abstained` or `unknown`."""
    probability: float | None = None
    """Of the class; with `majority` the share of frames that say so."""

    @property
    def name(self) -> str:
        """What it counts as: a class, or the state where there is no answer."""
        return self.label if self.state == ANSWERED and self.label is not None else self.state


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One frame: what it says, and its calibrated probabilities (C,) where it has any."""

    said: Said
    probabilities: NDArray[np.float32] | None = None


class Smoother:
    """The newest `window` frames of one camera. `names` (C,) are the classes; `switch` is the share of the window that
    another answer needs to take over with `majority`."""

    def __init__(self, kind: Smoothing, names: list[str], decision: DecisionSpec, *, window: int, switch: float):
        self._kind, self._names, self._decision, self._switch = kind, names, decision, switch
        self._votes: deque[Vote] = deque(maxlen=window)
        self._holds: Said | None = None

    def add(self, vote: Vote) -> Said:
        """What the window says with this frame in it."""
        if self._kind == "none":
            return vote.said
        self._votes.append(vote)
        counted = [one for one in self._votes if one.said.state != REJECTED]
        if not counted:
            return vote.said
        return self._mean(counted) if self._kind == "mean" else self._majority(counted)

    def forget(self) -> None:
        """What was seen before does not count any more: the camera was away."""
        self._votes.clear()
        self._holds = None

    def _mean(self, counted: list[Vote]) -> Said:
        strange = sum(one.said.state == UNKNOWN for one in counted)
        rows = [one.probabilities for one in counted if one.said.state != UNKNOWN and one.probabilities is not None]
        if 2 * strange > len(counted) or not rows:
            return next(one.said for one in reversed(counted) if one.said.state == UNKNOWN)
        decided = decide_from_probabilities(self._decision, np.mean(rows, axis=0, keepdims=True, dtype=np.float32))
        index = int(decided.index[0])
        return Said(
            state=ABSTAINED if decided.abstained[0] else ANSWERED,
            label=self._names[index],
            probability=float(decided.probabilities[0, index]),
        )

    def _majority(self, counted: list[Vote]) -> Said:
        tally = Counter(one.said.name for one in counted)
        name, most = tally.most_common(1)[0]
        newest = {one.said.name: one.said for one in counted}
        held = self._holds
        if held is None or held.name not in tally or most >= self._switch * len(self._votes):
            held = newest[name]
        share = tally[held.name] / len(counted)
        self._holds = Said(state=held.state, label=newest[held.name].label, probability=share)
        return self._holds
