"""Training losses as functions of logits (N, C) and targets. Always computed in float32.

Targets are class indices (N,) or soft targets (N, C) whose rows sum to 1, as mixing images makes them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Mean over N of -sum_c q_c log softmax(logits)_c with q = (1 - smoothing) * target + smoothing / C.

    Label smoothing as in Szegedy et al. 2016, "Rethinking the Inception architecture", section 7.
    """
    log_probabilities = torch.log_softmax(logits.float(), dim=1)
    return -(smoothed(targets, logits.shape[1], smoothing) * log_probabilities).sum(dim=1).mean()


def smoothed(targets: Tensor, classes: int, smoothing: float) -> Tensor:
    """The target distribution (N, C): a share `smoothing` is spread over all C classes, the right one included."""
    return (1.0 - smoothing) * soft(targets, classes) + smoothing / classes


def soft(targets: Tensor, classes: int) -> Tensor:
    """(N, C) float32: indices as one-hot rows, soft targets as they are."""
    if targets.ndim == 2:
        return targets.float()
    return torch.nn.functional.one_hot(targets, classes).float()
