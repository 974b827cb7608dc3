"""The training images that are nearest to an image in the embedding, from what the bundle remembers of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.labels import LabelSet
from sortal.core.reference import Reference
from sortal.core.run import RunFolder


@dataclass(frozen=True, kw_only=True)
class Neighbor:
    """One training image. `distance` is 1 minus the cosine of the two embeddings: 0 is the same, 1 unrelated."""

    name: str
    label: str
    distance: float
    path: Path | None
    """Where it lies, if it still does."""


def nearest(
    embedding: NDArray[np.float32], reference: Reference, labels: LabelSet, *, folder: Path | None, count: int = 5
) -> list[Neighbor]:
    """The `count` nearest of the reference's images to an embedding (D,), nearest first.

    `folder` is where the training images were. Empty where the reference has no embeddings of this length.
    """
    known = reference.embeddings.astype(np.float32)
    if not len(known) or known.shape[1] != len(embedding):
        return []
    lengths = np.linalg.norm(known, axis=1) * max(float(np.linalg.norm(embedding)), 1e-12)
    distances = 1.0 - (known @ embedding) / np.maximum(lengths, 1e-12)
    found = []
    for row in np.argsort(distances, kind="stable")[:count].tolist():
        name = reference.names[row]
        path = None if folder is None else folder / name
        found.append(
            Neighbor(
                name=name,
                label=labels.names[int(reference.labels[row])],
                distance=max(0.0, float(distances[row])),
                path=path if path is not None and path.is_file() else None,
            )
        )
    return found


def likeness(found: Sequence[Neighbor], answer: str) -> str:
    """One sentence: what the nearest training images are, and whether that fits the answer."""
    counts = Counter(neighbor.label for neighbor in found).most_common()
    reach = f"distance {found[0].distance:.2f} to {found[-1].distance:.2f}"
    if len(counts) == 1:
        verb = "It looks like" if counts[0][0] == answer else f"Yet it was answered “{answer}” and looks like"
        return f"{verb} these {len(found)} training images of class “{counts[0][0]}” ({reach})."
    listed = ", ".join(f"{count} of “{label}”" for label, count in counts)
    return f"Its {len(found)} nearest training images are {listed} ({reach})."


def training_folder(run: RunFolder | None) -> Path | None:
    """The folder that a run's images came from, if it is one and still there."""
    if run is None or not run.state_path.is_file():
        return None
    source = json.loads(run.state_path.read_text(encoding="utf-8")).get("origin", {}).get("source")
    if not isinstance(source, str):
        return None
    path = Path(source)
    return path if path.is_dir() else path.parent if path.is_file() else None
