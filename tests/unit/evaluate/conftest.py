"""Made-up predictions with everything that can go wrong in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions, predictions_from_logits

Made = tuple[Predictions, np.ndarray]
Maker = Callable[..., Made]


@pytest.fixture
def make_predictions() -> Maker:
    """A function that makes N answers about the named classes, most of them right, and their labels."""

    def make(
        names: Sequence[str],
        n: int = 120,
        *,
        parents: Sequence[str] | None = None,
        threshold: float = 0.0,
        errors: dict[int, tuple[str, str]] | None = None,
        sharpness: float = 3.0,
    ) -> Made:
        generator = np.random.Generator(np.random.Philox(key=len(names)))
        labels = np.arange(n, dtype=np.int64) % len(names)
        logits = generator.normal(size=(n, len(names))).astype(np.float32)
        logits[np.arange(n), labels] += sharpness
        predictions = predictions_from_logits(
            logits,
            names=[f"images/{row:05d}.jpg" for row in range(n)],
            labels=LabelSet(names=tuple(names), parents=None if parents is None else tuple(parents)),
            decision=DecisionSpec(threshold=threshold),
            bundle_id="0" * 64,
            errors=errors,
        )
        return predictions, labels

    return make
