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
_TURNS = 25
_LIMIT_S = 12.0
"""No further turn begins after so long."""


def batch_times_ms(classifier: Classifier, image: Pixels, batches: Sequence[int] = BATCHES) -> dict[int, float]:
    """Milliseconds that `classifier` takes to answer a batch of so many copies of `image` (height, width, channels)."""
    return compared_times_ms([(classifier, image)], batches)[0]


def compared_times_ms(
    classifiers: Sequence[tuple[Classifier, Pixels]], batches: Sequence[int]
) -> list[dict[int, float]]:
    """As `batch_times_ms` for each of some classifiers with an image of its size, all of them in every turn."""
    begun_s = time.perf_counter()
    least_s = [dict.fromkeys(batches, np.inf) for _ in classifiers]
    for classifier, image in classifiers:
        classifier.predict([image])  # the first answer is slower than all others
    for _ in range(_TURNS):
        for (classifier, image), least in zip(classifiers, least_s, strict=True):
            for batch in batches:
                started_s = time.perf_counter()
                classifier.predict([image] * batch, batch=batch)
                least[batch] = min(least[batch], time.perf_counter() - started_s)
        if time.perf_counter() - begun_s > _LIMIT_S:
            break
    return [{batch: 1000 * float(time_s) for batch, time_s in least.items()} for least in least_s]
