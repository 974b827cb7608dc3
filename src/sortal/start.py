"""What training begins with: the weights, the plan and the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sortal.choose import choose_model
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.data.table import ImageTable
from sortal.evaluate.asked import check_classes
from sortal.models.network import Network
from sortal.models.resolve import ModelSource, resolve
from sortal.train.batch_finder import find_batch
from sortal.train.fit import new_network
from sortal.train.plan import Plan, make_plan
from sortal.train.precision import Mode
from sortal.train.team import SOLO, Team, device


@dataclass(frozen=True, kw_only=True)
class Start:
    """Weights, plan and network that training begins with."""

    source: ModelSource
    plan: Plan
    network: Network


def start_of(
    recipe: Recipe, table: ImageTable, listener: Listener, team: Team = SOLO, replayed: Plan | None = None
) -> Start:
    """Weights, plan (that of process 0) and network. Weights that do not fit, and classes to report on that are not
    there, are refused before there is a run."""
    check_classes(recipe, table.labels)
    source = _source(recipe, table, listener, team, replayed)
    plan = replayed or make_plan(recipe, table, source, processes=team.size)
    network = new_network(recipe, table, source, plan)
    if recipe.train.batch == "largest" and replayed is None and plan.phases:
        plan = make_plan(_with_largest_batch(recipe, plan, network, team), table, source, processes=team.size)
    plan = Plan.model_validate(team.tell(plan.model_dump(mode="json")))
    return Start(source=source, plan=plan, network=network)


def _with_largest_batch(recipe: Recipe, plan: Plan, network: Network, team: Team) -> Recipe:
    """The recipe with as many images a step as every process has memory for at the largest size; rates follow."""
    size = max(phase.size for phase in plan.phases)
    where = network.to(device()) if device().type == "cuda" else network
    found = find_batch(where, size, channels=recipe.input.channels, mode=Mode(device=device().type))
    network.to("cpu")
    train = recipe.train.model_copy(update={"batch": found * team.size})
    return recipe.model_copy(update={"train": train})


def _source(recipe: Recipe, table: ImageTable, listener: Listener, team: Team, replayed: Plan | None) -> ModelSource:
    """The weights to start from; where `auto` has a choice, process 0 makes it."""
    card = replayed.model if replayed else None
    if replayed is None:
        chosen = choose_model(recipe, table, listener) if team.leads else None
        card = team.tell(None if chosen is None else chosen.card)
        if chosen is not None:
            return chosen
    return resolve(
        card or recipe.model.name,
        recipe.model.weights,
        recipe.model.arguments,
        size_px=_typical_size_px(table),
        say=listener.say,
    )


def _typical_size_px(table: ImageTable) -> int | None:
    sizes = table.frame.select("_width", "_height").drop_nulls().to_numpy()
    return int(np.median(sizes.min(axis=1))) if len(sizes) else None
