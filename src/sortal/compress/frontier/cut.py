"""A cut network: channels taken out and the rest trained, by `compress.prune`, as a bundle of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from sortal.compress.frontier.candidate import BUNDLE
from sortal.compress.frontier.ground import Ground
from sortal.compress.frontier.steps import Made, Refusal
from sortal.compress.frontier.wish import Wish
from sortal.compress.pricing import Budget
from sortal.compress.prune.story import pruned
from sortal.core.bundle import Bundle
from sortal.core.errors import BundleError, InputError, RecipeError


def cut(ground: Ground, wish: Wish, parent: Bundle, folder: Path) -> Made | Refusal:
    """`parent` with the share of `wish` cut away; see `Step`. The cut that reaches the share is the candidate.

    Finished cuts on the way there are kept in `ground.home`, so that what was broken off goes on after them.
    """
    section = ground.recipe.compress.model_copy(update={"prune": wish.cut})
    recipe = ground.recipe.model_copy(update={"compress": section, "contract": ground.contract})
    budget = Budget(max_drop=section.max_drop, contract=ground.contract)
    try:
        found = pruned(
            parent,
            ground.material(parent),
            recipe=recipe,
            home=ground.home,
            budget=budget,
            listener=ground.listener,
        )
    except (RecipeError, InputError, BundleError) as error:
        return Refusal(why=str(error))
    last = found.stages[-1]
    shutil.copytree(last.bundle.path, folder / BUNDLE)
    return Made(
        notes=(*last.notes, f"{last.macs / 1e6:,.1f} of {found.original.macs / 1e6:,.1f} million multiplications")
    )
