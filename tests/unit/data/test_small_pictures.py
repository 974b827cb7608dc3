"""Small pictures for the second look: of files, arrays and regions, read once and kept by content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.data.look import look
from sortal.data.look_measure import RECORD
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.small_pictures import small_pictures
from sortal.data.table import ImageTable


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageTable:
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    rng = np.random.Generator(np.random.Philox(key=1))
    for number in range(6):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        coarse.resize((900, 600), Image.Resampling.BICUBIC).save(path, quality=90)
    return scan(images(tmp_path / "data"))


def test_they_are_the_tiny_pictures_of_the_survey_with_more_detail(table: ImageTable) -> None:
    rows = np.asarray([4, 1, 3])
    found = small_pictures(table, rows)
    assert found.shape == (3, 64, 64)
    tiny = np.stack([look(table.read(int(row))).view(RECORD)[0]["tiny"] for row in rows])
    luma = tiny.astype(np.float32) @ np.asarray([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(found.reshape(3, 16, 4, 16, 4).mean(axis=(2, 4)), luma, atol=1.5)


def test_a_second_run_reads_nothing(table: ImageTable) -> None:
    rows = np.arange(len(table))
    before = small_pictures(table, rows)
    for row in rows:
        table.path(int(row)).unlink()
    np.testing.assert_array_equal(small_pictures(table, rows), before)
    assert small_pictures(table, rows[:0]).shape == (0, 64, 64)


def test_a_region_is_cut_first(table: ImageTable) -> None:
    half = table.with_columns({"region": [[0.0, 0.0, 0.5, 1.0]] * len(table)})
    found, whole = small_pictures(half, np.asarray([2]))[0], small_pictures(table, np.asarray([2]))[0]
    left = np.asarray(Image.fromarray(whole[:, :32]).resize((64, 64), Image.Resampling.BILINEAR), np.int16)
    assert np.abs(found.astype(np.int16) - left).mean() < 3
