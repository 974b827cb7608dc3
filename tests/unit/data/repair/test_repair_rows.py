"""Tables, manifests and lists repaired: only the rows meant are different, and an undo gives the old file back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl
import pytest

from sortal.core.errors import DataError
from sortal.data.open import images
from sortal.data.repair.fix import preview, repair, take_back
from sortal.data.repair.resolve import named_classes
from trees import image_bytes, make, picture, plan_of

HEAD = "path,label,split,note\n"
ROWS = ['a/0.png,cat,train,"one, two"\n', "a/1.png,cat,val,\n", "a/2.png,dog,train,x\n", "a/3.png,cow,train,y\n"]
PLAN = (
    {"do": "quarantine", "image": "a/1.png"},
    {"do": "relabel", "image": "a/0.png", "from": "cat", "to": "dog"},
    {"do": "rename", "from": "cow", "to": "猫"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "photos", {"a": 5})


def _classes(path: Path, label: str = "label") -> dict[str, str | None]:
    return dict(named_classes(images(path, label=label)).iter_rows())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("separator", "ending"), [(",", "\n"), (";", "\r\n"), ("\t", "\n")])
def test_a_text_table_keeps_its_form(folder: Path, encoding: str, separator: str, ending: str) -> None:
    path = folder / "labels.csv"
    text = "".join([HEAD, *ROWS])
    given = text.replace('"one, two"', "one two").replace(",", separator).replace("\n", ending)
    path.write_bytes(given.encode(encoding))
    os.utime(path, ns=(10**18, 10**18))
    before = picture(folder)
    repair(path, plan_of(*PLAN))
    kept = [ROWS[0].replace("cat", "dog").replace('"one, two"', "one two"), ROWS[2], ROWS[3].replace("cow", "猫")]
    assert path.read_bytes().decode(encoding) == "".join([HEAD, *kept]).replace(",", separator).replace("\n", ending)
    assert _classes(path) == {"a/0.png": "dog", "a/2.png": "dog", "a/3.png": "猫"}
    _, undone = take_back(path, do=True)
    assert undone.kept == ()
    assert picture(folder) == before


def test_quoted_cells_survive(folder: Path) -> None:
    path = folder / "labels.csv"
    path.write_text("".join([HEAD, *ROWS]))
    repair(path, plan_of({"do": "drop", "image": "a/3.png"}))
    assert pl.read_csv(path)["note"].to_list() == ["one, two", None, "x"]


def test_image_files_of_a_table_stay(folder: Path) -> None:
    path = folder / "labels.csv"
    path.write_text("".join([HEAD, *ROWS]))
    repair(path, plan_of(*PLAN))
    assert sorted(path.name for path in (folder / "a").iterdir()) == [f"{number}.png" for number in range(5)]


def test_lines_of_json_that_do_not_change_stay_to_the_byte(folder: Path) -> None:
    path = folder / "labels.jsonl"
    lines = ['{"path": "a/0.png",  "label": "cat", "more": {"x": [1, 2]}}', "", '{"label":"cat","path":"a/1.png"}',
             '{"path":"a/2.png","label":"dog","n":1e3}', '{"path": "a/3.png", "label": "cow"}']  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    repair(path, plan_of(*PLAN))
    new = path.read_text().splitlines()
    assert json.loads(new[0]) == {"path": "a/0.png", "label": "dog", "more": {"x": [1, 2]}}
    assert new[1] == lines[3]
    assert json.loads(new[2]) == {"path": "a/3.png", "label": "猫"}
    take_back(path, do=True)
    assert path.read_text() == "\n".join(lines) + "\n"


def test_a_parquet_table_keeps_its_types(folder: Path) -> None:
    path = folder / "labels.parquet"
    frame = pl.DataFrame({"path": [f"a/{n}.png" for n in range(4)], "species": [3, 3, 7, 9], "w": [1.5, 2.5, 3.5, 4.5]})
    frame.write_parquet(path)
    plan = plan_of({"do": "relabel", "image": "a/0.png", "from": "3", "to": "7"}, {"do": "drop", "image": "a/3.png"})
    repair(path, plan, label="species")
    expected = frame.head(3).with_columns(species=pl.Series([7, 3, 7]))
    assert pl.read_parquet(path).equals(expected)
    with pytest.raises(DataError, match="cannot hold"):
        repair(path, plan_of({"do": "rename", "from": "3", "to": "three"}), label="species")


def test_regions_are_rows_of_their_own(folder: Path) -> None:
    path = folder / "labels.csv"
    path.write_text("path,label,x0,y0,x1,y1\na/0.png,cat,0,0,0.5,1\na/0.png,dog,0.5,0,1,1\na/1.png,dog,,,,\n")
    names = images(path).names()
    repair(path, plan_of({"do": "quarantine", "image": names[1]}))
    assert images(path).names() == [names[0], names[2]]


def test_a_table_changed_since_the_repair_is_not_overwritten(folder: Path) -> None:
    path = folder / "labels.csv"
    path.write_text("".join([HEAD, *ROWS]))
    repair(path, plan_of(*PLAN))
    path.write_text("".join([HEAD, *ROWS, "a/4.png,cow,train,z\n"]))
    _, undone = take_back(path, do=True)
    assert [place for place, _ in undone.kept] == ["labels.csv"]
    assert "z" in path.read_text()


def test_a_table_without_labels_cannot_be_relabeled(folder: Path) -> None:
    path = folder / "names.csv"
    path.write_text("path\na/0.png\na/1.png\n")
    repair(path, plan_of({"do": "drop", "image": "a/0.png"}))
    assert images(path).names() == ["a/1.png"]
    with pytest.raises(DataError):
        repair(path, plan_of({"do": "drop", "image": "a/1.png"}))


def _manifest(folder: Path) -> Path:
    path = folder / "manifest.json"
    labels = {0: (4, "cat"), 1: (4, "cat"), 2: (2, "dog"), 3: (9, "cow"), 4: None}
    notes = {
        number: [dict(zip(("class_id", "label"), found, strict=True))] for number, found in labels.items() if found
    }
    entries = [{"id": n, "file_path": f"a/{n}.png", "annotations": notes.get(n, [])} for n in labels]
    path.write_text(json.dumps({"images": entries}))
    return path


def test_a_manifest_keeps_its_class_ids(folder: Path) -> None:
    path = _manifest(folder)
    old = path.read_bytes()
    repair(path, plan_of(*PLAN, {"do": "drop", "image": "a/4.png"}))
    found = {entry["id"]: entry["annotations"] for entry in json.loads(path.read_text())["images"]}
    assert found == {
        0: [{"class_id": 2, "label": "dog"}],
        2: [{"class_id": 2, "label": "dog"}],
        3: [{"class_id": 9, "label": "猫"}],
    }
    take_back(path, do=True)
    assert path.read_bytes() == old


def test_a_merged_class_of_a_manifest_has_one_id(folder: Path) -> None:
    path = _manifest(folder)
    repair(path, plan_of({"do": "merge", "classes": ["cat", "dog"], "to": "pet"}))
    assert _classes(path) == {"a/0.png": "pet", "a/1.png": "pet", "a/2.png": "pet", "a/3.png": "cow", "a/4.png": None}


def _lists(folder: Path, *, named: bool) -> Path:
    (folder / "train.txt").write_text("a/0.png, 5, 1\na/1.png, 5, 1\na/2.png, 6, 2\n")
    (folder / "val.txt").write_text("a/3.png, 6, 2\na/4.png, 5, 1\n")
    if named:
        (folder / "classes.csv").write_text(
            "class name,class id,coarse class name,coarse class id\ncat,5,A,1\ndog,6,B,2\n"
        )
    return folder


def test_lists_are_edited_line_by_line(folder: Path) -> None:
    source = _lists(folder, named=True)
    before = picture(folder)
    plan = plan_of(
        {"do": "drop", "image": "a/1.png"},
        {"do": "relabel", "image": "a/4.png", "from": "cat", "to": "dog"},
    )
    repair(source, plan)
    assert (folder / "train.txt").read_text() == "a/0.png, 5, 1\na/2.png, 6, 2\n"
    assert (folder / "val.txt").read_text() == "a/3.png, 6, 2\na/4.png, 6, 2\n"
    take_back(source, do=True)
    assert picture(folder) == before
    with pytest.raises(DataError, match="its id is not known"):
        repair(source, plan_of({"do": "rename", "from": "cat", "to": "lion"}))
    assert picture(folder) == before


def test_ids_that_are_the_names_can_be_renamed(folder: Path) -> None:
    (folder / "train.txt").write_text("a/0.png cat\na/1.png  dog\n")
    repair(folder, plan_of({"do": "rename", "from": "dog", "to": "hound"}))
    assert (folder / "train.txt").read_text() == "a/0.png cat\na/1.png  hound\n"


@pytest.mark.parametrize("name", ["a.zip", "a.npz"])
def test_what_cannot_be_changed_in_place_is_refused_with_a_way_out(tmp_path: Path, name: str) -> None:
    import zipfile

    import numpy as np

    path = tmp_path / name
    if name.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("cat/0.png", image_bytes(0))
            archive.writestr("dog/0.png", image_bytes(1))
    else:
        np.savez(path, images=np.zeros((2, 8, 8), np.uint8), labels=np.array([0, 1]))
    with pytest.raises(DataError, match="sortal convert"):
        preview(path, plan_of({"do": "drop", "image": images(path).names()[0]}))
