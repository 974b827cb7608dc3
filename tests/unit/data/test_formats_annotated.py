"""Annotation formats: exact rows of hand-made files, every degenerate box named, hostile XML refused."""

from __future__ import annotations

import contextlib
import json
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import annotated
from annotated import HEIGHT, WIDTH, picture, voc_xml
from sortal.core.errors import DataError, SortalError
from sortal.data.formats.exact import fraction, number, percent, pixels, read_json, shown, write_json
from sortal.data.formats.safe_xml import parse_xml
from sortal.data.open import images
from sortal.data.table import ImageTable


def _rows(table: ImageTable, *columns: str) -> list[tuple[Any, ...]]:
    names = [*table.labels.names, None]
    frame = table.frame.with_columns(label=pl.Series([names[label] for label in table.frame["label"]]))
    chosen = frame.select("uri", "label", *columns)
    return [tuple(tuple(v) if isinstance(v, list) else v for v in row) for row in chosen.iter_rows()]


def _codes(table: ImageTable) -> set[str]:
    return {found.code for found in table.findings}


def test_voc_gives_crops_of_exactly_the_pixels(tmp_path: Path) -> None:
    table = images(annotated.voc(tmp_path))
    assert _rows(table, "region", "split", "difficult", "grade") == [
        ("JPEGImages/a.png", "cell", (0.1, 0.1, 0.35, 0.6), "train", 0, 1),
        ("JPEGImages/a.png", "猫 & <cat>", (0.5, 0.0, 1.0, 0.5), "train", 1, 2),
        ("JPEGImages/b.png", "cell", (0.0, 0.0, 0.25, 1.0), "test", 0, 1),
    ]
    crop = table.read(0)
    assert isinstance(crop, np.ndarray)
    assert crop.shape == (10, 10, 3)
    assert crop[0, 0].tolist() == [1, 2, 4]
    assert crop[-1, -1].tolist() == [1, 11, 13]


def test_a_margin_grows_the_crop_and_leaves_the_box(tmp_path: Path) -> None:
    table = images(annotated.voc(tmp_path), margin=0.2)
    assert np.allclose(table.frame["region"].to_numpy()[0], [0.05, 0.0, 0.4, 0.7])
    assert table.frame["box"].to_list()[0] == [0.1, 0.1, 0.35, 0.6]
    crop = table.read(0)
    assert isinstance(crop, np.ndarray)
    assert crop.shape == (14, 14, 3)


def test_one_label_an_image_as_asked(tmp_path: Path) -> None:
    source = annotated.voc(tmp_path)
    table = images(source, boxes="image")
    assert _rows(table, "region") == [("JPEGImages/b.png", "cell", None)]
    assert "several_classes" in _codes(table)
    assert table.rejected["name"].to_list() == ["a.png"]
    assert _rows(images(source, boxes="largest"), "boxes") == [
        ("JPEGImages/a.png", "猫 & <cat>", 2),
        ("JPEGImages/b.png", "cell", 1),
    ]
    with pytest.raises(DataError, match="unknown way"):
        images(source, boxes="all")


DEGENERATE = {
    "no area": (4, 2, 4, 12),
    "swapped": (14, 2, 4, 12),
    "outside": (50, 2, 60, 12),
    "no number": ("nan", 2, 14, 12),
    "words": ("four", 2, 14, 12),
    "infinite": (0, 0, "inf", 5),
}


def test_degenerate_boxes_are_named_and_nothing_else(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    good = [("x", (0, 0, 10, 10)), ("y", (-5, 5, 20, 30))]
    bad = [("x", box) for box in DEGENERATE.values()]
    (tmp_path / "a.xml").write_text(voc_xml("a.png", [*good, *bad]))
    table = images(tmp_path / "a.xml")
    assert [row[1] for row in _rows(table)] == ["x", "y"]
    assert table.frame["region"].to_list()[1] == [0.0, 0.25, 0.5, 1.0]
    assert table.rejected["code"].to_list() == ["degenerate_box"] * len(DEGENERATE)
    assert {"degenerate_box", "clipped_box"} <= _codes(table)
    reasons = " ".join(table.rejected["reason"])
    assert all(word in reasons for word in ("no area", "swapped", "outside", "no number"))


def test_the_same_box_twice_is_one_row_and_two_classes_are_none(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    boxes = [
        ("x", (0, 0, 10, 10)),
        ("x", (0, 0, 10, 10)),
        ("x", (5, 5, 9, 9)),
        ("y", (5, 5, 9, 9)),
        ("y", (1, 1, 3, 3)),
    ]
    (tmp_path / "a.xml").write_text(voc_xml("a.png", boxes))
    table = images(tmp_path / "a.xml")
    assert [row[1] for row in _rows(table)] == ["x", "y"]
    assert sorted(table.rejected["code"]) == ["conflicting_labels"] * 2 + ["duplicate_row"]


def test_without_a_size_the_image_is_asked(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(voc_xml("a.png", [("x", (4, 2, 14, 12)), ("y", (0, 0, 4, 4))], size=False))
    assert images(tmp_path / "a.xml").frame["region"].to_list()[0] == [0.1, 0.1, 0.35, 0.6]


def test_missing_images_are_findings_and_all_missing_is_an_error(tmp_path: Path) -> None:
    source = annotated.voc(tmp_path)
    (tmp_path / "JPEGImages" / "b.png").unlink()
    table = images(source)
    assert len(table) == 2
    assert table.rejected["code"].to_list() == ["missing_file"]
    (tmp_path / "JPEGImages" / "a.png").unlink()
    with pytest.raises(DataError, match="none of the annotated images"):
        images(source)


def test_other_xml_files_are_findings(tmp_path: Path) -> None:
    source = annotated.voc(tmp_path)
    (tmp_path / "Annotations" / "c.xml").write_text("<html/>")
    (tmp_path / "Annotations" / "d.xml").write_text("<annotation><object>")
    table = images(source)
    assert len(table) == 3
    assert sorted(table.rejected["name"]) == ["Annotations/c.xml", "Annotations/d.xml"]


BOMB = '<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
FILE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>'


@pytest.mark.parametrize("text", [BOMB, FILE, '<!DOCTYPE a SYSTEM "http://127.0.0.1/x.dtd"><annotation/>'])
def test_no_entity_is_ever_expanded(text: str) -> None:
    with pytest.raises(DataError, match="DTD"):
        parse_xml(text.encode(), "x.xml")


@pytest.mark.parametrize("text", ["", "<a>", "<a>" * 100, "<a>&undefined;</a>", "\x00", "<a b='1' b='2'/>"])
def test_broken_xml_is_a_clear_error(text: str) -> None:
    with pytest.raises(DataError):
        parse_xml(text.encode(), "x.xml")


def test_cvat_reads_shapes_attributes_and_tags(tmp_path: Path) -> None:
    table = images(annotated.cvat(tmp_path))
    assert _rows(table, "region", "split", "grade", "occluded") == [
        ("images/a.png", "scratch", (0.1, 0.1, 0.35, 0.6), "train", 3, 1),
        ("images/a.png", "dent", (0.5, 0.0, 1.0, 0.5), "train", 1, None),
        ("images/b.png", "dent", None, None, None, None),
    ]
    assert table.labels.names == ("scratch", "dent")
    assert table.frame["polygon"].to_list()[1] == [0.5, 0.0, 1.0, 0.0, 1.0, 0.5]
    assert {"shape_not_read", "empty_class"} <= _codes(table)


def test_cvat_turned_boxes_ellipses_and_masks_are_the_box_around(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    shapes = (
        '<box label="x" xtl="10" ytl="8" xbr="20" ybr="12" rotation="90"/>'
        '<ellipse label="y" cx="10" cy="10" rx="4" ry="2"/>'
        '<mask label="y" left="2" top="4" width="8" height="10" rle="1"/>'
    )
    head = f'<annotations><image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">'
    (tmp_path / "a.xml").write_text(f"{head}{shapes}</image></annotations>")
    found = images(tmp_path / "a.xml").frame["box"].to_numpy() * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    assert np.allclose(found, [[13, 5, 17, 15], [6, 8, 14, 12], [2, 4, 10, 14]])


def test_coco_reads_boxes_polygons_masks_and_parents(tmp_path: Path) -> None:
    table = images(annotated.coco(tmp_path))
    assert _rows(table, "region", "split", "grade", "iscrowd") == [
        ("train2017/a.png", "cat", (0.1, 0.1, 0.35, 0.6), "train", 2, None),
        ("train2017/a.png", "bus", (0.5, 0.0, 1.0, 0.5), "train", None, None),
        ("train2017/a.png", "bus", (0.0, 0.5, 0.125, 0.75), "train", None, 1),
        ("train2017/b.png", "bus", None, "train", None, None),
    ]
    assert table.labels.names == ("bus", "cat")
    assert table.labels.parents == ("vehicle", "animal")
    assert len(images(tmp_path)) == 4


def test_coco_with_nonsense_in_its_boxes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    boxes: list[Any] = [
        [0, 0, 10, 10],
        [1, 1, 0, 5],
        [1, 1, -5, 5],
        [float("nan"), 0, 1, 1],
        ["x", 0, 1, 1],
        [1],
        "box",
    ]
    notes = [{"id": n, "image_id": 1, "category_id": 1, "bbox": box} for n, box in enumerate(boxes)]
    notes.append({"id": 99, "image_id": 404, "category_id": 1, "bbox": [0, 0, 5, 5]})
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": notes,
        "categories": [{"id": 1, "name": "x"}],
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    table = images(tmp_path / "c.json")
    assert table.frame["region"].to_list() == [[0.0, 0.0, 0.25, 0.5]]
    assert table.rejected["code"].to_list() == ["degenerate_box"] * 6


def test_yolo_reads_numbers_names_and_splits(tmp_path: Path) -> None:
    table = images(annotated.yolo(tmp_path))
    assert _rows(table, "region", "split") == [
        ("images/train/a.png", "nut", (0.1, 0.1, 0.35, 0.6), "train"),
        ("images/train/a.png", "bolt", (0.5, 0.0, 1.0, 0.5), "train"),
        ("images/val/b.png", "bolt", (0.5, 0.0, 1.0, 0.5), "val"),
    ]
    (tmp_path / "labels" / "train" / "a.txt").write_text(
        "0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.1 0.1\nx 1 2\n1 0.5 0.5\n0 9 9 1 1\n"
    )
    table = images(tmp_path)
    assert table.labels.names == ("nut", "bolt", "7")
    assert sorted(table.rejected["code"]) == ["bad_annotation", "bad_annotation", "degenerate_box"]


def test_yolo_label_files_beside_the_images_and_a_class_list(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "a.png")
    (tmp_path / "train" / "a.txt").write_text("1 0.5 0.5 1 1\n0 0.25 0.25 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("nut\nbolt\n")
    table = images(tmp_path)
    assert _rows(table, "region", "split") == [
        ("train/a.png", "bolt", (0.0, 0.0, 1.0, 1.0), "train"),
        ("train/a.png", "nut", (0.0, 0.0, 0.5, 0.5), "train"),
    ]


def test_labelstudio_reads_grades_and_agreement(tmp_path: Path) -> None:
    table = images(annotated.labelstudio(tmp_path))
    assert _rows(table, "region", "grade", "annotator", "annotators", "agreement", "label_by_bo") == [
        ("a.png", "scratch", (0.1, 0.1, 0.35, 0.6), 4, "5", None, None, None),
        ("a.png", "dent", (0.5, 0.0, 1.0, 0.5), None, "5", None, None, None),
        ("b.png", "dent", None, None, "cy", 3, 0.666667, "scratch"),
    ]


def test_labelstudio_boxes_of_two_annotators(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")

    def drawn(by: int, *boxes: tuple[int, str]) -> dict[str, Any]:
        value = {"y": 0, "width": 20, "height": 50}
        results = [
            {"id": f"{by}{x}", "type": "rectanglelabels", "value": {**value, "x": x, "rectanglelabels": [label]}}
            for x, label in boxes
        ]
        return {"completed_by": by, "updated_at": f"2025-01-0{by}", "result": results}

    answers = [drawn(2, (0, "x"), (40, "y")), drawn(1, (2, "x"), (40, "x"))]
    (tmp_path / "e.json").write_text(json.dumps([{"id": 1, "data": {"image": "a.png"}, "annotations": answers}]))
    assert _rows(images(tmp_path / "e.json"), "annotator", "agreement") == [
        ("a.png", "x", 2, 1.0),
        ("a.png", "y", 2, 0.0),
    ]


def test_labelstudio_turned_boxes_ellipses_and_brushes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    turned = {"x": 50, "y": 20, "width": 25, "height": 20, "rotation": 90, "rectanglelabels": ["x"]}
    round_ = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["y"]}
    results = [
        {**size, "id": "1", "type": "rectanglelabels", "value": turned},
        {**size, "id": "2", "type": "ellipselabels", "value": round_},
        {**size, "id": "3", "type": "brushlabels", "value": {"brushlabels": ["y"]}},
    ]
    (tmp_path / "e.json").write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": results}]}]))
    table = images(tmp_path / "e.json")
    pixels_found = table.frame["box"].to_numpy() * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    assert np.allclose(pixels_found, [[16, 4, 20, 14], [16, 6, 24, 14]])
    assert "shape_not_read" in _codes(table)


def test_a_weight_in_words_weighs_no_row(tmp_path: Path) -> None:
    source = annotated.cvat(tmp_path)
    source.write_text(source.read_text().replace('name="grade">3', 'name="weight">heavy'))
    table = images(source)
    assert table.frame["weight"].to_list() == [1.0, 1.0, 1.0]
    assert table.frame["weight_given"].to_list() == ["heavy", None, None]


def test_keypoints_of_yolo_leave_the_box(tmp_path: Path) -> None:
    source = annotated.yolo(tmp_path)
    (source / "labels" / "train" / "a.txt").write_text("0 0.225 0.35 0.25 0.5 0.1 0.1 0.2 0.2\n")
    (source / "data.yaml").write_text("kpt_shape: [2, 2]\nnames: [nut, bolt]\n")
    table = images(source)
    assert table.frame["region"].to_list()[0] == [0.1, 0.1, 0.35, 0.6]
    assert "polygon" not in table.frame.columns or table.frame["polygon"][0] is None


def test_labelstudio_ties_and_skips_have_no_class(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")

    def chosen(label: str, **more: Any) -> dict[str, Any]:
        return {**more, "result": [{"from_name": "choice", "type": "choices", "value": {"choices": [label]}}]}

    tasks = [
        {"id": 1, "data": {"image": "a.png"}, "annotations": [chosen("x"), chosen("y")]},
        {"id": 2, "data": {"image": "b.png"}, "annotations": [chosen("x"), chosen("y", was_cancelled=True)]},
    ]
    (tmp_path / "e.json").write_text(json.dumps(tasks))
    table = images(tmp_path / "e.json")
    assert sorted(_rows(table), key=str) == [("a.png", None), ("b.png", "x")]
    assert {"missing_label", "skipped_annotation"} <= _codes(table)


def test_imagefolder_reads_both_kinds_of_metadata_and_objects(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    table = images(annotated.imagefolder(tmp_path / "one"))
    assert sorted(_rows(table, "split", "grade")) == [
        ("test/b.png", "dog", "test", 1),
        ("train/a.png", "cat", "train", 3),
    ]
    picture(tmp_path / "two" / "a.png")
    line = {"file_name": "a.png", "objects": {"bbox": [[4, 2, 10, 10], [0, 0, 40, 20]], "categories": [1, 0]}}
    (tmp_path / "two" / "metadata.jsonl").write_text(json.dumps(line))
    assert _rows(images(tmp_path / "two"), "region") == [
        ("a.png", "1", (0.1, 0.1, 0.35, 0.6)),
        ("a.png", "0", (0.0, 0.0, 1.0, 1.0)),
    ]


ODD = [b"NaN", b"null", b"[]", b"{}", b'""', b"-1", b"1e400", b"9" * 400, b"<", b"&amp;", b"\xff", b"[[1]]", b"\x00"]


@pytest.mark.parametrize("kind", ["voc", "cvat", "coco", "yolo", "labelstudio", "imagefolder"])
def test_damaged_annotations_are_rows_findings_or_clear_errors(kind: str, tmp_path: Path) -> None:
    source = getattr(annotated, kind)(tmp_path)
    suffixes = (".xml", ".json", ".txt", ".yaml", ".csv", ".jsonl")
    whole = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.suffix in suffixes}
    rng = random.Random(kind)
    for _ in range(12):
        path, data = rng.choice(list(whole.items()))
        start, stop = rng.choice([found.span() for found in re.finditer(rb'"[^"]*"|[^<>\s]+', data)])
        path.write_bytes(data[:start] + rng.choice(ODD) + data[stop:])
        with contextlib.suppress(SortalError):
            assert len(images(source, boxes=rng.choice(["crops", "image", "largest"])))
        path.write_bytes(data)


@pytest.mark.parametrize("name", ["cat/1.png", "train/cat/1.png", "labels/1.png", "annotations/1.png"])
def test_class_folders_stay_class_folders(name: str, tmp_path: Path) -> None:
    picture(tmp_path / name)
    picture(tmp_path / name.replace("1.png", "2.png"))
    (tmp_path / "readme.txt").write_text("0 or more images\n")
    (tmp_path / "notes.json").write_text('{"images": "none", "annotations": 3}')
    (tmp_path / "a.xml").write_text("<project/>")
    assert len(images(tmp_path)) == 2


def test_an_archive_with_a_climbing_name_in_its_annotations(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "JPEGImages/a.png")
        archive.writestr("Annotations/a.xml", voc_xml("../../a.png", [("x", (0, 0, 5, 5)), ("y", (5, 5, 9, 9))]))
    table = images(tmp_path / "a.zip")
    assert set(table.frame["member"]) == {"JPEGImages/a.png"}


def test_numbers_go_through_pixels_percent_and_text_without_losing_a_bit() -> None:
    rng = np.random.default_rng(0)
    for share, size in zip(rng.random(300).tolist(), rng.integers(1, 9000, 300).tolist(), strict=True):
        assert fraction(pixels(share, size), size) == share
        assert fraction(number(shown(pixels(share, size))), size) == share
        assert fraction(percent(share), 100) == share
        assert float(number(shown(share))) == share
        assert fraction(read_json(write_json([percent(share)]), "x")[0], 100) == share
        whole = int(share * size)
        assert pixels(whole / size, size) == whole
    assert write_json({"a": 1, "b": "猫", "c": [percent(0.5)]}).decode().split() == [
        "{",
        '"a":',
        "1,",
        '"b":',
        '"猫",',
        '"c":',
        "[",
        "50",
        "]",
        "}",
    ]
