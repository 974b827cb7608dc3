"""What batches of an engine come to: logits and unknown scores in the order asked, and what could not be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sortal.runtime.engines.protocol import Outputs


class Gathered:
    """Outputs of N images over C classes, filled in batch by batch."""

    def __init__(self, images: int, classes: int):
        self._shape = (images, classes)
        self._logits: np.ndarray[tuple[int, int], np.dtype[np.float32]] | None = None
        self._scores: np.ndarray[tuple[int], np.dtype[np.float32]] | None = None
        self.errors: dict[int, tuple[str, str]] = {}
        """Row -> (code, message)."""

    @property
    def logits(self) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """(N, C); zeros where there was no output."""
        if self._logits is None:
            self._logits = np.zeros(self._shape, np.float32)
        return self._logits

    @property
    def unknown_score(self) -> np.ndarray[tuple[int], np.dtype[np.float32]] | None:
        """(N,) NaN where there was no output; None where the graph computes no such score."""
        return self._scores

    def add(self, rows: Sequence[int], outputs: Outputs | None, errors: Mapping[int, tuple[str, str]]) -> None:
        """The outputs of some rows, and the errors of others."""
        self.errors |= errors
        if outputs is None:
            return
        if len(rows) == self._shape[0]:
            self._logits, self._scores = outputs.logits, outputs.unknown_score
            return
        places = _slice(rows)
        self.logits[places] = outputs.logits
        if outputs.unknown_score is not None:
            if self._scores is None:
                self._scores = np.full(len(self.logits), np.nan, np.float32)
            self._scores[places] = outputs.unknown_score


def _slice(rows: Sequence[int]) -> slice | Sequence[int]:
    """The same rows as a slice, which is quicker, where none is left out; rows ascend."""
    return slice(rows[0], rows[-1] + 1) if rows and rows[-1] - rows[0] + 1 == len(rows) else rows
