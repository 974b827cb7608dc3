"""One contract for every dataset format: it knows its own sources and no others, what it reads is a sound table, and
where it can be written, what it wrote reads back to the same data set.
"""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import annotated
from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.data.boxes import BOX
from sortal.data.convert import FILES, convert
from sortal.data.formats import FORMATS, WRITABLE
from sortal.data.formats.options import ReadOptions
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import ImageTable, build_table


def _pictures(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5, 3), number, np.uint8)).save(root / name)
    return root


def _cifar(root: Path) -> Path:
    (root / "batches.meta.txt").write_text("".join(f"c{number}\n" for number in range(10)))
    for number, name in enumerate([*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]):
        (root / name).write_bytes(
            bytes([number % 2]) + bytes([number]) * 3072 + bytes([1 - number % 2]) + bytes([9]) * 3072
        )
    return root


def _mnist(root: Path) -> Path:
    pixels, labels = np.arange(32, dtype=np.uint8), bytes([0, 1])
    (root / "train-images-idx3-ubyte").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2, 4, 4) + pixels.tobytes())
    (root / "train-labels-idx1-ubyte").write_bytes(struct.pack(">HBB1I", 0, 8, 1, 2) + labels)
    return root


def _npz(root: Path) -> Path:
    np.savez(root / "a.npz", images=np.arange(48, dtype=np.uint8).reshape(3, 4, 4), labels=[0, 1, 0])
    return root / "a.npz"


def _manifest(root: Path) -> Path:
    _pictures(root, "a.png", "b.png")
    entry = [
        {"id": n, "file_path": f"{c}.png", "annotations": [{"class_id": n, "label": c}]} for n, c in enumerate("ab")
    ]
    (root / "m.json").write_text(json.dumps({"images": entry}))
    return root / "m.json"


def _table(root: Path) -> Path:
    _pictures(root, "a.png", "b.png")
    (root / "t.csv").write_text("path,label\na.png,x\nb.png,y\n")
    return root / "t.csv"


def _list(root: Path) -> Path:
    _pictures(root, "a.png", "b.png")
    (root / "train.txt").write_text("a.png 0\nb.png 1\n")
    return root


def _imagenet(root: Path) -> Path:
    (root / "synset_words.txt").write_text("n01 one\nn02 two\n")
    return _pictures(root, "n01/a.png", "n02/b.png")


def _folders(root: Path) -> Path:
    _pictures(root, "p/a/1.png", "p/b/2.png")
    with zipfile.ZipFile(root / "p.zip", "w") as archive:
        for file in sorted((root / "p").rglob("*.png")):
            archive.write(file, file.relative_to(root))
    return root / "p.zip"


def _image(root: Path) -> Path:
    return _pictures(root, "a.png") / "a.png"


SOURCES: dict[str, Callable[[Path], Path]] = {
    "cifar": _cifar,
    "mnist": _mnist,
    "npz": _npz,
    "labelstudio": annotated.labelstudio,
    "coco": annotated.coco,
    "manifest": _manifest,
    "cvat": annotated.cvat,
    "voc": annotated.voc,
    "imagefolder": annotated.imagefolder,
    "yolo": annotated.yolo,
    "table": _table,
    "list": _list,
    "imagenet": _imagenet,
    "folders": _folders,
    "image": _image,
}


def test_every_format_has_a_source_here() -> None:
    assert set(SOURCES) == set(FORMATS.table)


@pytest.mark.parametrize("name", list(FORMATS.table))
def test_the_source_is_recognized_and_read(name: str, tmp_path: Path) -> None:
    source = SOURCES[name](tmp_path)
    member = FORMATS.get(name)
    assert member.sniff(source)
    table = member.read(source, ReadOptions())
    assert isinstance(table, ImageTable)
    assert len(set(table.names())) == len(table) > 0
    assert table.root is not None
    assert all(table.path(row).is_file() for row in range(len(table)))
    assert images(source).listing_digest == table.listing_digest
    seen = scan(table)
    assert len(seen) == len(table)
    assert set(seen.frame["_height"]) <= {4, 20, 32}


@pytest.mark.parametrize("name", list(FORMATS.table))
def test_sniffing_never_raises(name: str, tmp_path: Path) -> None:
    sniff = FORMATS.get(name).sniff
    odd = [tmp_path / "absent.csv", tmp_path, Path("/dev/null")]
    for suffix in ("csv", "json", "npz", "zip", "tar", "tar.gz", "txt", "png", "bin"):
        odd.append(tmp_path / f"x.{suffix}")
        odd[-1].write_bytes(b"\xff\x00 rubbish")
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.csv").mkdir()
    for path in (*odd, tmp_path / "folder.csv"):
        assert sniff(path) in (True, False)


@pytest.mark.parametrize("name", ["cvat", "coco", "voc", "yolo", "imagefolder"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_annotations_inside_an_archive_are_read_in_place(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    SOURCES[name](tmp_path / "set")
    plain = scan(images(tmp_path / "set"))
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path / "set"))
    table = scan(images(packed))
    assert FORMATS.get(name).sniff(packed)
    assert table.content_digest == plain.content_digest
    assert table.frame["member"].null_count() == 0
    shutil.make_archive(str(tmp_path / "wrapped"), kind, tmp_path, "set")
    assert scan(images(tmp_path / f"wrapped.{kind}")).content_digest == plain.content_digest


@pytest.mark.parametrize("name", ["cvat", "coco", "voc", "labelstudio", "imagefolder"])
def test_rubbish_where_annotations_should_be_is_a_clear_error(name: str, tmp_path: Path) -> None:
    for suffix, content in ((".xml", "<a>"), (".json", "[1, 2"), (".json", "{}"), (".xml", "<b/>"), (".json", "[]")):
        path = tmp_path / f"x{suffix}"
        path.write_text(content)
        with pytest.raises(DataError):
            FORMATS.get(name).read(path, ReadOptions())


WIDTH, HEIGHT = annotated.WIDTH, annotated.HEIGHT
NAMES = (
    "一 二.png",
    "O'Neil & <son>.png",
    'say "hi".png',
    "sub/a.png",
    "sub2/a.png",
    "A.png",
    "плата;1.png",
    "a b.jpeg",
)
TEXTS = st.sampled_from(["cat", "猫", "a & b", "<i>", "O'Neil", 'in "quotes"', "ß ñ", "10", "9", "x y"])
SHARES = st.integers(0, 10**6).map(lambda value: value / 10**6)


@st.composite
def _boxes(draw: st.DrawFn, *, whole: bool) -> list[float]:
    """Corners of a box, of whole pixels or anywhere."""
    if whole:
        x = sorted(draw(st.lists(st.integers(0, WIDTH), min_size=2, max_size=2, unique=True)))
        y = sorted(draw(st.lists(st.integers(0, HEIGHT), min_size=2, max_size=2, unique=True)))
        return [x[0] / WIDTH, y[0] / HEIGHT, x[1] / WIDTH, y[1] / HEIGHT]
    floats = st.floats(1e-4, 1.0, width=64)
    x2 = sorted(draw(st.lists(floats, min_size=2, max_size=2, unique=True)))
    y2 = sorted(draw(st.lists(floats, min_size=2, max_size=2, unique=True)))
    return [x2[0], y2[0], x2[1], y2[1]]


@st.composite
def _rows(draw: st.DrawFn, *, boxed: bool, whole: bool) -> pl.DataFrame:
    """Some of NAMES with a split or none at all; each with one class, or with boxes of several."""
    chosen = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    split = draw(st.booleans())
    rows: list[dict[str, Any]] = []
    for name in chosen:
        part = draw(st.sampled_from(["train", "val", "test"])) if split else None
        regions = draw(st.lists(_boxes(whole=whole), min_size=1, max_size=3, unique_by=tuple)) if boxed else [None]
        grades = st.one_of(st.none(), st.integers(1, 5))
        rows += [{"uri": name, "split": part, "text": draw(TEXTS), "region": r, "grade": draw(grades)} for r in regions]
    schema = {"uri": pl.String, "split": pl.String, "text": pl.String, "region": BOX, "grade": pl.Int64}
    return pl.DataFrame(rows, schema=schema)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gallery")
    for number, name in enumerate(NAMES):
        annotated.picture(root / name, number)
    return root


def _table_of(root: Path, rows: pl.DataFrame) -> ImageTable:
    names = sorted(set(rows["text"]))
    label = rows["text"].replace_strict(names, list(range(len(names))), return_dtype=pl.Int64)
    frame = rows.drop("text").with_columns(label=label, box="region")
    return build_table(frame, labels=LabelSet(names=tuple(names)), source="a test", root=root)


def _written(table: ImageTable, to: str, folder: Path, **asked: Any) -> ImageTable:
    """The table after one round through a format."""
    suffix = {"csv": ".csv", "cvat": ".xml"}.get(to, ".json") if to in FILES else ""
    out = folder / f"出 out{suffix}"
    convert(table, to, out, **asked)
    back = images(out)
    assert images(out, format=WRITABLE[to]).listing_digest == back.listing_digest
    return scan(back)


def _facts(table: ImageTable) -> list[tuple[Any, ...]]:
    """Content, class, split and, as text, box and grade of every row."""
    names = [*table.labels.names, None]
    frame = table.frame
    grade = frame["grade"] if "grade" in frame.columns else pl.Series([None] * len(table))
    values = zip(frame["digest"], frame["label"], frame["split"], frame["region"].to_list(), grade, strict=True)
    return sorted(
        (digest, names[label], split or "", str(region), str(grade)) for digest, label, split, region, grade in values
    )


WITH_BOXES = ("csv", "coco", "cvat", "labelstudio", "yolo", "voc")
WITH_TAGS = ("folder", "csv", "coco", "cvat", "labelstudio", "manifest", "imagefolder")
WITHOUT_GRADES = ("folder", "manifest", "yolo")
QUICK = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def test_every_format_that_can_be_written_takes_the_round() -> None:
    assert {*WITH_BOXES, *WITH_TAGS} == set(WRITABLE)
    for name in WRITABLE.values():
        assert callable(FORMATS.get(name).can_hold)


@pytest.mark.parametrize("to", WITH_TAGS)
@QUICK
@given(rows=_rows(boxed=False, whole=True), images=st.sampled_from(["refer", "copy", "link"]))
def test_classes_of_images_survive_a_round(to: str, gallery: Path, rows: pl.DataFrame, images: Any) -> None:
    rows = rows.with_columns(grade=pl.lit(None, pl.Int64)) if to in WITHOUT_GRADES else rows
    table = scan(_table_of(gallery, rows))
    with tempfile.TemporaryDirectory() as folder:
        back = _written(table, to, Path(folder), images=images)
        assert back.content_digest == table.content_digest
        assert _facts(back) == _facts(table)


@pytest.mark.parametrize("to", WITH_BOXES)
@QUICK
@given(data=st.data())
def test_boxes_survive_a_round(to: str, gallery: Path, data: st.DataObject) -> None:
    rows = data.draw(_rows(boxed=True, whole=to == "voc"))
    rows = rows.with_columns(grade=pl.lit(None, pl.Int64)) if to in WITHOUT_GRADES else rows
    table = scan(_table_of(gallery, rows))
    with tempfile.TemporaryDirectory() as folder:
        back = _written(table, to, Path(folder))
        assert back.content_digest == table.content_digest
        assert _facts(back) == _facts(table)
        assert back.frame["box"].to_list() == back.frame["region"].to_list()


@pytest.mark.parametrize("to", list(WRITABLE))
def test_what_is_there_is_kept_unless_asked(to: str, gallery: Path, tmp_path: Path) -> None:
    rows = pl.DataFrame({"uri": ["A.png"], "text": ["x"], "split": [None], "region": [[0.0, 0.0, 0.5, 0.5]]})
    table = _table_of(gallery, rows.cast({"region": BOX, "split": pl.String}))
    table = table if to in WITH_BOXES else table.with_columns({"region": pl.Series([None], dtype=BOX)}).with_columns({})
    out = tmp_path / ("there" + (FILES[to].split(",")[0].split(" ")[0] if to in FILES else ""))
    out.write_text("mine")
    with pytest.raises(DataError, match="not overwritten"):
        convert(table, to, out)
    assert out.read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [out.name]
    convert(table, to, out, replace=True)
    assert out.is_dir() or out.read_text() != "mine"
    assert len(images(out)) == 1


@pytest.mark.parametrize("to", [name for name in WRITABLE if name != "csv"])
def test_images_of_an_archive_become_files(to: str, gallery: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    annotated.voc(tmp_path / "set")
    packed = shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "set")
    table = images(packed)
    suffix = "" if to not in FILES else ".xml" if to == "cvat" else ".json"
    report = convert(table, to, tmp_path / f"out{suffix}")
    assert report.metrics["rows written"].value == 3
    back = scan(images(tmp_path / f"out{suffix}"))
    if to in WITH_BOXES:
        assert back.content_digest == scan(table).content_digest
    else:
        assert sorted(zip(back.frame["_width"], back.frame["_height"], strict=True)) == [(10, 10), (10, 20), (20, 10)]
