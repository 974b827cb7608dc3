"""After gradient training: weights between the pretrained and the trained ones, and a last fit of the linear head.

Interpolation: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT). A head that is fitted to
convergence on the features of the trained backbone is the same convex problem as the probe's. Validation images decide
about both; where they see no gain, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sortal.models.network import Network
from sortal.train.context import Context, Remedy
from sortal.train.features import Features, extract, live_extractor
from sortal.train.head_choice import choose_head, fit_chosen, joined, scaled
from sortal.train.imbalance import posthoc_adjustment
from sortal.train.linear import put_head
from sortal.train.loop import Stopped
from sortal.train.optim import copy_state
from sortal.train.remedies import settled, with_remedy
from sortal.train.scores import Scores, predict_logits, score
from sortal.train.store import Images

SHARES = (0.0, 0.25, 0.5, 0.75)
"""Of the trained weights; 1 is what training left."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """(N, C) validation logits of a network that never saw those images, and what was done."""

    val_logits: NDArray[np.float32]
    notes: tuple[str, ...]


def finish(
    context: Context, network: Network, val: Images | None, *, pretrained: Mapping[str, Tensor], stopped: Stopped
) -> Finished:
    """Leave in `network` what validation images find best."""
    if val is None:
        return Finished(val_logits=np.zeros((0, context.classes), np.float32), notes=())
    notes: list[str] = []
    logits = _predict(context, network, val)
    if context.plan.interpolate and pretrained and stopped != "interrupted":
        logits = _interpolate(context, network, val, pretrained, logits, notes)
    if context.plan.refit_head and stopped != "interrupted":
        logits = _refit(context, network, val, logits, notes)
    elif network.wiring.head == "mlp" and context.asked_auto_remedy:
        logits = _adjust(context, network, val, logits, notes)
    for note in notes:
        context.listener.say(note)
    return Finished(val_logits=logits, notes=tuple(notes))


def _predict(context: Context, network: Network, val: Images) -> NDArray[np.float32]:
    return predict_logits(network, val, batch=2 * context.plan.batch, workers=context.plan.workers)


def _interpolate(
    context: Context,
    network: Network,
    val: Images,
    pretrained: Mapping[str, Tensor],
    logits: NDArray[np.float32],
    notes: list[str],
) -> NDArray[np.float32]:
    trained = copy_state(network)
    found = [(1.0, score(logits, val.labels), logits)]
    for share in SHARES:
        network.load_state_dict(mixed(pretrained, trained, share))
        answers = _predict(context, network, val)
        found.append((share, score(answers, val.labels), answers))
    best = found[0]
    for candidate in found[1:]:
        best = candidate if candidate[1].better(best[1], context.recipe.train.metric) else best
    network.load_state_dict(mixed(pretrained, trained, best[0]))
    tried = ", ".join(f"{share:g}: {_shown(scores, context)}" for share, scores, _ in sorted(found, key=lambda f: f[0]))
    notes.append(f"Share of the trained weights, the rest pretrained: {best[0]:g} ({tried}).")
    return best[2]


def mixed(one: Mapping[str, Tensor], other: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """`share` of `other` and the rest of `one`; integer buffers are those of `other`."""
    return {name: one[name].lerp(value, share) if value.is_floating_point() else value for name, value in other.items()}


def _refit(
    context: Context, network: Network, val: Images, logits: NDArray[np.float32], notes: list[str]
) -> NDArray[np.float32]:
    plain_head, plain_pooling = network.linear, network.pooling.kind
    if plain_pooling != context.plan.pooling:
        network.repool(context.plan.pooling, channels=context.spec.channels, size=context.spec.size)
    train, held = _features(context, network, "train"), _features(context, network, "val")
    choice = choose_head(context, train, held, network.pooling.parts)
    metric = "macro_accuracy" if context.asked_auto_remedy else context.recipe.train.metric
    if context.asked_auto_remedy:
        auto = with_remedy(context, Remedy(name="auto", tau=context.recipe.loss.tau))
        remedy = settled(auto, scaled(train, choice.scales), scaled(held, choice.scales), choice.logistic_strength)
        context = with_remedy(context, remedy)
        notes.extend(remedy.notes)
    head = choice.head if context.remedy == "none" else fit_chosen(context, choice, train)
    refitted = head.logits(held.values)
    before, after = score(logits, val.labels), score(refitted, held.labels)
    shown = f"{metric} {getattr(before, metric):.4f} -> {getattr(after, metric):.4f}"
    if getattr(after, metric) < getattr(before, metric):
        notes.append(f"A head fitted anew on the trained features is not better on validation images ({shown}).")
        network.repool(plain_pooling, channels=context.spec.channels, size=context.spec.size)
        network.set_head(plain_head)
        return logits
    put_head(network, head)
    notes.append(f"Head fitted anew on the trained features ({shown}). {choice.note}")
    if context.plan.refit:
        both = joined(train, held)
        put_head(network, fit_chosen(context, choice, both))
        notes.append(f"Head fitted again on {len(both.labels):,} training and validation images.")
    return refitted


def _adjust(
    context: Context, network: Network, val: Images, logits: NDArray[np.float32], notes: list[str]
) -> NDArray[np.float32]:
    """How strongly to lean towards rare classes is found on validation images, and goes into the bias of the head."""
    trained = context.recipe.loss.tau if context.remedy == "logit_adjustment" else 0.0
    trained = 1.0 if context.remedy == "balanced_softmax" else trained
    found = posthoc_adjustment(logits, val.labels, context.counts, trained_tau=trained)
    with torch.no_grad():
        network.linear.bias.add_(torch.from_numpy(found.offsets))
    tried = ", ".join(f"{row.tau:g}: {row.macro:.4f}" for row in found.tried)
    notes.append(f"Strength of logit adjustment by macro accuracy on validation images: {found.tau:g} ({tried}).")
    return logits + found.offsets


def _features(context: Context, network: Network, split: str) -> Features:
    found, _ = extract(
        context.table,
        context.labeled(split),
        context.spec,
        live_extractor(network),
        threads=context.plan.workers,
        listener=context.listener,
        stage=f"features of {split} images",
    )
    return found


def _shown(scores: Scores, context: Context) -> str:
    return f"{getattr(scores, context.recipe.train.metric):.4f}"
