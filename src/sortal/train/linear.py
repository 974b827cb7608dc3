"""The probe stage: features of a frozen backbone, the strength of the head chosen, the head put into the network."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sortal.core.errors import DataError, ImageError
from sortal.core.preprocess import Pixels
from sortal.models.network import Network
from sortal.train.context import Context, Outcome, feature_key
from sortal.train.features import Extractor, Features, extract
from sortal.train.head_choice import HeadChoice, choose_head, fit_chosen, joined, scaled
from sortal.train.loop import Row
from sortal.train.probe import LinearHead
from sortal.train.remedies import settled, with_remedy
from sortal.train.scores import score
from sortal.train.store import read_image

_PREVIEW = 16


def fit_probe(context: Context, network: Network, extractor: Extractor, *, engine: str) -> Outcome:
    """Fit the head of `network` on frozen features of the training images.

    The strength of the penalty and a remedy for unequal classes are chosen by the validation images, or by
    cross-validation where there are none. `engine` says what `extractor` runs on. Raises DataError where no training
    image can be read.
    """
    train, val, findings, features_s = _features(context, extractor, engine, network.pooling.kind)
    started_s = time.monotonic()
    choice = choose_head(context, train, val, network.pooling.parts)
    remedy = settled(context, scaled(train, choice.scales), scaled(val, choice.scales), choice.logistic_strength)
    context = with_remedy(context, remedy)
    plain = remedy.name == "none" and context.recipe.loss.name == "cross_entropy"
    chosen = choice.head if plain else fit_chosen(context, choice, train)
    head, notes = _final(context, train, val, choice, chosen)
    notes = (*notes, *remedy.notes)
    put_head(network, head)
    val_logits = chosen.logits(val.values) if len(val.rows) else np.zeros((0, context.classes), np.float32)
    row = _row(val_logits, val.labels, choice, train, features_s, time.monotonic() - started_s)
    context.record(row)
    for note in notes:
        context.listener.say(note)
    return Outcome(
        val_rows=val.rows,
        val_labels=val.labels,
        val_logits=val_logits,
        history=(row,),
        findings=findings,
        stopped="done",
        best_epoch=0,
        train_batch=_preview(context, train),
        notes=notes,
        remedy=remedy,
    )


def put_head(network: Network, head: LinearHead) -> None:
    """Make `head` the linear layer of `network`, in float32."""
    linear = nn.Linear(head.weight.shape[1], head.weight.shape[0], device=next(network.parameters()).device)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(head.weight))
        linear.bias.copy_(torch.from_numpy(head.bias))
    network.set_head(linear)


def _features(
    context: Context, extractor: Extractor, engine: str, pooling: str
) -> tuple[Features, Features, tuple, float]:  # type: ignore[type-arg]
    started_s = time.monotonic()
    found = []
    for split in ("train", "val"):
        rows = context.table.split_rows(split)
        found.append(
            extract(
                context.table,
                rows,
                context.spec,
                extractor,
                threads=context.plan.workers,
                listener=context.listener,
                stage=f"features of {split} images",
                key=feature_key(context.source, context.recipe, engine, pooling),
            )
        )
    (train, first), (val, second) = found
    if not len(train.rows):
        raise DataError("none of the training images can be read", where=context.table.source)
    return train, val, (*first, *second), time.monotonic() - started_s


def _final(
    context: Context, train: Features, val: Features, choice: HeadChoice, chosen: LinearHead
) -> tuple[LinearHead, tuple[str, ...]]:
    """The head that answers: fitted once more with the validation images where the plan says so."""
    by = "validation images" if len(val.rows) else "five-fold cross-validation"
    notes = (f"{choice.note[:-1]}, by {by}.",)
    if not (context.plan.refit and context.plan.stages == ("probe",) and len(val.rows)):
        return chosen, notes
    both = joined(train, val)
    head = fit_chosen(context, choice, both)
    return head, (*notes, f"Head fitted again on {len(both.labels):,} training and validation images.")


def _row(
    val_logits: NDArray[np.float32],
    val_labels: NDArray[np.int64],
    choice: HeadChoice,
    train: Features,
    features_s: float,
    head_s: float,
) -> Row:
    images = len(train.rows) + len(val_labels)
    row: Row = {"epoch": 0, "step": 0, "strength": choice.strength, "images_per_s": round(images / features_s, 1)}
    row |= {"features_s": round(features_s, 3), "head_s": round(head_s, 3)}
    row["kind"] = choice.kind
    row["tried"] = [
        {"kind": kind, "strength": s, "val_loss": loss, "val_accuracy": right} for kind, s, loss, right in choice.tried
    ]
    row["train_loss"] = score(choice.head.logits(train.values), train.labels).loss
    if len(val_labels):
        found = score(val_logits, val_labels)
        row |= {"val_loss": found.loss, "val_accuracy": found.accuracy, "val_macro_f1": found.macro_f1}
        row["val_macro_accuracy"] = found.macro_accuracy
    return row


def _preview(context: Context, train: Features) -> tuple[Pixels, NDArray[np.int64]]:
    """A few training images as they were fed in: the probe does not vary them."""
    chosen = np.unique(np.linspace(0, len(train.rows) - 1, min(_PREVIEW, len(train.rows))).astype(np.int64))
    try:
        images = np.stack([read_image(context.table, int(train.rows[i]), context.spec) for i in chosen])
    except ImageError:  # gone since it was read; the picture is not worth a run
        images, chosen = np.zeros((0, *context.spec.size, context.spec.channels), np.uint8), chosen[:0]
    return (images >> 8).astype(np.uint8) if images.dtype == np.uint16 else images, train.labels[chosen]
