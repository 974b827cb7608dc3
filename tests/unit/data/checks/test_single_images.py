"""Checks of single images: every planted fault is found under its name, and nothing is said of clean images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageFilter

from sortal.core.report import Finding
from sortal.data.checks import CHECKS
from sortal.data.checks.material import Material, Outcome
from sortal.data.open import images
from sortal.data.survey import survey

NAMES = ("readable", "exposure", "blur", "information", "shape", "storage", "privacy")
CLEAN = 24


def photograph(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """Patches of many colors with fine texture on them, of natural contrast."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    coarse = rng.integers(20, 236, (6, 8, 3), np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    edges = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8), np.uint8)).resize((width, height), 0)
    texture = rng.normal(0, 6, (height, width, 1)) + (np.asarray(edges)[:, :, None] / 255 - 0.5) * 60
    return Image.fromarray(np.clip(np.asarray(smooth) + texture, 0, 255).astype(np.uint8))


def scaled(image: Image.Image, factor: float, plus: float = 0) -> Image.Image:
    return Image.fromarray(np.clip(np.asarray(image) * factor + plus, 0, 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """CLEAN photographs of two classes."""
    for seed in range(CLEAN):
        (tmp_path / "ab"[seed % 2]).mkdir(exist_ok=True)
        photograph(seed).save(tmp_path / "ab"[seed % 2] / f"{seed}.jpg", quality=90)
    return tmp_path


def material(folder: Path) -> Material:
    table, found = survey(images(folder), workers=2)
    return Material(table=table, survey=found)


def checked(folder: Path) -> dict[str, Outcome]:
    given = material(folder)
    return {name: CHECKS.get(name).check(given) for name in NAMES}


def planted(folder: Path) -> set[tuple[str, str]]:
    """(row, code) of all issues."""
    return {row for outcome in checked(folder).values() for row in outcome.issues.select("name", "code").rows()}


def findings(folder: Path) -> list[Finding]:
    return [found for outcome in checked(folder).values() for found in outcome.findings]


def test_nothing_is_said_of_clean_images(folder: Path) -> None:
    assert not planted(folder)
    assert not findings(folder)


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        ("dark", lambda image: scaled(image, 0.15)),
        ("light", lambda image: scaled(image, 0.1, 228)),
        ("blurry", lambda image: image.filter(ImageFilter.GaussianBlur(3))),
        ("blurry", lambda image: image.filter(ImageFilter.BoxBlur((7, 3)))),
        ("low_information", lambda image: Image.new("RGB", image.size, (120, 90, 60))),
        ("grayscale", lambda image: image.convert("L")),
        ("grayscale", lambda image: image.convert("L").convert("RGB")),
        ("odd_aspect_ratio", lambda image: image.resize((320, 240), Image.Resampling.LANCZOS).crop((0, 0, 320, 60))),
        ("odd_size", lambda image: image.resize((640, 480), Image.Resampling.LANCZOS).crop((0, 0, 640, 480))),
        ("odd_size", lambda image: image.crop((60, 60, 100, 90))),
    ],
)
def test_a_planted_fault_is_found_and_nothing_else(folder: Path, code: str, spoil) -> None:
    spoil(photograph(99)).save(folder / "a" / "spoiled.jpg", quality=90)
    assert planted(folder) == {("a/spoiled.jpg", code)}
    assert [(found.code, found.rows) for found in findings(folder)] == [(code, ("a/spoiled.jpg",))]


def test_another_size_than_all_others_is_told_but_no_warning(folder: Path) -> None:
    photograph(98, 160, 160).save(folder / "a" / "square.jpg", quality=90)
    photograph(97, 162, 122).save(folder / "a" / "hardly.jpg", quality=90)
    outcome = checked(folder)["shape"]
    assert outcome.issues.select("name", "code", "severity", "value").rows() == [
        ("a/square.jpg", "odd_size", "info", "160 x 160")
    ]


def test_files_that_cannot_be_read_are_named_with_their_error(folder: Path) -> None:
    whole = (folder / "a" / "0.jpg").read_bytes()
    (folder / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "empty.jpg").write_bytes(b"")
    (folder / "b" / "text.png").write_text("no image")
    outcome = checked(folder)["readable"]
    assert set(outcome.issues.select("name", "severity", "value", "do").rows()) == {
        ("a/cut.jpg", "error", "truncated", "quarantine"),
        ("b/empty.jpg", "error", "empty", "quarantine"),
        ("b/text.png", "error", "not_an_image", "quarantine"),
    }
    assert sorted(found.rows for found in outcome.findings) == [("a/cut.jpg",), ("b/empty.jpg",), ("b/text.png",)]


@pytest.mark.parametrize("side_px", [120, 900])
def test_a_jpeg_that_was_cut_and_closed_again_is_incomplete(folder: Path, side_px: int) -> None:
    """Decoders fill the rest with grey and say nothing."""
    photograph(80, side_px * 4 // 3, side_px).save(folder / "a" / "whole.jpg", quality=90)
    data = (folder / "a" / "whole.jpg").read_bytes()
    (folder / "a" / "closed.jpg").write_bytes(data[: len(data) * 2 // 3] + b"\xff\xd9")
    framed = Image.new("RGB", (160, 120), (128, 128, 128))
    framed.paste(photograph(81, 160, 64), (0, 32))
    framed.save(folder / "b" / "framed.jpg")
    outcome = checked(folder)["readable"]
    assert outcome.issues.select("name", "code", "do").rows() == [("a/closed.jpg", "incomplete", "quarantine")]
    assert 0.2 < outcome.issues["score"][0] < 0.5
    assert [(found.code, found.severity) for found in outcome.findings] == [("incomplete", "warning")]


def test_rows_that_a_format_left_out_keep_its_code(folder: Path) -> None:
    (folder / "t.csv").write_text("path,label\na/0.jpg,a\nb/1.jpg,b\nb/gone.jpg,b\n")
    outcome = CHECKS.get("readable").check(material(folder / "t.csv"))
    assert outcome.issues.select("name", "code", "do").rows() == [("b/gone.jpg", "missing_file", None)]
    assert not outcome.findings


def test_storage_tells_wrong_names_rare_modes_depths_and_animation(folder: Path) -> None:
    photograph(50).save(folder / "a" / "named.png", "JPEG", quality=90)
    photograph(51).convert("CMYK").save(folder / "a" / "print.jpg", quality=90)
    photograph(52).save(folder / "b" / "moving.webp", save_all=True, append_images=[photograph(53)], quality=90)
    wide = np.asarray(photograph(54).convert("L")).astype(np.uint16) * 257
    Image.fromarray(wide).save(folder / "b" / "wide.png")
    found = {row for row in planted(folder) if row[1] != "grayscale"}
    assert found == {
        ("a/named.png", "wrong_extension"),
        ("a/print.jpg", "odd_mode"),
        ("b/moving.webp", "animated"),
        ("b/wide.png", "odd_depth"),
    }


def test_a_mixture_in_large_parts_is_told_of_the_whole_set(folder: Path) -> None:
    for seed in range(CLEAN):
        photograph(seed + 100).convert("RGBA").save(folder / "b" / f"{seed}.png")
    outcome = checked(folder)["storage"]
    assert [found.code for found in outcome.findings] == ["mixed_modes"]
    assert not outcome.issues.height
    assert outcome.tables["storage"].rows[0][:3] == ("JPEG", "RGB", CLEAN)


def test_positions_and_owners_in_exif_are_told_without_repeating_them(folder: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 1.0), 3: "E", 4: (8.0, 32.0, 1.0)})
    photograph(60).save(folder / "a" / "where.jpg", exif=exif, quality=90)
    named = Image.Exif()
    named[0x013B] = "Erika Mustermann"
    photograph(61).save(folder / "b" / "whose.jpg", exif=named, quality=90)
    outcome = checked(folder)["privacy"]
    rows = outcome.issues.select("name", "code").rows()
    assert rows == [("a/where.jpg", "gps_position"), ("b/whose.jpg", "personal_exif")]
    assert "Mustermann" not in repr(outcome.findings) + repr(outcome.issues.to_dicts())


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("dark", lambda image: scaled(image, 0.2)),
        ("light", lambda image: scaled(image, 0.1, 228)),
        ("blurry", lambda image: image.filter(ImageFilter.GaussianBlur(4))),
        ("grayscale", lambda image: image.convert("L")),
    ],
)
def test_what_is_usual_in_a_set_is_no_fault_of_its_images(tmp_path: Path, code: str, change) -> None:
    """A set of night pictures, snow, smooth sheets or X-rays: at most one finding about the whole, no list."""
    for seed in range(12):
        (tmp_path / "ab"[seed % 2]).mkdir(exist_ok=True)
        change(photograph(seed)).save(tmp_path / "ab"[seed % 2] / f"{seed}.png")
    assert code not in {found for _, found in planted(tmp_path)}
    assert {found.code for found in findings(tmp_path)} <= {f"{code}_set"}


def test_the_worst_come_first_and_scores_say_how_bad(folder: Path) -> None:
    for name, factor in (("bad", 0.2), ("worst", 0.05), ("mild", 0.3)):
        scaled(photograph(70), factor).save(folder / "a" / f"{name}.png")
    issues = checked(folder)["exposure"].issues
    assert issues["name"].to_list()[0] == "a/worst.png"
    assert issues["score"].is_sorted(descending=True)
    assert issues["score"].is_between(0, 1).all()
    assert issues["value"].str.contains(r"99 % below \d+ %").all()


def test_no_images_no_issues() -> None:
    table, found = survey(images([Path("nowhere.png")]), workers=1)
    outcomes = [CHECKS.get(name).check(Material(table=table, survey=found)) for name in NAMES]
    assert pl.concat([outcome.issues for outcome in outcomes]).select("name", "value", "do").rows() == [
        ("nowhere.png", "missing", "drop")
    ]
