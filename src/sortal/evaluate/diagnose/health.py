"""What the numbers of a training say about its health: gradients that vanish or explode, and overfitting.

The remedies differ, so they are told apart: clipping treats exploding gradients; vanishing ones are small before any
clipping, and want normalization, residual connections or another initialization. The training loop puts the norms of
each block's gradients into rows of the history, under `GRADIENT_NORMS`. Without torch, so that a run can be read
anywhere; `train.health` measures the norms.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from sortal.core.recipe import Recipe
from sortal.core.report import Finding

Row = Mapping[str, Any]

GRADIENT_NORMS = "gradient_norms"
"""The key of a history row: block -> norm of its gradients, from the input to the head."""

VANISHING = 1e-4
"""A block whose gradients are below this share of the largest block's hardly learns. Measured at initialization:
0.4 % and more in MobileNetV2 and V3, ResNet-18, EfficientNet and ViT, 0.04 % in ConvNeXt with its layer scale;
0.005 % in six sigmoid layers, 0.000003 % in twelve."""
EXPLODING = 100.0
"""The same networks are below 10 in every block; ten layers of ReLU with weights 3.5 times too large are at 1,500."""
_GROWTH = 100.0
"""A block's norm over the median of its earlier ones."""
GAP = 0.1
"""Accuracy on training images minus that on validation images which is called overfitting: ten percentage points."""
_LOSS_RATIO, _LOSS_GAP = 1.5, 0.3
"""The same in losses: validation over training loss, and their difference in nats. Training losses are under
augmentation, dropout and label smoothing, so that a gap is understated rather than overstated."""
_NAMED = 6
_ZERO = Finding(
    code="gradients_zero",
    severity="error",
    message="All gradients are zero: the network learns nothing.",
    hint="look for a loss that does not depend on the network: a weight of 0, saturated answers, train.precision=fp16",
)


def diagnose_gradients(history: Sequence[Row]) -> tuple[Finding, ...]:
    """Findings that name the blocks whose gradients vanished, or exploded, and what helps.

    A block vanishes when that is so in most of the rows, and explodes when it does in any. Where all gradients of most
    rows are zero, nothing was learned: an error. Rows without `GRADIENT_NORMS` are passed over.
    """
    rows: list[Mapping[str, float]] = [row[GRADIENT_NORMS] for row in history if row.get(GRADIENT_NORMS)]
    if sum(not any(row.values()) for row in rows) > len(rows) / 2:
        return (_ZERO,)
    vanished = [block for block in _blocks(rows) if _vanishes(rows, block)]
    exploded = [block for block in _blocks(rows) if _explodes(rows, block)]
    findings = []
    if vanished:
        findings.append(_vanishing(rows, vanished))
    if exploded:
        findings.append(_exploding(rows, exploded))
    return tuple(findings)


def overfitting_finding(history: Sequence[Row], recipe: Recipe) -> Finding | None:
    """The gap between training and validation in the last row, where it is large, and which remedies are on.

    Compares `train_accuracy` with `val_accuracy`, and where there is none, `train_loss` with `val_loss`.
    """
    gap = _gap(history[-1]) if history else None
    if gap is None:
        return None
    remedies = overfitting_remedies(recipe)
    on = [shown for shown, _, active in remedies if active]
    off = [setting for _, setting, active in remedies if not active]
    message = f"The network fits the training images much better than the validation images: {gap}."
    message += f" Remedies that are on: {', '.join(on) or 'none'}."
    if off:
        message += f" Off: {', '.join(shown for shown, _, active in remedies if not active)}."
        hint = f"try {' or '.join(off)}; more images help most"
    else:
        hint = "all remedies are on: more images, a stronger augment.strength or a smaller network are what is left"
    return Finding(code="overfitting", severity="warning", message=message, hint=hint)


def _blocks(rows: Sequence[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(block for row in rows for block in row))


def _vanishes(rows: Sequence[Mapping[str, float]], block: str) -> bool:
    """Against the largest block of the backbone: the head, whose gradients are often larger, is not asked."""
    votes = []
    for row in rows:
        others = [norm for name, norm in row.items() if name not in ("head", block) and math.isfinite(norm)]
        if block in row and block != "head" and others and max(others) > 0:
            votes.append(row[block] < VANISHING * max(others))
    return sum(votes) > len(votes) / 2


def _explodes(rows: Sequence[Mapping[str, float]], block: str) -> bool:
    norms = [row[block] for row in rows if block in row]
    if any(not norm <= EXPLODING for norm in norms):
        return True
    return any(
        number and now > max(1.0, _GROWTH * statistics.median(norms[:number])) for number, now in enumerate(norms)
    )


def _vanishing(rows: Sequence[Mapping[str, float]], blocks: Sequence[str]) -> Finding:
    smallest = min(row[block] for row in rows for block in blocks if block in row)
    return Finding(
        code="gradients_vanish",
        severity="warning",
        message=f"Gradients vanish in {_named(blocks)}: norms down to {smallest:.1g}, less than {VANISHING:g} of what "
        "the largest block has, so these layers hardly learn.",
        hint="use a network with residual connections and batch or layer norms (ResNet, MobileNet, ConvNeXt), "
        "ReLU-like activations and their initialization, or pretrained weights; clipping gradients does not help here",
    )


def _exploding(rows: Sequence[Mapping[str, float]], blocks: Sequence[str]) -> Finding:
    largest = max((row[block] for row in rows for block in blocks if block in row), key=_size)
    return Finding(
        code="gradients_explode",
        severity="warning",
        message=f"Gradients explode in {_named(blocks)}: norms up to {largest:.3g} before clipping.",
        hint="keep optim.clip=1.0 (0 turns clipping off), lower optim.lr, or lengthen schedule.warmup",
    )


def _size(norm: float) -> float:
    return norm if math.isfinite(norm) else math.inf


def _named(blocks: Sequence[str]) -> str:
    more = f" and {len(blocks) - _NAMED} more blocks" if len(blocks) > _NAMED else ""
    return ", ".join(blocks[:_NAMED]) + more


def _gap(row: Row) -> str | None:
    """The gap in words, None where it is not large or not known; a loss that is no number was written down as null."""
    train, val = row.get("train_accuracy"), row.get("val_accuracy")
    if train is not None and val is not None:
        return f"accuracy {train:.1%} against {val:.1%}" if train - val > GAP else None
    train, val = row.get("train_loss"), row.get("val_loss")
    if train is not None and val is not None:
        large = val - train > _LOSS_GAP and val > _LOSS_RATIO * train
        return f"loss {train:.2f} against {val:.2f}" if large else None
    return None


def overfitting_remedies(recipe: Recipe) -> list[tuple[str, str, bool]]:
    """What helps against overfitting: in words, a setting that turns it on, whether it is on."""
    optim, model, augment, train = recipe.optim, recipe.model, recipe.augment, recipe.train
    varied = augment.name != "none" and augment.strength > 0
    stops = train.epochs == "auto" or train.patience < train.epochs
    return [
        (f"weight decay {optim.weight_decay:g} (L2)", "optim.weight_decay=0.05", optim.weight_decay > 0),
        (f"dropout {model.dropout:g}", "model.dropout=0.3", model.dropout > 0),
        (f"augmentation {augment.name}", "augment.name=basic", varied),
        (
            f"mixup {augment.mixup:g}, cutmix {augment.cutmix:g}",
            "augment.mixup=0.2",
            augment.mixup + augment.cutmix > 0,
        ),
        (f"early stopping after {train.patience} epochs", "train.patience=10", stops),
    ]
