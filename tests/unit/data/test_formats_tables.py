"""CSV, TSV, JSON lines and Parquet tables, list files and JSON manifests."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from sortal.core.errors import DataError, MachineError, SortalError
from sortal.data.formats.manifest import Manifest
from sortal.data.formats.manifest import write as write_manifest
from sortal.data.open import images
from sortal.data.table import ImageTable


def _files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def _csv(root: Path, text: str, name: str = "t.csv", encoding: str = "utf-8") -> ImageTable:
    (root / name).write_bytes(text.encode(encoding))
    return images(root / name)


def _codes(table: ImageTable) -> set[str]:
    return {found.code for found in table.findings}


@pytest.mark.parametrize(
    "header",
    [
        "path,label",
        "image_path,class",
        "filename,category",
        "file,target",
        "filepath,class_name",
        "Image,Label",
        "id,label",
    ],
)
def test_common_column_names(tmp_path: Path, header: str) -> None:
    _files(tmp_path, "i/a.jpg", "i/b.jpg")
    table = _csv(tmp_path, f"{header}\ni/a.jpg,cat\n./i/b.jpg,dog\n")
    assert table.names() == ["i/a.jpg", "i/b.jpg"]
    assert table.labels.names == ("cat", "dog")
    assert table.read(1) == b"i/b.jpg"


def test_split_group_weight_and_extra_columns(tmp_path: Path) -> None:
    _files(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    header = "path,label,split,group,weight,camera\n"
    text = f"{header}a.jpg,x,Training,g1,2,left\nb.jpg,y,valid,g2,,right\nc.jpg,y,,g2,0.5,left\n"
    table = _csv(tmp_path, text)
    assert table.frame["split"].to_list() == ["train", "val", None]
    assert table.frame["group"].to_list() == ["g1", "g2", "g2"]
    assert table.frame["weight"].to_list() == [2.0, 1.0, 0.5]
    assert table.frame["camera"].to_list() == ["left", "right", "left"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_and_unicode(tmp_path: Path, encoding: str) -> None:
    _files(tmp_path, "图/一.jpg", "图/二.jpg")
    table = _csv(tmp_path, "path,label\n图/一.jpg,螺丝\n图/二.jpg,螺母\n", encoding=encoding)
    assert set(table.labels.names) == {"螺丝", "螺母"}
    assert len(table) == 2


def test_other_encodings_are_refused_clearly(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="save the file as UTF-8"):
        _csv(tmp_path, "path,label\na.jpg,螺丝\n", encoding="gbk")


@pytest.mark.parametrize(("name", "mark"), [("t.tsv", "\t"), ("t.csv", ";"), ("t.csv", "\t")])
def test_separators(tmp_path: Path, name: str, mark: str) -> None:
    _files(tmp_path, "a.jpg", "b.jpg")
    table = _csv(tmp_path, f"path{mark}label\na.jpg{mark}x, y\nb.jpg{mark}z\n", name)
    assert table.labels.names == ("x, y", "z")


def test_json_lines_and_parquet_give_the_same_table(tmp_path: Path) -> None:
    _files(tmp_path, "a.jpg", "b.jpg")
    rows = [{"path": "a.jpg", "label": 1, "split": "train"}, {"path": "b.jpg", "label": 0, "split": "test"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pl.DataFrame(rows).write_parquet(tmp_path / "t.parquet")
    text = _csv(tmp_path, "path,label,split\na.jpg,1,train\nb.jpg,0,test\n")
    digests = {images(tmp_path / name).listing_digest for name in ("t.jsonl", "t.parquet")}
    assert digests == {text.listing_digest}


def test_windows_paths_and_absolute_paths(tmp_path: Path) -> None:
    _files(tmp_path, "i/a.jpg", "i/b.jpg")
    table = _csv(tmp_path, f"path,label\ni\\a.jpg,x\n{tmp_path}/i/b.jpg,y\n")
    assert table.names() == ["i/a.jpg", "i/b.jpg"]


def test_missing_files_and_labels_are_named(tmp_path: Path) -> None:
    _files(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    table = _csv(tmp_path, "path,label\na.jpg,x\nb.jpg,y\nc.jpg,\ngone.jpg,x\n")
    found = {finding.code: finding for finding in table.findings}
    assert found["missing_file"].rows == ("gone.jpg",)
    assert found["missing_label"].rows == ("c.jpg",)
    assert table.rejected["name"].to_list() == ["gone.jpg"]
    assert table.label_array().tolist() == [0, 1, -1]


def test_no_image_at_all_says_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the images exists") as error:
        _csv(tmp_path, "path,label\nx/gone.jpg,x\n")
    assert "x/gone.jpg" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.jpg,x|y\nb.jpg,x\n",
        "path,label\na.jpg,x;y\nb.jpg,y\n",
        "path,label\na.jpg,\"['x', 'y']\"\nb.jpg,x\n",
        "path,cat,dog\na.jpg,1,1\nb.jpg,0,1\n",
        "path,label\na.jpg,x\na.jpg,y\nb.jpg,x\nb.jpg,y\n",
    ],
)
def test_multi_label_tables_are_refused(tmp_path: Path, text: str) -> None:
    _files(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(DataError, match="multi-label"):
        _csv(tmp_path, text)


def test_lists_in_json_lines_are_multi_label(tmp_path: Path) -> None:
    _files(tmp_path, "a.jpg")
    with pytest.raises(DataError, match="multi-label"):
        _csv(tmp_path, '{"path": "a.jpg", "label": ["x", "y"]}\n', "t.jsonl")


def test_repeats_and_conflicts_are_reported(tmp_path: Path) -> None:
    _files(tmp_path, *(f"{number}.jpg" for number in range(40)))
    rows = "".join(f"{number}.jpg,{'xy'[number % 2]}\n" for number in range(40))
    table = _csv(tmp_path, f"path,label\n{rows}0.jpg,x\n1.jpg,x\n")
    assert {"duplicate_row", "conflicting_labels"} <= _codes(table)
    assert "1.jpg" not in table.names()
    assert len(table) == 39
    assert table.rejected.height == 3


def test_bad_regions_are_left_out(tmp_path: Path) -> None:
    _files(tmp_path, "a.jpg")
    table = _csv(tmp_path, "path,label,x0,y0,x1,y1\na.jpg,x,0,0,0.5,1\na.jpg,y,0.5,0,0.4,1\na.jpg,y,,,,\n")
    assert len(table) == 2
    assert "bad_region" in _codes(table)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty file"),
        ("path,label\n", "without rows"),
        ("name_of_thing,label\na,b\n", "no column of image paths"),
        ("path,label,weight\na.jpg,x,heavy\n", "must hold numbers"),
        ("path,label,weight\na.jpg,x,-1\n", "0 or more"),
        ("path,label,split\na.jpg,x,holdout\n", "unknown split"),
        ("path,label\na.jpg,x,y,z\n", "not a readable table"),
    ],
)
def test_bad_tables_say_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    _files(tmp_path, "a.jpg")
    with pytest.raises(DataError) as error:
        _csv(tmp_path, text)
    assert said in str(error.value)


def test_a_label_column_by_name(tmp_path: Path) -> None:
    _files(tmp_path, "a.jpg", "b.jpg")
    _csv(tmp_path, "path,label,defect\na.jpg,x,crack\nb.jpg,x,dent\n")
    assert images(tmp_path / "t.csv", label="defect").labels.names == ("crack", "dent")
    with pytest.raises(DataError, match="did you mean defect"):
        images(tmp_path / "t.csv", label="defects")


def test_a_table_without_labels_is_for_prediction(tmp_path: Path) -> None:
    _files(tmp_path, "a.jpg", "b.jpg")
    table = _csv(tmp_path, "path,camera\na.jpg,left\nb.jpg,right\n")
    assert table.label_array().tolist() == [-1, -1]
    assert "no_labels" in _codes(table)


def test_groups_from_a_column_or_a_pattern(tmp_path: Path) -> None:
    _files(tmp_path, "lot1_a.jpg", "lot1_b.jpg", "lot2_c.jpg", "x.jpg")
    _csv(tmp_path, "path,label,camera\nlot1_a.jpg,x,l\nlot1_b.jpg,y,r\nlot2_c.jpg,x,l\nx.jpg,y,r\n")
    assert images(tmp_path / "t.csv", group="camera").frame["group"].to_list() == ["l", "r", "l", "r"]
    table = images(tmp_path / "t.csv", group=r"(lot\d+)_")
    assert table.frame["group"].to_list() == ["lot1", "lot1", "lot2", None]
    assert "group_missing" in _codes(table)
    for wrong in ("cameras", "(", r"(\d+)zzz"):
        with pytest.raises(DataError):
            images(tmp_path / "t.csv", group=wrong)


def _grocery(root: Path) -> Path:
    _files(root / "dataset", "train/a 1.jpg", "train/b.jpg", "val/a.jpg", "test/c.jpg")
    (root / "dataset" / "train.txt").write_text("train/a 1.jpg, 0, 0\ntrain/b.jpg, 1, 0\n")
    (root / "dataset" / "val.txt").write_text("val/a.jpg, 0, 0\n")
    (root / "dataset" / "test.txt").write_text("test/c.jpg, 2, 1\n")
    header = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)\n"
    (root / "dataset" / "classes.csv").write_text(f"{header}Pink-Lady,0,Apple,0\nGala,1,Apple,0\nLime,2,Citrus,1\n")
    return root


@pytest.mark.parametrize("inner", ["", "dataset"])
def test_list_files_with_a_taxonomy(tmp_path: Path, inner: str) -> None:
    table = images(_grocery(tmp_path) / inner)
    assert table.labels.names == ("Pink-Lady", "Gala", "Lime")
    assert table.labels.parents == ("Apple", "Apple", "Citrus")
    assert [table.split_rows(split).size for split in ("train", "val", "test")] == [2, 1, 1]


def test_the_coarse_level_of_a_taxonomy(tmp_path: Path) -> None:
    table = images(_grocery(tmp_path), level="coarse")
    assert table.labels.names == ("Apple", "Citrus")
    assert table.label_array().tolist() == [0, 0, 0, 1]
    assert table.frame["fine"].to_list() == ["Pink-Lady", "Gala", "Pink-Lady", "Lime"]
    assert table.listing_digest != images(_grocery(tmp_path)).listing_digest


def test_no_coarse_level_without_a_taxonomy(tmp_path: Path) -> None:
    _files(tmp_path, "a/1.jpg", "b/2.jpg")
    with pytest.raises(DataError, match="no taxonomy"):
        images(tmp_path, level="coarse")


def test_list_files_with_a_class_list(tmp_path: Path) -> None:
    _files(tmp_path, "i/a b.jpg", "i/c.jpg")
    (tmp_path / "list.txt").write_text("i/a b.jpg 1\ni/c.jpg 0\n")
    (tmp_path / "classes.txt").write_text("nut\nscrew\n")
    table = images(tmp_path / "list.txt")
    assert table.labels.names == ("nut", "screw")
    assert table.label_array().tolist() == [1, 0]
    (tmp_path / "classes.txt").write_text("nut\n")
    with pytest.raises(DataError, match="ids without a class name"):
        images(tmp_path / "list.txt")


def test_list_lines_that_are_not_understood(tmp_path: Path) -> None:
    _files(tmp_path, "a.jpg")
    (tmp_path / "list.txt").write_text("a.jpg 1\nb.jpg\n")
    with pytest.raises(DataError, match="not understood"):
        images(tmp_path / "list.txt")


def _manifest(root: Path, *entries: tuple[object, str, list[tuple[int, str]]]) -> Path:
    listed = [
        {"id": key, "file_path": path, "annotations": [{"class_id": number, "label": label} for number, label in notes]}
        for key, path, notes in entries
    ]
    (root / "m.json").write_text(json.dumps({"images": listed}))
    return root / "m.json"


def test_a_manifest_round_trip(tmp_path: Path) -> None:
    _files(tmp_path, "cat/1.jpg", "dog/2.jpg", "x/3.jpg")
    path = _manifest(tmp_path, (7, "cat/1.jpg", [(3, "cat")]), (8, "dog/2.jpg", [(1, "dog")]), (9, "x/3.jpg", []))
    table = images(path)
    assert table.labels.names == ("dog", "cat")
    assert table.label_array().tolist() == [1, 0, -1]
    write_manifest(table, tmp_path / "again.json")
    again = images(tmp_path / "again.json")
    assert again.frame.equals(table.frame)
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(path.read_text())
    with_splits = table.with_columns({"split": ["train", "test", None]})
    assert images(write_manifest(with_splits, tmp_path / "s.json").path).frame.equals(with_splits.frame)


def test_a_folder_that_disagrees_with_the_label_is_reported(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    _files(tmp_path, "data/train/cat/1.jpg", "data/train/dog/2.jpg", "data/train/cat/3.jpg")
    path = _manifest(
        tmp_path / "data",
        (1, "data/train/cat/1.jpg", [(0, "cat")]),
        (2, "data/train/dog/2.jpg", [(1, "dog")]),
        (3, "data/train/cat/3.jpg", [(1, "dog")]),
    )
    table = images(path)
    found = {finding.code: finding for finding in table.findings}
    assert found["folder_label_disagrees"].rows == ("data/train/cat/3.jpg",)
    assert table.read(0) == b"data/train/cat/1.jpg"


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([(1, "a.jpg", [(0, "x")]), (2, "b.jpg", [(0, "y")])], "class_id and label disagree"),
        ([(1, "a.jpg", [(0, "x")]), (2, "b.jpg", [(1, "x")])], "more than one class_id"),
        ([(1, "a.jpg", [(0, "x"), (1, "y")]), (2, "b.jpg", [(0, "x")])], "multi-label"),
        ([(1, "a.jpg", [(0, "x")]), (1, "b.jpg", [(0, "x")])], "id is given twice"),
        ([(1, "a.jpg", [(-1, "x")])], "class_id"),
        ([(1.5, "a.jpg", [(0, "x")])], "images.0.id"),
        ([], "images"),
    ],
)
def test_wrong_manifests_name_the_entry(
    tmp_path: Path, entries: list[tuple[object, str, list[tuple[int, str]]]], said: str
) -> None:
    _files(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(DataError) as error:
        images(_manifest(tmp_path, *entries), format="manifest")
    assert said in str(error.value)


@pytest.mark.parametrize("text", ['{"images": 3}', '{"images": [{"id": 1}]}', '{"images": [', '{"images": [], "x": 1}'])
def test_broken_manifests(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(SortalError):
        images(tmp_path / "m.json")


def test_the_manifest_has_a_json_schema() -> None:
    schema = Manifest.model_json_schema()
    assert schema["required"] == ["images"]
    assert set(schema["$defs"]) == {"Annotation", "Image"}


def test_paths_and_single_images(tmp_path: Path) -> None:
    _files(tmp_path, "a.jpg")
    assert images(tmp_path / "a.jpg").names() == ["a.jpg"]
    table = images([tmp_path / "a.jpg", str(tmp_path / "b.jpg"), tmp_path / "a.jpg"])
    assert table.names() == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]
    assert "duplicate_row" in _codes(table)
    with pytest.raises(DataError, match="empty sequence"):
        images([])


def test_unknown_files_and_formats(tmp_path: Path) -> None:
    (tmp_path / "x.docx").write_bytes(b"x")
    with pytest.raises(DataError, match="not a source of images"):
        images(tmp_path / "x.docx")
    with pytest.raises(SortalError, match="unknown dataset format"):
        images(tmp_path, format="coco-panoptic")


def test_a_source_that_may_not_be_read_is_a_machine_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _files(tmp_path, "a/1.jpg")

    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(MachineError, match="Permission denied"):
        images(tmp_path)


def test_class_lists_that_name_a_class_twice(tmp_path: Path) -> None:
    root = _grocery(tmp_path)
    text = (root / "dataset" / "classes.csv").read_text().replace("Gala", "Lime")
    (root / "dataset" / "classes.csv").write_text(text)
    with pytest.raises(DataError, match="given twice: Lime"):
        images(root)
