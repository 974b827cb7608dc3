"""Training after a cut: with the pictures of the run, at the input size that its training ended with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sortal.compress.prune.tuning import plan_after_cut, recipe_after_cut
from sortal.core.preprocess import PreprocessSpec
from sortal.core.recipe import Recipe


def _ground(train: dict[str, Any]) -> Any:
    recipe = Recipe.model_validate({"train": train, "augment": {"name": "industrial"}})
    return SimpleNamespace(recipe=recipe, bundle=SimpleNamespace(path="runs/big-1/bundle", contract=None))


@pytest.mark.parametrize(
    ("sizes", "expected"), [("auto", "auto"), ([64, 80, 96], (96,)), ([112], (112,))], ids=["auto", "rising", "one"]
)
def test_training_goes_on_at_the_last_size_of_the_run(sizes: Any, expected: Any) -> None:
    made = recipe_after_cut(_ground({"sizes": sizes, "time": "10m", "epochs": 60}), epochs=5)
    assert made.train.sizes == expected
    assert (made.train.time, made.train.epochs) == (None, 5)
    assert made.augment.name == "industrial"
    assert made.distill.teacher == "runs/big-1/bundle"


@pytest.mark.parametrize(
    ("asked", "kind", "refit"), [(True, "mean", True), ("auto", "mean", False), ("auto", "stages", True)]
)
def test_a_head_is_fitted_anew_where_it_was_before(asked: Any, kind: str, refit: Any) -> None:
    ground = _ground({"refit_head": asked})
    ground.table = SimpleNamespace(split_rows=lambda name: range(100))
    ground.bundle.preprocess = PreprocessSpec(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    network: Any = SimpleNamespace(linear_head=True, pooling=SimpleNamespace(kind=kind))
    plan = plan_after_cut(ground, network, recipe_after_cut(ground, 2), 2)
    assert plan.refit_head is refit
