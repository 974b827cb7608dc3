"""Converting: what is said about what a format cannot hold, how images are placed, and the blood cells of BCCD."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

import annotated
from sortal.asked import table_for
from sortal.cli.app import build
from sortal.core.errors import DataError, InputError
from sortal.core.labels import LabelSet
from sortal.core.recipe import load_recipe
from sortal.data.convert import convert
from sortal.data.decode import decode
from sortal.data.formats.placing import png
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import SPLITS, build_table

BCCD = Path(os.environ.get("SORTAL_SHARED", Path(__file__).parents[4] / "shared")) / "data" / "bccd.tar"


def _lost(source: Path, to: str, out: Path) -> str:
    return " ".join(convert(images(source), to, out).body["not_held"])


def test_each_format_says_what_it_cannot_hold(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = annotated.coco(tmp_path / "in")
    assert _lost(source, "coco", tmp_path / "1.json") == ""
    assert "coarse classes" in _lost(source, "csv", tmp_path / "2.csv")
    assert "coarse classes" in _lost(source, "cvat", tmp_path / "3.xml")
    lost = _lost(source, "folder", tmp_path / "4")
    assert all(word in lost for word in ("grade", "polygons", "boxes: each becomes an image of its own"))
    assert "split" not in lost
    for to in ("voc", "yolo"):
        with pytest.raises(DataError, match="classes of whole images"):
            convert(images(source), to, tmp_path / "5")
    grown = convert(images(source, margin=0.1), "coco", tmp_path / "6.json")
    assert "margin" in " ".join(grown.body["not_held"])


def test_voc_rounds_to_whole_pixels_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = annotated.cvat(tmp_path / "in")
    text = source.read_text().replace('xtl="4.0"', 'xtl="4.4"').replace('<tag label="dent" source="manual"/>', "")
    source.write_text(text)
    assert "rounded to whole pixels" in _lost(source, "voc", tmp_path / "out")
    assert images(tmp_path / "out").frame["region"].to_list()[0] == [0.1, 0.1, 0.35, 0.6]


def test_crops_become_the_exact_pixels(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    report = convert(images(annotated.voc(tmp_path / "in")), "folder", tmp_path / "out")
    assert report.metrics["rows written"].value == 3
    crop = np.asarray(Image.open(tmp_path / "out" / "train" / "猫 & <cat>" / "a.png"))
    assert crop.shape == (10, 20, 3)
    assert crop[0, 0].tolist() == [1, 0, 20]
    assert crop[-1, -1].tolist() == [1, 9, 39]


def test_names_stay_and_collisions_get_numbers(tmp_path: Path) -> None:
    for number, name in enumerate(["x/图 1.png", "y/图 1.png", "z/图 1.PNG", "z/图 1-2.png"]):
        annotated.picture(tmp_path / "in" / name, number)
    frame = pl.DataFrame({"uri": ["x/图 1.png", "y/图 1.png", "z/图 1.PNG", "z/图 1-2.png"], "label": [0, 0, 0, 0]})
    table = build_table(frame, labels=LabelSet(names=("部件",)), source="s", root=tmp_path / "in")
    convert(table, "folder", tmp_path / "out")
    listed = sorted(path.name for path in (tmp_path / "out" / "部件").iterdir())
    assert listed == ["图 1-2-2.png", "图 1-2.png", "图 1-3.PNG", "图 1.png"]
    assert scan(images(tmp_path / "out")).content_digest == scan(table).content_digest


def test_links_copies_and_references(tmp_path: Path) -> None:
    annotated.picture(tmp_path / "in" / "cat" / "a.png")
    annotated.picture(tmp_path / "in" / "dog" / "b.png", 1)
    table = images(tmp_path / "in")
    convert(table, "folder", tmp_path / "linked")
    convert(table, "folder", tmp_path / "copied", images="copy")
    convert(table, "csv", tmp_path / "t" / "t.csv")
    convert(table, "coco", tmp_path / "c" / "c.json", images="copy")
    assert (tmp_path / "linked" / "cat" / "a.png").is_symlink()
    assert not (tmp_path / "copied" / "cat" / "a.png").is_symlink()
    assert "../in/cat/a.png,cat" in (tmp_path / "t" / "t.csv").read_text()
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["c-images", "c.json"]
    assert len(images(tmp_path / "c" / "c.json")) == 2


def test_unreadable_images_are_findings(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = annotated.voc(tmp_path / "in")
    (source / "JPEGImages" / "a.png").write_bytes(b"no image")
    report = convert(images(source), "folder", tmp_path / "out")
    assert report.metrics["rows written"].value == 1
    unreadable = [found for found in report.findings if found.code == "unreadable"]
    assert len(unreadable[0].rows) == 2


def test_what_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    annotated.picture(tmp_path / "in" / "cat" / "a.png")
    table = images(tmp_path / "in")
    with pytest.raises(InputError, match="unknown format"):
        convert(table, "vok", tmp_path / "x")
    with pytest.raises(InputError, match="unknown format"):
        convert(table, "mnist", tmp_path / "x")
    with pytest.raises(DataError, match="one file"):
        convert(table, "coco", tmp_path / "x")
    with pytest.raises(DataError, match="read from"):
        convert(table, "folder", tmp_path / "in", replace=True)
    with pytest.raises(DataError, match="would be replaced"):
        convert(table, "folder", tmp_path, replace=True)
    convert(table, "csv", tmp_path / "t" / "t.csv", images="copy")
    with pytest.raises(DataError, match="would be replaced"):
        convert(images(tmp_path / "t" / "t.csv"), "coco", tmp_path / "t" / "t.json", images="link", replace=True)
    assert (tmp_path / "t" / "t-images" / "a.png").is_file()
    for name in ("a/b", ".hidden", "..", "train"):
        odd = build_table(
            pl.DataFrame({"uri": ["cat/a.png"], "label": [0]}),
            labels=LabelSet(names=(name,)),
            source="s",
            root=tmp_path / "in",
        )
        with pytest.raises(DataError, match="cannot hold"):
            convert(odd, "folder", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_ordinal_grade_survives_box_formats(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    table = images(annotated.cvat(tmp_path / "in"))
    grades = sorted(table.frame["grade"].drop_nulls())
    for to in ("csv", "coco", "cvat", "labelstudio"):
        out = tmp_path / (f"{to}.csv" if to == "csv" else f"{to}.xml" if to == "cvat" else f"{to}.json")
        convert(table, to, out)
        back = images(out)
        assert sorted(back.frame["grade"].drop_nulls().cast(pl.Int64)) == grades
        assert back.frame["polygon"].drop_nulls().to_list() == table.frame["polygon"].drop_nulls().to_list()


def test_a_recipe_says_what_boxes_become(tmp_path: Path) -> None:
    source = annotated.voc(tmp_path)
    recipes = [load_recipe(None, words) for words in ([], ["data.boxes=largest"], ["data.margin=0.2"])]
    crops, largest, grown = (table_for(source, recipe) for recipe in recipes)
    assert (len(crops), len(largest), len(grown)) == (3, 2, 3)
    assert largest.frame["region"].null_count() == 2
    assert np.allclose(grown.frame["region"].to_numpy()[0], [0.05, 0.0, 0.4, 0.7])


@pytest.mark.parametrize("shape", [(3, 5, 1), (3, 5, 3), (3, 5, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_png_keeps_every_sample(shape: tuple[int, int, int], kind: type) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape).astype(kind)
    pixels[:, :, 3:] = np.iinfo(kind).max
    channels = 1 if shape[2] == 1 else 3
    found = decode(png(pixels), channels=channels, depth=8 if kind is np.uint8 else 16, where="x")
    assert np.array_equal(found, pixels[:, :, :channels])


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = annotated.voc(tmp_path / "in")
    done = CliRunner().invoke(build(), ["convert", str(source), "--to", "cvat", "--out", str(tmp_path / "a.xml")])
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "a.xml") in done.output
    assert "sortal train" in done.output
    assert "rows written" in done.output


@pytest.mark.real
def test_bccd_has_its_published_counts(tmp_path: Path) -> None:
    if not BCCD.is_file():
        pytest.skip(f"{BCCD} is not here; set SORTAL_SHARED to the folder that holds data/bccd.tar")
    table = images(BCCD)
    counts = dict(zip(table.labels.names, np.bincount(table.label_array()).tolist(), strict=True))
    assert counts == {"Platelets": 361, "RBC": 4153, "WBC": 372}
    assert table.rejected["code"].to_list() == ["degenerate_box"] * 2
    assert table.frame["member"].n_unique() == 364
    assert [len(np.unique(table.frame["member"][table.split_rows(name)])) for name in SPLITS] == [205, 87, 72]
    again = scan(table)
    for to in ("voc", "cvat"):
        out = tmp_path / (to if to == "voc" else f"{to}.xml")
        report = convert(table, to, out)
        assert report.metrics["rows written"].value == len(table)
        assert scan(images(out)).content_digest == again.content_digest
