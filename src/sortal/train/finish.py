"""After gradient training: weights between the pretrained and the trained ones, and a last fit of the linear head.

Interpolation: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT). A head that is fitted to
convergence on the features of the trained backbone is the same convex problem as the probe's. Validation images decide
about both; where they see no gain, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sortal.models.network import Network
from sortal.train.context import Context, Remedy
from sortal.train.features import Features, extract, live_extractor
from sortal.train.head_choice import HeadChoice, choose_head, fit_chosen, joined, scaled
from sortal.train.imbalance import posthoc_adjustment
from sortal.train.linear import put_head
from sortal.train.loop import Stopped
from sortal.train.optim import copy_state
from sortal.train.plan import HEAD_REMEDIES, Plan
from sortal.train.remedies import settled, with_remedy
from sortal.train.scores import Scores, predict_logits, score
from sortal.train.store import Images

SHARES = (0.0, 0.25, 0.5, 0.75)
"""Of the trained weights; 1 is what training left."""


@dataclass(kw_only=True)
class Finished:
    """What has become of a network, and what was done to it."""

    val_logits: NDArray[np.float32]
    """(N, C), of a network that never saw the validation images."""
    notes: list[str] = field(default_factory=list)
    remedy: Remedy | None = None
    """Where one was chosen here."""


def finish_passes(plan: Plan, *, train: int, val: int) -> int:
    """How many images `finish` sends through the network."""
    tried = (1 + len(SHARES)) * val if plan.interpolate else val
    return tried + (train + val if plan.refit_head else 0)


def finish(
    context: Context, network: Network, val: Images | None, *, pretrained: Mapping[str, Tensor], stopped: Stopped
) -> Finished:
    """Leave in `network` what validation images find best."""
    if val is None:
        done = Finished(val_logits=np.zeros((0, context.classes), np.float32))
        if context.remedy in HEAD_REMEDIES and context.plan.refit_head and stopped != "interrupted":
            _refit_unseen(context, network, done)
        return done
    done = Finished(val_logits=_predict(context, network, val))
    if stopped == "interrupted":
        return done
    if context.plan.interpolate and pretrained:
        _interpolate(context, network, val, pretrained, done)
    if context.plan.refit_head:
        _refit(context, network, val, done)
    elif network.wiring.head == "mlp" and context.asked_auto_remedy:
        _adjust(context, network, val, done)
    for note in done.notes:
        context.listener.say(note)
    return done


def _predict(context: Context, network: Network, val: Images) -> NDArray[np.float32]:
    return predict_logits(network, val, batch=2 * context.plan.batch, workers=context.plan.workers)


def _interpolate(
    context: Context, network: Network, val: Images, pretrained: Mapping[str, Tensor], done: Finished
) -> None:
    metric, trained = context.recipe.train.metric, copy_state(network)
    found = [(1.0, score(done.val_logits, val.labels), done.val_logits)]
    for share in SHARES:
        network.load_state_dict(mixed(pretrained, trained, share))
        logits = _predict(context, network, val)
        found.append((share, score(logits, val.labels), logits))
    best = found[0]
    for candidate in found[1:]:
        best = candidate if candidate[1].better(best[1], metric) else best
    network.load_state_dict(mixed(pretrained, trained, best[0]))
    tried = ", ".join(f"{share:g}: {getattr(scores, metric):.4f}" for share, scores, _ in sorted(found, key=_share))
    done.notes.append(f"Share of the trained weights, the rest pretrained: {best[0]:g} ({tried}).")
    done.val_logits = best[2]


def mixed(one: Mapping[str, Tensor], other: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """`share` of `other` and the rest of `one`; integer buffers are those of `other`."""
    return {name: one[name].lerp(value, share) if value.is_floating_point() else value for name, value in other.items()}


def _refit(context: Context, network: Network, val: Images, done: Finished) -> None:
    """A head on the embedding that the plan wants, where it is no worse on validation images than the trained one."""
    trained_head, trained_pooling = network.linear, network.pooling.kind
    _pool(context, network, context.plan.pooling)
    train, held = _features(context, network, "train"), _features(context, network, "val")
    choice = choose_head(context, train, held, network.pooling.parts)
    context = _with_chosen_remedy(context, scaled(train, choice.scales), scaled(held, choice.scales), choice, done)
    head = choice.head if context.remedy == "none" else fit_chosen(context, choice, train)
    metric = "macro_accuracy" if context.asked_auto_remedy else context.recipe.train.metric
    logits = head.logits(held.values)
    before, after = (getattr(score(each, val.labels), metric) for each in (done.val_logits, logits))
    shown = f"{metric} {before:.4f} -> {after:.4f}"
    if after < before:
        done.notes.append(f"A head fitted anew on the trained features is not better on validation images ({shown}).")
        _pool(context, network, trained_pooling)
        network.set_head(trained_head)
        return
    put_head(network, head)
    done.val_logits = logits
    done.notes.append(f"Head fitted anew on the trained features ({shown}). {choice.note}")
    if context.plan.refit:
        both = joined(train, held)
        put_head(network, fit_chosen(context, choice, both))
        done.notes.append(f"Head fitted again on {len(both.labels):,} training and validation images.")


def _refit_unseen(context: Context, network: Network, done: Finished) -> None:
    """A remedy that acts on the head alone was asked for by name: without validation images it is fitted all the same,
    its penalty by cross-validation."""
    _pool(context, network, context.plan.pooling)
    train, held = _features(context, network, "train"), _features(context, network, "val")
    choice = choose_head(context, train, held, network.pooling.parts)
    put_head(network, fit_chosen(context, choice, train))
    done.notes.append(f"Head fitted anew for loss.imbalance={context.remedy}; no validation images judge it.")
    context.listener.say(done.notes[-1])


def _with_chosen_remedy(
    context: Context, train: Features, held: Features, choice: HeadChoice, done: Finished
) -> Context:
    """Where the recipe left the remedy open, what the trained features say."""
    if not context.asked_auto_remedy:
        return context
    asked = with_remedy(context, Remedy(name="auto", tau=context.recipe.loss.tau))
    remedy = settled(asked, train, held, choice.logistic_strength)
    done.remedy = remedy
    done.notes.extend(remedy.notes)
    return with_remedy(context, remedy)


def _adjust(context: Context, network: Network, val: Images, done: Finished) -> None:
    """How strongly to lean towards rare classes is found on validation images, and goes into the bias of the head."""
    trained = context.recipe.loss.tau if context.remedy == "logit_adjustment" else 0.0
    trained = 1.0 if context.remedy == "balanced_softmax" else trained
    found = posthoc_adjustment(done.val_logits, val.labels, context.counts, trained_tau=trained)
    with torch.no_grad():
        network.linear.bias.add_(torch.from_numpy(found.offsets))
    tried = ", ".join(f"{row.tau:g}: {row.macro:.4f}" for row in found.tried)
    done.notes.append(f"Strength of logit adjustment by macro accuracy on validation images: {found.tau:g} ({tried}).")
    done.val_logits = done.val_logits + found.offsets


def _pool(context: Context, network: Network, kind: str) -> None:
    if network.pooling.kind != kind:
        network.repool(kind, channels=context.spec.channels, size=context.spec.size)


def _share(found: tuple[float, Scores, NDArray[np.float32]]) -> float:
    return found[0]


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
