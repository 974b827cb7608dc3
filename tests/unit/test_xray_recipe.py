"""The template for radiographs: no patient on two sides; readings by others than experts and names in EXIF are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from sortal.core.progress import Silent
from sortal.core.recipe import load_recipe
from sortal.core.shelf import find_recipe
from sortal.data.checks import annotators, privacy
from sortal.data.checks.material import Material
from sortal.data.leaks import shared
from sortal.data.open import images
from sortal.data.survey import survey
from sortal.divide import divide

PATIENTS, EACH = 20, 3
OWNER = 0x013B
"""EXIF tag Artist."""


def _save(root: Path) -> Path:
    rng = np.random.Generator(np.random.Philox(key=4))
    lines = ["path,label,patient,annotator,role,labeled_at"]
    for number in range(PATIENTS * EACH):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8))
        exif = Image.Exif()
        if number == 7:
            exif[OWNER] = "Dr. Who"
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(root / f"{number:02d}x.jpg", exif=exif)
        patient, role = number // EACH, "student" if number == 11 else "expert"
        label = "pneumonia" if patient % 2 else "clear"
        lines.append(f"{number:02d}x.jpg,{label},P{patient},reader-{number % 2},{role},2026-03-01T10:00:00")
    (root / "xray.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "classes.yaml").write_text(
        "required_role: expert\nclasses:\n  pneumonia: {definition: Opacity of a lobe.}\n  clear: {}\n",
        encoding="utf-8",
    )
    return root / "xray.csv"


def test_a_split_cuts_no_patient_and_what_must_not_be_there_is_found(tmp_path: Path) -> None:
    recipe = load_recipe(find_recipe("xray"))
    table = images(_save(tmp_path), group=recipe.data.group)
    divided = divide(table, recipe, Silent())
    assert set(divided.frame["split"].to_list()) == {"train", "val", "test"}
    assert not shared(divided, "group").any()
    assert divided.frame.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1

    scanned, found = survey(table)
    material = Material(table=scanned, survey=found)
    assert privacy.check(material).issues["name"].to_list() == ["07x.jpg"]
    readings = annotators.check(material).issues
    assert "11x.jpg" in readings["name"].to_list()
    assert recipe.augment.name == "medical"
    assert recipe.augment.flip == 0.0
