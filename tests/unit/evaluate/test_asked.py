"""Settings and groups of an evaluation over those that the model was trained with."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from sortal.core.errors import DataError, RecipeError
from sortal.core.labels import LabelSet
from sortal.core.recipe import Recipe, build_recipe
from sortal.data.open import images
from sortal.data.table import ImageTable
from sortal.evaluate.asked import asked_recipe, check_classes, group_numbers, with_asked_group


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    names = ["lot1_a.png", "lot1_b.png", "lot2_a.png", "x.png"]
    for name in names:
        (tmp_path / name).touch()
    pl.DataFrame({"path": names, "label": ["u", "v"] * 2, "part": ["p", "q", "p", None]}).write_csv(tmp_path / "l.csv")
    return images(tmp_path / "l.csv")


def test_settings_go_over_those_of_the_recipe(tmp_path: Path) -> None:
    recipe = build_recipe({"evaluate": {"top_k": [1, 2], "reference": {"accuracy": 0.9}}, "seed": 3}, where="here")
    (tmp_path / "contract.yaml").write_text("prevalence: {u: 0.1}\n")
    settings = [
        "evaluate.ok=u",
        "evaluate.reference={accuracy: {human: 0.8}}",
        f"contract={tmp_path / 'contract.yaml'}",
    ]
    found = asked_recipe(recipe, settings)
    assert (found.evaluate.ok, found.evaluate.top_k, found.seed) == ("u", (1, 2), 3)
    assert found.evaluate.reference == {"accuracy": {"human": 0.8}}
    assert found.contract is not None
    assert found.contract.prevalence == {"u": 0.1}
    assert asked_recipe(None, ["contract.costs.u.v=5"]).contract.costs == {"u": {"v": 5.0}}  # type: ignore[union-attr]
    assert asked_recipe(recipe, ()) is recipe


@pytest.mark.parametrize("setting", ["train.epochs=3", "evaluate=3", "seed=1", "evaluate.okay=u"])
def test_what_belongs_to_training_is_refused(setting: str) -> None:
    with pytest.raises(RecipeError):
        asked_recipe(Recipe(), [setting])


def test_groups_come_from_what_was_asked_else_from_training(table: ImageTable) -> None:
    assert group_numbers(table).tolist() == [-1, -1, -1, -1]
    assert group_numbers(with_asked_group(table, "part", None)).tolist() == [0, 1, 0, -1]
    assert group_numbers(with_asked_group(table, None, r"(lot\d+)_")).tolist() == [0, 0, 1, -1]
    own = with_asked_group(table, "part", None)
    assert with_asked_group(own, None, r"(lot\d+)_") is own, "groups of the images themselves stay"
    assert with_asked_group(table, None, "serial") is table, "these images have no such column"
    with pytest.raises(DataError, match="serial"):
        with_asked_group(table, "serial", None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"evaluate": {"ok": "w"}},
        {"evaluate": {"ordered": ["u", "w"]}},
        {"contract": {"costs": {"u": {"w": 3}}}},
        {"contract": {"prevalence": {"w": 0.3}}},
        {"contract": {"recall": {"w": 0.3}}},
    ],
)
def test_classes_that_are_not_there_are_refused_before_training(wrong: dict[str, object]) -> None:
    labels = LabelSet(names=("u", "v"))
    check_classes(Recipe(), labels)
    with pytest.raises((RecipeError, DataError), match="unknown class"):
        check_classes(build_recipe(wrong, where="here"), labels)
