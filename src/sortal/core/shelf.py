"""Recipes that come with Sortal, by name: `recipe="small-data"`."""

from __future__ import annotations

from pathlib import Path

from sortal.core.errors import RecipeError, nearest

PACKAGE = Path(__file__).parent.parent


def shelf() -> dict[str, Path]:
    """Name -> file. An installed package holds them in `sortal/recipes`, a checkout in `recipes/` at its top."""
    for folder in (PACKAGE / "recipes", PACKAGE.parent.parent / "recipes"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def find_recipe(name: str | Path) -> Path:
    """The file that `name` means: a path that exists, or a recipe on the shelf. Raises RecipeError."""
    path, known = Path(name), shelf()
    if path.is_file():
        return path
    if str(name) in known:
        return known[str(name)]
    raise RecipeError(
        "no such recipe file, and none of this name comes with Sortal",
        received=str(name),
        hint=nearest(path.stem, known),
    )
