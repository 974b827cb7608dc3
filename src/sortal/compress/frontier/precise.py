"""int8 of a candidate, as a bundle of its own."""

from __future__ import annotations

from pathlib import Path

from sortal.compress.frontier.candidate import BUNDLE
from sortal.compress.frontier.ground import Ground
from sortal.compress.frontier.steps import Made, Refusal
from sortal.compress.frontier.wish import Wish
from sortal.compress.int8 import quantized_artifacts
from sortal.compress.pricing import ARTIFACT_OF
from sortal.core.bundle import Bundle
from sortal.core.errors import BundleError


def precise(ground: Ground, wish: Wish, parent: Bundle, folder: Path) -> Made | Refusal:
    """int8 of `parent` by `compress.int8`; see `Step`. Without training: the frontier tries what is cheap.

    Refused where no int8 is within the budget and faster than the float32 it was made from.
    """
    del wish
    section = ground.recipe.compress.model_copy(update={"int8": True, "qat": False, "method": "own"})
    recipe = ground.recipe.model_copy(update={"compress": section, "contract": ground.contract})
    try:
        outcome = quantized_artifacts(
            parent, ground.run, ground.material(parent), recipe=recipe, out=folder / BUNDLE, listener=ground.listener
        )
    except BundleError as error:
        return Refusal(why=str(error))
    best = outcome.best
    if best is None or not outcome.attached:
        return Refusal(why="no int8 could be tried" if best is None else f"int8: {best.verdict}")
    return Made(artifact=ARTIFACT_OF[best.engine], engine=best.engine, notes=(f"int8: {best.candidate.name}",))
