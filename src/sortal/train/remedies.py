"""Which remedy for unequal classes a run uses, by its recipe and by what features say."""

from __future__ import annotations

from dataclasses import replace

from sortal.core.sections import LossSection
from sortal.train.context import Context, Remedy
from sortal.train.features import Features
from sortal.train.imbalance import RemedyChoice, choose_by_rule, choose_remedy, remedies_table


def settled(
    context: Context, train: Features | None = None, val: Features | None = None, strength: float | None = None
) -> Remedy:
    """What the recipe names; for `auto`, what the features of training and validation images say, or else the rule."""
    section = context.recipe.loss
    if section.imbalance != "auto":
        return Remedy(name=section.imbalance, tau=section.tau)
    if train is None or val is None:
        return _later(context) or _chosen(choose_by_rule(context.counts), section)
    found = choose_remedy(
        train.values,
        train.labels,
        val.values,
        val.labels,
        context.classes,
        seed=context.recipe.seed,
        section=section,
        strength=strength,
    )
    return _chosen(found, section)


def with_remedy(context: Context, remedy: Remedy) -> Context:
    """The context whose recipe and remedy say what was settled."""
    loss = context.recipe.loss.model_copy(update={"imbalance": remedy.name, "tau": remedy.tau})
    asked = context.recipe.loss.imbalance == "auto"
    settled_recipe = context.recipe.model_copy(update={"loss": loss})
    return replace(
        context,
        remedy=remedy.name,
        recipe=settled_recipe,
        asked_auto_remedy=asked or context.asked_auto_remedy,
    )


def _later(context: Context) -> Remedy | None:
    """Without features beforehand a linear head is better fitted anew at the end, on what was learned by plain training
    (decoupled, Kang et al. 2020), than taught by a loss chosen blindly."""
    if not context.plan.refit_head or not len(context.labeled("val")):
        return None
    note = "The remedy for unequal classes is chosen after training, on the trained features, where the head is fitted."
    return Remedy(name="none", tau=context.recipe.loss.tau, notes=(note,))


def _chosen(found: RemedyChoice, section: LossSection) -> Remedy:
    tau = found.tau if found.name == "logit_adjustment" else section.tau
    table = remedies_table(found.tried, (found.name, found.tau)) if found.tried else None
    return Remedy(name=found.name, tau=tau, notes=(found.reason,), table=table)
