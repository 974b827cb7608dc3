"""Shortcuts: a class that metadata give away is found with the columns that carry it; honest sets are not."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pytest

from materials import material
from sortal.core.report import Finding
from sortal.data.checks.shortcuts import check

CLASSES = ("bolt", "nut", "washer")
LABELS = np.random.default_rng(0).integers(0, 3, 300)
SIZES = np.random.default_rng(1).integers(40, 400, (2, 300))


def _found(survey: dict[str, Any] | None = None, **given: Any) -> dict[str, Finding]:
    ordinary = {"width": SIZES[0], "height": SIZES[1], "bytes": SIZES[0] * SIZES[1] // 3}
    outcome = check(
        material(given.pop("labels", LABELS), classes=CLASSES, survey={**ordinary, **(survey or {})}, **given)
    )
    return {found.code: found for found in outcome.findings}


@pytest.mark.parametrize("seed", range(4))
def test_sizes_and_looks_that_do_not_know_the_class_are_no_shortcut(seed: int) -> None:
    assert _found(seed=seed, labels=np.random.default_rng(seed + 100).integers(0, 3, 300)) == {}


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("format", ["JPEG", "PNG", "JPEG"], "format"),
        ("border", [0.0, 0.0, 0.2], "border"),
        ("camera", ["Acme", None, "Acme"], "camera"),
        ("mode", ["L", "RGB", "RGB"], "mode"),
        ("taken", [datetime(2026, 1, 1, 8), datetime(2026, 1, 2, 14), datetime(2026, 1, 3, 14)], "hour"),
    ],
)
def test_how_an_image_was_made_gives_the_class_away(column: str, values: list[Any], words: str) -> None:
    found = _found({column: [values[label] for label in LABELS]})
    assert set(found) == {"shortcut"}
    assert found["shortcut"].severity == "warning"
    assert f"alone: {words}" in found["shortcut"].message


def test_the_accuracy_is_that_of_images_held_out_and_chance_is_named() -> None:
    """One class of three is told by its width, the other two are guessed: two thirds of the images."""
    width = np.where(LABELS == 0, 1000, SIZES[0])
    message = _found({"width": width})["shortcut"].message
    share = int(message.split(" the class is told in ")[1].split("%")[0])
    assert 55 <= share <= 75
    assert f"naming the largest class in {np.bincount(LABELS).max() / 300:.0%}" in message


def test_a_faint_hint_is_not_worth_a_warning() -> None:
    known = np.random.default_rng(2).random(300) < 0.05
    assert "shortcut" not in _found({"border": np.where(known, 0.1 * LABELS + 0.05, 0.0)})


def test_every_image_of_its_own_is_no_clue() -> None:
    """A column of distinct values fits the training folds and says nothing about the others."""
    assert _found({"camera": [f"body {row}" for row in range(300)], "width": list(range(100, 400))}) == {}


def test_copies_do_not_confirm_each_other() -> None:
    """Ten pictures of each scene share a format number that is the scene's alone: held out together it says nothing."""
    scene = np.arange(300) // 10
    labels = np.random.default_rng(5).integers(0, 3, 30)[scene]
    camera = [f"c{number}" for number in scene]
    group = [str(number) for number in scene]
    assert _found({"camera": camera}, labels=labels, columns={"group": group}) == {}
    assert "shortcut" in _found({"camera": camera}, labels=labels)


def test_looks_are_a_note() -> None:
    found = _found({"brightness": 0.2 + 0.3 * LABELS})
    assert set(found) == {"shortcut_look"}
    assert found["shortcut_look"].severity == "info"


def test_other_file_names_for_each_class_are_a_note() -> None:
    uri = [("IMG_", "DSC", "scan-")[label] + f"{row:04d}.jpg" for row, label in enumerate(LABELS)]
    found = _found(uri=uri)
    assert set(found) == {"shortcut_name"}
    assert "letters that the file name starts with" in found["shortcut_name"].message


@pytest.mark.parametrize("names", [("bolt_", "nut_", "washer_"), ("Bolt-", "NUT-", "Washer "), ("bl", "n", "wsh")])
def test_names_that_repeat_the_class_are_no_clue(names: tuple[str, ...]) -> None:
    uri = [f"{CLASSES[label]}/{names[label]}{row:04d}.jpg" for row, label in enumerate(LABELS)]
    assert _found(uri=uri) == {}


def test_folders_above_the_class_may_be_sites() -> None:
    uri = [f"train/{('north', 'south', 'south')[y]}/{CLASSES[y]}/{row}.jpg" for row, y in enumerate(LABELS)]
    found = _found(uri=uri)
    assert "folder above the class folder" in found["shortcut_name"].message
    assert _found(uri=[text.replace("north", "south") for text in uri]) == {}


def test_folders_of_a_taxonomy_are_none() -> None:
    uri = [f"train/{('long', 'flat', 'flat')[y]}/{CLASSES[y]}/{row:03d}.jpg" for row, y in enumerate(LABELS)]
    assert _found(uri=uri, parents=("long", "flat", "flat")) == {}


def test_the_table_tells_each_column_alone() -> None:
    outcome = check(material(LABELS, classes=CLASSES, survey={"format": [("A", "B", "C")[label] for label in LABELS]}))
    rows = {row[0]: row for row in outcome.tables["shortcuts"].rows}
    assert rows["made: format"][1] == 1.0
    assert rows["look: brightness"][1] < 0.5
    assert "made: mode" not in rows, "columns of one value are left out"


def test_one_class_or_few_images_are_not_judged() -> None:
    assert check(material([0] * 100, classes=CLASSES)).tables == {}
    assert check(material([0, 1] * 10, classes=CLASSES)).tables == {}
