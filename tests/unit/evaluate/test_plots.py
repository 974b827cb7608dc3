from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.evaluate.drawing.fonts import font_for, lettering
from sortal.evaluate.drawing.plots import _curves, answer_captions, confusion_matrix, mosaic, results

CHINESE = ("六角螺栓", "平垫圈", "齿轮")
NO_FONT = "\U0001fbff\U000e0041"
"""A private use of the last planes: no font draws both."""


def _matrix(classes: int) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(key=classes))
    return generator.multinomial(50, np.full(classes, 1 / classes), size=classes) + 40 * np.eye(classes, dtype=np.int64)


def _ink(path: Path) -> float:
    with Image.open(path) as image:
        return float((np.asarray(image.convert("L")) < 250).mean())


@pytest.mark.parametrize("classes", [1, 2, 7, 40])
def test_confusion_matrix_is_drawn(classes: int, tmp_path: Path) -> None:
    drawn = confusion_matrix(_matrix(classes), [f"class {number}" for number in range(classes)], tmp_path / "c.png")
    assert drawn.undrawn == ()
    assert _ink(drawn.path) > 0.05


def test_confusion_matrix_of_208_classes_has_room_for_every_name(tmp_path: Path) -> None:
    confusion_matrix(_matrix(208), [f"hex bolt steel M{number} fine" for number in range(208)], tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as image:
        assert min(image.size) > 208 * 15  # 15 px a row: letters of 6.3 pt at 150 dpi are 13 px high
        pixels = np.asarray(image.convert("L"))
    rows = (pixels[:, 40:140] < 160).any(axis=1)  # within the column of names: one line of ink each, with gaps between
    assert int((np.diff(rows.astype(int)) == 1).sum()) == 208


@pytest.mark.skipif(font_for("螺") is None, reason="no installed font draws Chinese")
def test_chinese_names_are_drawn_without_missing_glyphs(tmp_path: Path) -> None:
    assert confusion_matrix(_matrix(3), CHINESE, tmp_path / "c.png").undrawn == ()
    captions = answer_captions(CHINESE, [0, 1], [0, 2])
    assert captions == ["六角螺栓", "平垫圈\nanswered 齿轮"]
    images = [np.zeros((20, 30, 3), np.uint8)] * 2
    assert mosaic(images, captions, tmp_path / "m.jpg", correct=[True, False]).undrawn == ()


def test_names_that_no_font_draws_become_numbers(tmp_path: Path) -> None:
    letters = lettering(["bolt", NO_FONT])
    assert letters.texts == ("bolt", "#1")
    drawn = confusion_matrix(_matrix(2), ["bolt", NO_FONT], tmp_path / "c.png")
    assert drawn.undrawn == (NO_FONT,)
    assert answer_captions(["bolt", NO_FONT], [1, 0], [0, -1]) == ["#1\nanswered bolt", "bolt\nanswered (none)"]


def test_names_are_never_read_as_formulas_or_lines(tmp_path: Path) -> None:
    names = ["$\\frac{1}$", "a\nb", "50% _x_"]
    assert lettering(names).texts == ("$\\frac{1}$", "a b", "50% _x_")
    confusion_matrix(_matrix(3), names, tmp_path / "c.png")
    mosaic([np.zeros((8, 8), np.uint8)] * 3, names, tmp_path / "m.jpg")


def test_long_names_keep_both_ends() -> None:
    (short,) = lettering(["hexagon socket head cap screw M8 x 20"], longest=20).texts
    assert len(short) == 20
    assert short.startswith("hexagon")
    assert short.endswith("M8 x 20")


@pytest.mark.parametrize("count", [0, 1, 3, 16, 100])
def test_mosaic_takes_any_number_and_shape(count: int, tmp_path: Path) -> None:
    shapes = [(20, 60, 3), (60, 20, 1), (30, 30)]
    images = [np.full(shapes[number % 3], 90, np.uint8) for number in range(count)]
    mosaic(images, [f"class {number}" for number in range(count)], tmp_path / "m.jpg", correct=[None] * count)
    with Image.open(tmp_path / "m.jpg") as image:
        assert image.format == "JPEG"
        assert min(image.size) > 100


def test_mosaic_frames_are_green_and_red(tmp_path: Path) -> None:
    images = [np.full((40, 40, 3), 255, np.uint8)] * 2
    mosaic(images, ["a", "b"], tmp_path / "m.jpg", correct=[True, False])
    with Image.open(tmp_path / "m.jpg") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    left, right = np.array_split(pixels, 2, axis=1)
    assert ((left[..., 1] - left[..., 0]) > 60).any()
    assert ((right[..., 0] - right[..., 1]) > 60).any()


def test_results_leave_out_empty_panels(tmp_path: Path) -> None:
    rows = [
        {"epoch": epoch, "train_loss": 2.0 / epoch, "val_accuracy": 0.5, "lr": 0.1, "time_s": 9} for epoch in (1, 2)
    ]
    results(rows, tmp_path / "three.png")
    results([{"epoch": 1, "train_loss": None, "val_macro_f1": 0.7}], tmp_path / "one.png")
    results([], tmp_path / "none.png")
    with Image.open(tmp_path / "three.png") as three, Image.open(tmp_path / "one.png") as one:
        assert three.width == pytest.approx(3 * one.width, abs=3)
    assert _ink(tmp_path / "none.png") > 0


def test_a_head_on_frozen_features_is_drawn_over_the_strengths_tried(tmp_path: Path) -> None:
    tried = [{"strength": 10.0**-n, "val_loss": 1.0 / n, "val_accuracy": n / 10} for n in range(1, 6)]
    probe = {"epoch": 0, "strength": 0.001, "train_loss": 0.1, "val_loss": 0.3, "tried": tried}
    results([probe], tmp_path / "tried.png")
    results([{**probe, "tried": tried[:1]}], tmp_path / "one.png")
    many, one = (np.asarray(Image.open(tmp_path / name).convert("RGB")) for name in ("tried.png", "one.png"))
    blue = [(np.abs(image.astype(int) - (31, 119, 180)).sum(axis=2) < 30).sum() for image in (many, one)]
    assert blue[0] > 2 * blue[1] > 0


def test_kinds_of_heads_are_curves_of_their_own() -> None:
    kinds = ("logistic", "logistic", "ridge")
    tried = [{"kind": kind, "strength": 0.1, "val_loss": 1.0} for kind in kinds]
    assert _curves("val_loss", tried) == [("val_loss, logistic", [0, 1]), ("val_loss, ridge", [2])]
    assert _curves("val_loss", tried[:2]) == [("val_loss", [0, 1])]
    assert _curves("val_loss", [{"epoch": 1}, {"epoch": 2}]) == [("val_loss", [0, 1])]
