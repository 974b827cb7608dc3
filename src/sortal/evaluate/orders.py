"""In which orders the classes of a confusion matrix are worth looking at. Arrays only; C classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.core.labels import LabelSet

Ints = NDArray[np.int64]


def class_orders(matrix: Ints, labels: LabelSet) -> dict[str, list[int]]:
    """Name of the order -> class indices. `confusions` puts classes that are mistaken for each other side by side,
    `weakest` those with the lowest recall first, `images` the most frequent first; `families` where there are parents.
    """
    classes, images = len(matrix), matrix.sum(axis=1)
    recall = np.where(images > 0, np.diag(matrix) / np.maximum(images, 1), np.inf)
    folded = np.array([name.casefold() for name in labels.names])
    found = {
        "as trained": np.arange(classes),
        "confusions": by_confusion(matrix),
        "weakest": np.lexsort((folded, recall)),
        "images": np.lexsort((folded, -images)),
        "name": np.argsort(folded, kind="stable"),
    }
    if labels.parents is not None:
        parents = np.array(
            [(parent or name).casefold() for parent, name in zip(labels.parents, labels.names, strict=True)]
        )
        found["families"] = np.lexsort((folded, parents))
    return {name: order.tolist() for name, order in found.items()}


def by_confusion(matrix: Ints) -> Ints:
    """(C,) a chain through the classes: from each to the one it is most often confused with among those left.

    Starts at the most confused class; where no confusion leads on, at the most confused of what is left.
    """
    apart = (matrix + matrix.T).astype(np.float64)
    np.fill_diagonal(apart, 0.0)
    total, left = apart.sum(axis=1), np.ones(len(matrix), bool)
    chain = list[int]()
    while left.any():
        ahead = np.where(left, apart[chain[-1]], -1.0) if chain else np.where(left, 0.0, -1.0)
        following = ahead if ahead.max() > 0 else np.where(left, total, -1.0)
        chosen = int(following.argmax())
        chain.append(chosen)
        left[chosen] = False
    return np.asarray(chain, np.int64)
