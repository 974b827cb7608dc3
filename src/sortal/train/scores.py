"""How good a network is on validation images, as training needs it: every epoch, from the live network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sortal.evaluate.measure.metrics import averages, class_counts, confusion
from sortal.models.network import Network
from sortal.train.loader import eval_batches
from sortal.train.losses import cross_entropy
from sortal.train.store import Images
from sortal.train.team import SOLO, Team


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of one set of logits. Macro F1 counts classes that have an image or an answer."""

    loss: float
    """Cross-entropy without smoothing."""
    accuracy: float
    macro_f1: float
    macro_accuracy: float = 0.0
    """Mean recall over the classes that have an image."""

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
    macro = averages(counts)["macro"]
    return Scores(
        loss=float(cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))),
        accuracy=float((answers == labels).mean()),
        macro_f1=float(macro["f1"]),
        macro_accuracy=macro_accuracy(answers, labels, logits.shape[1]),
    )


def macro_accuracy(answers: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> float:
    """Mean over the classes that have an image of the share of their images answered right."""
    images = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[answers == labels], minlength=classes)
    return float((right[images > 0] / images[images > 0]).mean())


@torch.inference_mode()
def predict_logits(
    network: Network, images: Images, *, batch: int, workers: int, team: Team = SOLO
) -> NDArray[np.float32]:
    """(N, C) logits of the live network in evaluation mode, in order; every process answers its share of them."""
    network.eval()
    found = [np.zeros((0, network.classes), np.float32)]
    where = next(network.parameters()).device
    for pixels in eval_batches(images, batch=batch, workers=workers, part=team.share(len(images))):
        tensor = torch.from_numpy(pixels).to(where).contiguous(memory_format=torch.channels_last)
        found.append(network(tensor)[0].float().cpu().numpy())
    return team.gather(np.concatenate(found), len(images))
