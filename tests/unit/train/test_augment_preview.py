from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.core.errors import InputError
from sortal.core.preprocess import PreprocessSpec, prepare
from sortal.core.sections import AugmentSection
from sortal.train.augment import ClassFacts
from sortal.train.augment.preview import COLUMNS, draw_preview, rows_of

NAMES = ("左件", "nut")
CLASSES = ClassFacts(names=NAMES, counts=np.array([1, 70]))
SPEC = PreprocessSpec(size=(128, 128), mean=(0.5,) * 3, std=(0.2,) * 3)


def photo() -> np.ndarray:
    y, x = np.mgrid[:160, :200]
    return np.stack([x, y, (x + y) // 2], 2).astype(np.uint8)


def test_rows_are_families_and_begin_with_the_validation_image() -> None:
    section = AugmentSection(name="full", families=("geometric", "advanced"), holes=8)
    rows = rows_of(photo(), 1, 0, section, SPEC, CLASSES)
    assert [row.name for row in rows] == ["geometric", "color\n(off)", "advanced", "all"]
    plain = prepare(SPEC, photo())
    for row in rows:
        assert len(row.tiles) == 1 + COLUMNS
        assert np.array_equal(row.tiles[0], plain)
    assert all(np.array_equal(tile, plain) for tile in rows[1].tiles)
    for row in (rows[0], rows[3]):
        assert not any(np.array_equal(tile, plain) for tile in row.tiles[1:])


def test_a_picture_is_written_with_every_class_named(tmp_path: Path) -> None:
    spec = PreprocessSpec(size=(24, 32), channels=1, depth=16, mean=(0.4,), std=(0.2,))
    words = photo()[..., :1].astype(np.uint16) * 257
    drawn = draw_preview(
        [words, words], [0, 1], NAMES, AugmentSection(chiral=("左件",)), spec, CLASSES, out=tmp_path / "augment.png"
    )
    picture = np.asarray(Image.open(drawn.path).convert("RGB")).astype(int)
    tall = 96 * 4 + 6 * 4 + 30
    assert picture.shape[0] == 30 + 2 * tall
    assert picture[8:24].min() < 120  # the title is there
    assert picture[36:56, 92:400].min() < 120  # and the name of the class
    assert picture[60 : 60 + 96, 92 : 92 + 128].std() > 10


def test_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image"):
        draw_preview([], [], NAMES, AugmentSection(), SPEC, CLASSES, out=tmp_path / "augment.png")
