"""The story of pruning: cut, train, judge, until the share is reached; the largest cut within the budget is taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sortal.compress.images import Material
from sortal.compress.pricing import Budget
from sortal.compress.prune.amounts import Measure
from sortal.compress.prune.ground import ground_of
from sortal.compress.prune.latency import share_for_latency
from sortal.compress.prune.steps import Stage, cut_stages, original_stage
from sortal.core.bundle import Bundle
from sortal.core.errors import InputError
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe

STEPS = "steps"


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """Every stage, the network as it was first, and which of them was taken."""

    stages: tuple[Stage, ...]
    taken: int
    """Index in `stages`; 0 where no cut kept the budget."""
    measure: Measure
    share: float
    """Of `measure`, that was to be cut."""

    @property
    def original(self) -> Stage:
        """The network as it was."""
        return self.stages[0]

    @property
    def stage(self) -> Stage:
        """What was taken."""
        return self.stages[self.taken]


def pruned(
    bundle: Bundle, material: Material, *, recipe: Recipe, home: Path, budget: Budget, listener: Listener
) -> Pruned:
    """Prune `bundle` as `recipe.compress` says. `material` has been prepared for it (`images.gather_images`); finished
    cuts are kept in `home/steps`. Nothing of the bundle is changed.

    Raises RecipeError where the network cannot be pruned, BundleError without weights, Preempted where a person stops.
    """
    check_share(recipe)
    section = recipe.compress
    ground, network = ground_of(bundle, material, recipe=recipe, listener=listener)
    original = original_stage(ground)
    measure: Measure = "parameters" if section.prune_by == "parameters" else "macs"
    share = section.prune
    if section.prune_by == "latency":
        share = share_for_latency(ground, network, original.graph, wanted=1 - section.prune)
    stages = cut_stages(ground, network, original, home / STEPS, share=share, measure=measure, budget=budget)
    held = [number for number, stage in enumerate(stages, start=1) if not stage.objection]
    return Pruned(
        stages=(original, *stages),
        taken=max(held, default=0),
        measure=measure,
        share=share,
    )


def check_share(recipe: Recipe) -> None:
    """Raises InputError for a share that nothing, or everything, would be left of."""
    share = recipe.compress.prune
    if not 0 < share < 1:
        hint = "compress.prune=0.3 cuts 30 % of the multiplications away"
        raise InputError("a share between 0 and 1 can be cut away", received=str(share), hint=hint)
