"""How quick a classifier is on this machine: from pixels in memory to answers, for one image and for batches.

Times are the least of several, taken in turns: whatever else runs on a machine only ever adds time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from sortal.core.preprocess import Pixels
from sortal.runtime.classifier import Classifier

BATCHES = (1, 2, 4, 8, 16, 32, 64)
_TURNS = 5
_LIMIT_S = 20.0
"""No further turn begins after so long."""


def batch_times_ms(
    classifier: Classifier, image: Pixels, batches: Sequence[int] = BATCHES, *, turns: int = _TURNS
) -> dict[int, float]:
    """Milliseconds that `classifier` takes to answer a batch of so many copies of `image` (height, width, channels)."""
    begun_s, least_s = time.perf_counter(), dict.fromkeys(batches, np.inf)
    for batch in batches[:1]:
        classifier.predict([image] * batch, batch=batch)  # the first answer is slower than all others
    for _ in range(turns):
        for batch in batches:
            started_s = time.perf_counter()
            classifier.predict([image] * batch, batch=batch)
            least_s[batch] = min(least_s[batch], time.perf_counter() - started_s)
        if time.perf_counter() - begun_s > _LIMIT_S:
            break
    return {batch: 1000 * float(least) for batch, least in least_s.items()}
