"""What an evaluation was asked for: settings over those of the model's recipe, and groups over those of its data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import DataError, RecipeError
from sortal.core.labels import LabelSet
from sortal.core.recipe import Recipe, build_recipe, load_yaml, parse_override
from sortal.data.open import with_group
from sortal.data.table import ImageTable
from sortal.evaluate.measure.costs import cost_matrix
from sortal.evaluate.task import task_of


def asked_recipe(recipe: Recipe | None, settings: Sequence[str], *, own: str = "evaluate") -> Recipe:
    """The recipe with `key=value` settings of its sections `own` and `contract`; `contract` may name a file.

    Raises RecipeError for any other key: training is over.
    """
    found = recipe or Recipe()
    if not settings:
        return found
    data = found.model_dump(mode="json")
    for key, value in map(parse_override, settings):
        section, *rest = key.split(".")
        if section not in (own, "contract") or (section == own and not rest):
            hint = f"only {own}.* and contract are read here; the others belong to training"
            what = "an evaluation" if own == "evaluate" else f"sortal {own}"
            raise RecipeError(f"not a setting of {what}", received=key, hint=hint)
        _put(data, [section, *rest], load_yaml(Path(value)) if key == "contract" and isinstance(value, str) else value)
    return build_recipe(data, where="settings")


def check_classes(recipe: Recipe, labels: LabelSet) -> None:
    """Raises RecipeError or DataError for a class that the recipe's `evaluate` or contract names and `labels` lacks."""
    task_of(labels, recipe.evaluate)
    if recipe.contract is not None:
        cost_matrix(recipe.contract.costs, labels)
        for name in (*recipe.contract.prevalence, *recipe.contract.recall):
            labels.index(name)


def with_asked_group(table: ImageTable, group: str | None, known: str | None) -> ImageTable:
    """The table with its groups by `group`; else by `known`, what the model was trained with, where these images have
    that too and say no groups of their own."""
    if group is not None:
        return with_group(table, group)
    if known is None or table.frame["group"].null_count() < len(table):
        return table
    try:
        return with_group(table, known)
    except DataError:
        return table


def group_numbers(table: ImageTable) -> NDArray[np.int64]:
    """(N,) the group of each image as a number, -1 where it has none."""
    ranks = table.frame["group"].cast(pl.String).rank("dense")
    return ranks.cast(pl.Int64).fill_null(0).to_numpy().astype(np.int64) - 1


def _put(data: dict[str, object], path: Sequence[str], value: object) -> None:
    for key in path[:-1]:
        inner = data.get(key)
        data[key] = dict(inner) if isinstance(inner, dict) else {}
        data = data[key]  # type: ignore[assignment]
    data[path[-1]] = value
