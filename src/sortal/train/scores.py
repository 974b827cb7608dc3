"""How good a network is on validation images, as training needs it: every epoch, from the live network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sortal.evaluate.metrics import averages, class_counts, confusion
from sortal.models.network import Network
from sortal.train.loader import eval_batches
from sortal.train.losses import cross_entropy
from sortal.train.store import Images


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of one set of logits. Macro F1 counts classes that have an image or an answer."""

    loss: float
    """Cross-entropy without smoothing."""
    accuracy: float
    macro_f1: float

    def better(self, other: Scores | None, metric: str) -> bool:
        """True when `metric` is higher than in `other`, or equal with a lower loss. Never where the loss is NaN."""
        if not math.isfinite(self.loss):
            return False
        if other is None:
            return True
        mine, theirs = getattr(self, metric), getattr(other, metric)
        return bool(mine > theirs or (mine == theirs and self.loss < other.loss))


def score(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Scores:
    """Scores of (N, C) logits against (N,) labels, N at least 1."""
    answers = logits.argmax(axis=1).astype(np.int64)
    counts = class_counts(confusion(labels, answers, logits.shape[1]))
    return Scores(
        loss=float(cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))),
        accuracy=float((answers == labels).mean()),
        macro_f1=float(averages(counts)["macro"]["f1"]),
    )


@torch.inference_mode()
def predict_logits(network: Network, images: Images, *, batch: int, workers: int) -> NDArray[np.float32]:
    """(N, C) logits of the live network in evaluation mode, in order."""
    network.eval()
    found = []
    for pixels in eval_batches(images, batch=batch, workers=workers):
        tensor = torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)
        found.append(network(tensor)[0].float().numpy())
    return np.concatenate(found)
