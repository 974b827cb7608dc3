"""What a user gives a verb, made into what the packages below take: a source into a table, a recipe with settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortal.core.errors import MissingExtraError

if TYPE_CHECKING:
    from sortal.core.recipe import Recipe
    from sortal.data.table import ImageTable


def as_path(where: object) -> Path:
    """A path, or that of a run."""
    return Path(getattr(where, "path", where))  # type: ignore[arg-type]


def as_table(
    source: str | Path | Sequence[str | Path] | ImageTable,
    *,
    label: str = "label",
    group: str | None = None,
    level: str | None = None,
    boxes: str | None = None,
    margin: float = 0.0,
) -> ImageTable:
    """A table as it is, anything else opened."""
    from sortal.data.open import images
    from sortal.data.table import ImageTable

    if isinstance(source, ImageTable):
        return source
    return images(source, label=label, group=group, level=level, boxes=boxes, margin=margin)


def table_for(source: str | Path | Sequence[str | Path] | ImageTable, recipe: Recipe) -> ImageTable:
    """The images at `source`, with labels, groups and level as the recipe says."""
    data = recipe.data
    return as_table(source, label=data.label, group=data.group, level=data.level, boxes=data.boxes, margin=data.margin)


def recipe_of(recipe: str | Path | None, overrides: Sequence[str] | Mapping[str, Any]) -> Recipe:
    """A recipe file or one that comes with Sortal, and settings over it. Raises RecipeError for a wrong setting."""
    from sortal.core.recipe import load_recipe
    from sortal.core.shelf import find_recipe

    return load_recipe(None if recipe is None else find_recipe(recipe), overrides)


def subject_of(source: object) -> str:
    """The name that a run takes from its source: `photos`, `labels` for `labels.csv`."""
    text = getattr(source, "source", source)
    return Path(str(text)).absolute().stem if isinstance(text, str | Path) else "images"


def need(package: str, extra: str) -> None:
    """Raise MissingExtraError unless `package` is installed."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MissingExtraError(package, extra)
