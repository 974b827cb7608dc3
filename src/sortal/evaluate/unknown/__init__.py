"""Scores of strangeness: how little an image is like those of the known classes, from its embedding and its logits.

A member module offers `fit(training: Training) -> Parameters` (named arrays), `score(parameters, embeddings, logits)
-> (N,)` in NumPy, the reference, and `emit(graph, parameters, embedding, logits) -> name`, the same as operations of
the exported graph. Higher is stranger. Which one is used is decided by `unknown.fit` on classes that were left out.
"""

from __future__ import annotations

from sortal.core.registry import Registry

METHODS = Registry(
    kind="unknown score",
    group="sortal.unknown",
    table={
        "energy": "sortal.evaluate.unknown.energy",
        "mahalanobis": "sortal.evaluate.unknown.mahalanobis",
        "knn": "sortal.evaluate.unknown.knn",
        "rank": "sortal.evaluate.unknown.rank",
    },
)
