"""Recipes by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from sortal.core.errors import RecipeError
from sortal.core.recipe import load_recipe
from sortal.core.shelf import find_recipe, shelf


@pytest.mark.parametrize("name", sorted(shelf()))
def test_every_recipe_on_the_shelf_is_valid(name: str) -> None:
    assert load_recipe(find_recipe(name), ()).digest


def test_a_file_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small-data").write_text("seed: 5\n")
    assert load_recipe(find_recipe("small-data"), ()).seed == 5


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean small-data"):
        find_recipe("recipes/small_data.yaml")
