from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gratings import SOURCE
from sortal.core.errors import DataError, RecipeError
from sortal.core.recipe import load_recipe
from sortal.data.open import images
from sortal.data.table import ImageTable
from sortal.models.cards import CardInput
from sortal.models.resolve import ModelSource
from sortal.train.plan import Plan, make_plan

CARD = CardInput(size=224, crop=0.875, mean=(0.5,) * 3, std=(0.25,) * 3)
PRETRAINED = replace(SOURCE, weights_path=Path("w.safetensors"), input=CARD)
MakeTable = Callable[..., ImageTable]


def folder_of(root: Path, size: tuple[int, int], count: int = 6) -> ImageTable:
    for number in range(count):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (51, 102, 204)).save(path)
    table = images(root)
    return table.with_columns({"split": ["train"] * len(table)})


def plan_of(table: ImageTable, source: ModelSource = SOURCE, *settings: str) -> Plan:
    return make_plan(load_recipe(None, settings), table, source)


def test_elongated_images_are_padded_and_the_plan_says_so(tmp_path: Path) -> None:
    plan = plan_of(folder_of(tmp_path / "long", (300, 100)), PRETRAINED)
    assert plan.resize == "pad"
    assert any("elongated" in note and "3.00" in note for note in plan.notes)
    square = plan_of(folder_of(tmp_path / "square", (300, 260)), PRETRAINED)
    assert square.resize == "crop"
    assert not any("elongated" in note for note in square.notes)
    assert plan_of(folder_of(tmp_path / "set", (300, 100)), PRETRAINED, "input.resize=crop").resize == "crop"


def test_the_region_decides_what_is_elongated(tmp_path: Path) -> None:
    table = folder_of(tmp_path / "region", (400, 400))
    assert plan_of(table, PRETRAINED, "input.region=[0.0, 0.0, 1.0, 0.4]").resize == "pad"


@pytest.mark.parametrize(
    ("size", "expected"),
    [((28, 28), 32), ((32, 32), 32), ((100, 100), 96), ((640, 600), 96), ((60, 60), 48)],
)
def test_from_scratch_the_input_is_as_large_as_the_images_up_to_96(
    tmp_path: Path, size: tuple[int, int], expected: int
) -> None:
    assert plan_of(folder_of(tmp_path / "s", size)).size == (expected, expected)


def test_pretrained_weights_get_their_own_size_or_a_larger_one_where_the_images_are_large(tmp_path: Path) -> None:
    assert plan_of(folder_of(tmp_path / "s", (128, 128)), PRETRAINED).size == (224, 224)
    assert plan_of(folder_of(tmp_path / "l", (400, 348)), PRETRAINED).size == (256, 256)
    assert plan_of(folder_of(tmp_path / "x", (400, 348)), PRETRAINED, "input.size=160").size == (160, 160)


def test_mean_and_spread_come_from_the_card_or_are_measured(tmp_path: Path) -> None:
    table = folder_of(tmp_path / "s", (40, 40))
    assert plan_of(table, PRETRAINED).mean == (0.5, 0.5, 0.5)
    measured = plan_of(table)
    assert measured.mean == (0.2, 0.4, 0.8)
    assert min(measured.std) >= 0.01
    assert plan_of(table, replace(PRETRAINED, input=None)).mean == (0.485, 0.456, 0.406)
    assert plan_of(table, PRETRAINED, "input.channels=1").mean == (0.5,)
    assert plan_of(table, SOURCE, "input.mean=[0.1, 0.1, 0.1]").mean == (0.1, 0.1, 0.1)


@pytest.mark.parametrize(
    ("settings", "stages", "freeze"),
    [
        ((), ("probe",), "backbone"),
        (("train.epochs=0",), ("probe",), "backbone"),
        (("train.freeze=backbone",), ("probe",), "backbone"),
        (("train.epochs=3",), ("probe", "gradient"), "none"),
        (("train.time=10m",), ("probe", "gradient"), "none"),
        (("train.freeze=none",), ("probe", "gradient"), "none"),
        (("train.epochs=3", "train.freeze=backbone"), ("probe", "gradient"), "backbone"),
    ],
)
def test_stages_of_pretrained_weights(
    make_table: MakeTable, settings: tuple[str, ...], stages: tuple[str, ...], freeze: str
) -> None:
    plan = plan_of(make_table(), PRETRAINED, *settings)
    assert (plan.stages, plan.freeze) == (stages, freeze)


def test_from_scratch_all_layers_are_trained_and_fewer_images_are_seen_more_often(make_table: MakeTable) -> None:
    few, more = plan_of(make_table(train=5)), plan_of(make_table(train=60))
    assert few.stages == more.stages == ("gradient",)
    assert few.epochs > more.epochs
    for setting in ("train.freeze=backbone", "train.epochs=0"):
        with pytest.raises(RecipeError):
            plan_of(make_table(), SOURCE, setting)


def test_a_refit_needs_a_test_split(make_table: MakeTable) -> None:
    table = make_table()
    assert plan_of(table, PRETRAINED).refit
    assert not plan_of(table.select(table.frame["split"] != "test"), PRETRAINED).refit
    assert plan_of(table, PRETRAINED, "train.epochs=2").refit
    assert not plan_of(table, PRETRAINED, "data.refit=false").refit


def test_with_a_contract_the_network_that_was_calibrated_is_the_one_that_answers(make_table: MakeTable) -> None:
    plan = plan_of(make_table(), PRETRAINED, "contract.max_error=0.02")
    assert not plan.refit
    assert any("thresholds for the contract" in note for note in plan.notes)
    assert plan_of(make_table(), PRETRAINED, "contract.max_error=0.02", "data.refit=true").refit


def test_a_plan_survives_json_and_makes_the_preprocessing(make_table: MakeTable) -> None:
    recipe = load_recipe(None, ("input.channels=1", "input.crop=0.9"))
    plan = make_plan(recipe, make_table(size=64), SOURCE)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    spec = plan.preprocess(recipe)
    assert (spec.channels, spec.size, spec.crop, len(spec.mean)) == (1, (64, 64), 0.9, 1)


def test_no_labeled_training_images_is_an_error(make_table: MakeTable) -> None:
    table = make_table()
    with pytest.raises(DataError):
        plan_of(table.with_columns({"label": np.full(len(table), -1)}))


def test_dark_16_bit_images_keep_their_own_spread(tmp_path: Path) -> None:
    levels = np.linspace(400, 900, 64 * 64).reshape(64, 64).astype(np.uint16)
    np.savez(tmp_path / "dark.npz", images=np.stack([levels] * 4), labels=np.array([0, 1, 0, 1]))
    table = images(tmp_path / "dark.npz")
    plan = plan_of(
        table.with_columns({"split": ["train"] * 4}), SOURCE, "input.depth=16", "input.channels=1", "input.size=64"
    )
    assert plan.std == pytest.approx((levels.std() / 65535,), abs=1e-4)
